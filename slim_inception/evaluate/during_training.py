"""Evaluation of a run's checkpoints by the run itself."""

from slim_inception import choices, flags
from slim_inception.evaluate import views
from slim_inception.evaluate.config import (
  ComputeConfig,
  EnsembleRequest,
  EvalConfig,
  Member,
  Request,
)
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.train import image_sizes, start
from slim_inception.train.augmentation import make_augmentation
from slim_inception.train.config import Config
from slim_inception.train.loop import Evaluate

_REPORTED = ('num_images', 'top_1', 'top_5', 'mean_average_precision')


def evaluator_of(config: Config) -> Evaluate | None:
  """What evaluates the checkpoints of a run; None where the run does not ask for it.

  It has a net of its own, on the first device, and takes the averaged weights where there are any.

  Raises:
    ValueError, OSError: there is no such split, which is said before the run begins.
  """
  if not config.evaluation.eval_interval_epochs:
    return None
  config = start.of_checkpoint(config)
  data = config.data
  size = config.evaluation.eval_image_size or image_sizes.image_size(config.model)
  preprocessing = make_augmentation(config).preprocessing
  member = Member(
    config.run.train_dir,
    config.model.model_name,
    views.make_spec(preprocessing, size),
    config.model.depth_multiplier,
    data.labels_offset,
    activation_scale=config.model.activation_scale,
    padding=config.model.padding,
  )
  precision = config.devices.precision
  request = EnsembleRequest(
    (member,),
    loss=choices.probabilities_of(config.loss.loss),
    compute=ComputeConfig(
      batch_size=config.batch.batch_size,
      precision='float32' if precision == 'float16' else precision,
      num_preprocessing_threads=data.num_preprocessing_threads,
    ),
  )
  eval_config = flags.build(
    EvalConfig,
    {
      'checkpoint_path': [config.run.train_dir],
      'dataset_name': data.dataset_name,
      'dataset_split_name': config.evaluation.eval_split_name,
      'dataset_dir': data.records_dirs[0],
      'loss': choices.probabilities_of(config.loss.loss),
    },
  )
  evaluation = Evaluation(Request(eval_config, request))

  def evaluate(prefix: str) -> dict[str, float]:
    outcome = evaluation.evaluate([prefix])
    assert outcome  # this process is the only one
    return {n: outcome.metrics[n] for n in _REPORTED if outcome.metrics.get(n) is not None}

  return evaluate
