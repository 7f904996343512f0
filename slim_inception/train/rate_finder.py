"""A learning rate by a test of its range: a few steps, each with a larger one.

"Cyclical Learning Rates for Training Neural Networks" (arXiv:1506.01186, section 3.3): while the
rate rises the loss falls, the faster the better the rate, until the loss rises as well.
"""

import dataclasses
import math
import tempfile

import numpy as np
import tensorflow as tf

from slim_inception import flags
from slim_inception.cluster import make_cluster
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.input import pipeline as input_pipeline
from slim_inception.train import run_input, schedules, start, trainer
from slim_inception.train.config import Config

LOWEST, HIGHEST = 1e-6, 10.0
WINDOW = 11  # steps over which the loss is averaged
_LATEST = 5  # steps whose mean loss decides on the end
_LOST = 4.0  # times the least such mean


@dataclasses.dataclass(frozen=True)
class RateCurve:
  """What the steps gave.

  Attributes:
    rates: [steps] of the learning rate, rising; as of --learning_rate.
    losses: [steps] of each step, before its update.
  """

  rates: np.ndarray
  losses: np.ndarray

  @property
  def smoothed(self) -> np.ndarray:
    """[steps], the mean loss of the steps around each, at the ends of fewer."""
    return smooth(self.losses, WINDOW)

  def suggest(self) -> float | None:
    """The rate at which the smoothed loss falls fastest by the logarithm; None: it does not fall.

    What follows the least loss does not count.
    """
    losses = self.smoothed
    least = int(losses.argmin())
    if least == 0:
      return None
    slopes = np.gradient(losses, np.log(self.rates))[: least + 1]
    return float(self.rates[slopes.argmin()]) if slopes.min() < 0 else None

  def describe(self) -> str:
    """A line on what to try."""
    suggested = self.suggest()
    if suggested is None:
      return 'the loss does not fall at any learning rate: there is nothing to suggest'
    least = self.rates[self.smoothed.argmin()]
    return (
      f'try --learning_rate={suggested:.2g}: there the loss falls fastest; it is least at '
      f'{least:.2g}. A few steps tell this; over a run another rate may be better'
    )


def find(config: Config) -> RateCurve:
  """Trains with rising learning rates, in a folder that vanishes; train_dir is not looked at.

  It begins where a new run does: with fresh weights or --checkpoint_path, all layers at once
  (without --head_epochs). It ends when the loss is not finite or four times its least.

  Args:
    config: of the run that the rate is for.

  Raises:
    ValueError, OSError: a flag, the data or a checkpoint is not as it should be; there are several
      workers, or too few steps before the loss is lost.
  """
  steps = config.run.find_learning_rate_steps
  rates = np.geomspace(LOWEST, HIGHEST, steps)
  with tempfile.TemporaryDirectory(prefix='learning-rate-') as folder:
    config = flags.replace(
      config,
      train_dir=folder,
      head_epochs=0.0,
      num_epochs=None,
      max_number_of_steps=steps,
      eval_interval_epochs=None,
      stop_at_top_1=None,
      patience=None,
    )
    losses = _losses(start.of_checkpoint(config), rates)
  finite = np.isfinite(losses)
  if finite.sum() < WINDOW:
    raise ValueError(
      f'The loss is {losses[-1]:.4g} after {len(losses)} steps, at a learning rate of '
      f'{rates[len(losses) - 1]:.3g}: that says nothing of rates'
    )
  return RateCurve(rates[: len(losses)][finite], np.array(losses)[finite])


def _losses(config: Config, rates: np.ndarray) -> list[float]:
  """The loss of each step, until it is lost."""
  cluster = make_cluster(config.devices.num_clones, config.devices.clone_on_cpu)
  if cluster.count > 1:
    raise ValueError('--find_learning_rate is for one process: unset TF_CONFIG')
  dataset = run_input.open_dataset(config.data)
  num_classes = input_pipeline.check_labels(dataset, config.data.labels_offset)
  losses: list[float] = []
  with trainer.explaining_errors(config, dataset, cluster):
    run = trainer.make_run(config, dataset, num_classes, cluster, None)
    assert run  # a folder that was empty is at step 0
    stage = run.plan.stages[0]
    own = run.at(stage)
    batches = own.batches.start_at(0)
    with ProgressBar('Trying learning rates', len(rates), 'steps') as bar:
      for step, rate in enumerate(bar.track(rates)):
        schedule = dataclasses.replace(config.schedule, learning_rate=float(rate))
        scaled = schedules.scaled(schedule, stage.global_batch_size).learning_rate
        result = own.step_after(step)(
          next(batches), tf.constant(step, tf.int64), tf.constant(scaled, tf.float32)
        )
        losses.append(float(result.metrics['loss']))
        if is_lost(losses):
          break
  return losses


def is_lost(losses: list[float]) -> bool:
  """Whether the loss is not finite, or its latest mean far above the least."""
  if not math.isfinite(losses[-1]):
    return True
  if len(losses) < 2 * _LATEST:
    return False
  means = np.convolve(losses, np.full(_LATEST, 1 / _LATEST), 'valid')
  return bool(means[-1] > _LOST * means.min())


def smooth(values: np.ndarray, window: int) -> np.ndarray:
  """The mean of the `window` values around each, of those that there are."""
  ones = np.ones(window)
  return np.convolve(values, ones, 'same') / np.convolve(np.ones(len(values)), ones, 'same')
