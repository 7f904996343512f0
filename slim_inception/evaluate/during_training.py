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
  if not config.evaluation.eval_interval_epochs:
    return None
  net = nets_factory.get_net(config.model.model_name)
  member = Member(
    config.run.train_dir,
    config.model.model_name,
    config.model.depth_multiplier,
    config.augment.preprocessing_name or config.model.model_name,
    config.model.train_image_size or net.default_image_size,
    config.data.labels_offset,
    weights='auto',
    share=1.0,
    input_channels=config.model.input_channels,
  )
  evaluation = Evaluation(
    Request(
      EvalConfig(
        dataset_name=config.data.dataset_name,
        dataset_split_name=config.evaluation.eval_split_name,
        dataset_dir=config.data.dataset_dir,
        loss=config.loss.loss,
        batch_size=config.batch.batch_size,
        precision='float32' if config.devices.precision == 'float16' else config.devices.precision,
        num_preprocessing_threads=config.data.num_preprocessing_threads,
      ),
      (member,),
    )
  )

  def evaluate(prefix: str) -> dict[str, float]:
    metrics = evaluation.evaluate([prefix]).metrics
    return {name: metrics[name] for name in _REPORTED}

  return evaluate
