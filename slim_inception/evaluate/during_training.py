"""Evaluation of a run's checkpoints by the run itself."""

from slim_inception.evaluate.config import EvalConfig, Member, Request
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.nets import nets_factory
from slim_inception.train.config import Config
from slim_inception.train.loop import Evaluate

_REPORTED = ('num_images', 'top_1', 'top_5')


def evaluator_of(config: Config) -> Evaluate | None:
  """What evaluates the checkpoints of a run; None where the run does not ask for it.

  It has a net of its own, on the first device, and takes the averaged weights where there are any.

  Raises:
    ValueError, OSError: there is no such split, which is said before the run begins.
  """
  if not config.eval_interval_epochs:
    return None
  net = nets_factory.get_net(config.model_name)
  member = Member(
    config.train_dir,
    config.model_name,
    config.depth_multiplier,
    config.preprocessing_name or config.model_name,
    config.train_image_size or net.default_image_size,
    config.labels_offset,
    weights='auto',
    share=1.0,
    input_channels=config.input_channels,
  )
  evaluation = Evaluation(
    Request(
      EvalConfig(
        dataset_name=config.dataset_name,
        dataset_split_name=config.eval_split_name,
        dataset_dir=config.dataset_dir,
        loss=config.loss,
        batch_size=config.batch_size,
        precision='float32' if config.precision == 'float16' else config.precision,
        num_preprocessing_threads=config.num_preprocessing_threads,
      ),
      (member,),
    )
  )

  def evaluate(prefix: str) -> dict[str, float]:
    metrics = evaluation.evaluate([prefix]).metrics
    return {name: metrics[name] for name in _REPORTED}

  return evaluate
