"""Evaluation of a run's checkpoints by the run itself."""

from evaluation.config import EvalConfig
from evaluation.evaluator import Evaluation
from nets import nets_factory
from training.config import Config
from training.loop import Evaluate

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
  evaluation = Evaluation(
    EvalConfig(
      checkpoint_path=config.train_dir,
      dataset_name=config.dataset_name,
      dataset_split_name=config.eval_split_name,
      dataset_dir=config.dataset_dir,
      labels_offset=config.labels_offset,
      loss=config.loss,
      model_name=config.model_name,
      depth_multiplier=config.depth_multiplier,
      preprocessing_name=config.preprocessing_name,
      eval_image_size=config.train_image_size or net.default_image_size,
      batch_size=config.batch_size,
      precision='float32' if config.precision == 'float16' else config.precision,
      num_preprocessing_threads=config.num_preprocessing_threads,
    )
  )

  def evaluate(prefix: str) -> dict[str, float]:
    metrics, _ = evaluation.evaluate(prefix)
    return {name: metrics[name] for name in _REPORTED}

  return evaluate
