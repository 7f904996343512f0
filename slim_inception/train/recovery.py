"""What is done when the loss is not finite or explodes: stop, or go back and skip the batches."""

import collections
import math

from absl import logging

from slim_inception.nets import checkpoint_files
from slim_inception.train.flag_groups import RunConfig
from slim_inception.train.plan import Plan
from slim_inception.train.train_state import TrainState, read_counters

# A loss beyond this many times ln(classes), which is that of a net that knows nothing, is lost.
_EXPLODED = 1000.0
_MOST_ROLLBACKS = 3  # from one checkpoint


class DivergedError(ValueError):
  """The loss, or a weight, is not finite or explodes, and the run does not go back any more.

  Args:
    message: says so.
    step: after which.
  """

  def __init__(self, message: str, step: int):
    super().__init__(message)
    self.step = step


class Recovery:
  """Looks at losses and weights, and goes back to the last checkpoint by --on_nan.

  Args:
    config: the flags of the run.
    plan: of the run.
  """

  def __init__(self, config: RunConfig, plan: Plan):
    self._config = config
    self._plan = plan
    self._limit = _EXPLODED * math.log(max(2, plan.num_classes))
    self._rollbacks: collections.Counter[str] = collections.Counter()

  def problem(self, loss: float, state: TrainState, is_to_be_saved: bool) -> str:
    """'' if the loss is as it should be; and the weights, which are looked at before saving."""
    if not (math.isfinite(loss) and loss < self._limit):
      return f'The loss is {loss:.4g}'
    # The loss is that of before the update: a gradient that overflows does not show in it.
    return '' if not is_to_be_saved or state.is_finite() else 'Weights are not finite'

  def go_back(self, state: TrainState, step: int, rate: float, problem: str) -> int:
    """Restores the last checkpoint, if the run may; returns its step.

    Raises:
      DivergedError: it may not, there is none, or going back to it has not helped.
    """
    latest = checkpoint_files.latest(self._config.train_dir)
    what = f'{problem} at step {step} (learning rate {rate:.3g})'
    advice = 'try a smaller --learning_rate or --clip_gradient_norm=2'
    if self._config.on_nan == 'stop' or latest is None:
      more = '; --on_nan=rollback goes back there and skips these batches' if latest else ''
      raise DivergedError(f'{what}: {advice}; the last good checkpoint is {latest}{more}', step)
    self._rollbacks[latest] += 1
    if self._rollbacks[latest] > _MOST_ROLLBACKS:
      raise DivergedError(
        f'{what}, and went back to {latest} {_MOST_ROLLBACKS} times without help: {advice}', step
      )
    state.restore(latest)
    logging.warning('%s: going back to %s and skipping the batches since', what, latest)
    return read_counters(latest, self._plan.global_batch_size).step
