"""When a run ends before its last step: a bad loss, a reached target, no progress any more."""

import collections
import math
from collections.abc import Iterable

from absl import logging

from slim_inception.nets import checkpoints
from slim_inception.train.config import EvaluationConfig, RunConfig
from slim_inception.train.plan import Plan
from slim_inception.train.progress import read_metrics
from slim_inception.train.train_state import TrainState, read_counters

# A loss beyond this many times ln(classes), which is that of a net that knows nothing, is lost.
_EXPLODED = 1000.0
_MOST_ROLLBACKS = 3  # from one checkpoint


class Recovery:
  """What is done when the loss is not finite or explodes: stop, or go back and skip the batches."""

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
      ValueError: it may not, there is none, or going back to it has not helped.
    """
    latest = checkpoints.latest(self._config.train_dir)
    what = f'{problem} at step {step} (learning rate {rate:.3g})'
    advice = 'try a smaller --learning_rate or --clip_gradient_norm=2'
    if self._config.on_nan == 'stop' or latest is None:
      more = '; --on_nan=rollback goes back there and skips these batches' if latest else ''
      raise ValueError(f'{what}: {advice}; the last good checkpoint is {latest}{more}')
    self._rollbacks[latest] += 1
    if self._rollbacks[latest] > _MOST_ROLLBACKS:
      raise ValueError(
        f'{what}, and went back to {latest} {_MOST_ROLLBACKS} times without help: {advice}'
      )
    state.restore(latest)
    logging.warning('%s: going back to %s and skipping the batches since', what, latest)
    return read_counters(latest, self._plan.global_batch_size).step


class EvaluationHistory:
  """The top-1 accuracies of a run so far, for the best and for stopping early."""

  def __init__(self, entries: Iterable[tuple[int, float]] = ()):
    self._entries = list(entries)  # step, top-1

  @classmethod
  def read(cls, train_dir: str, step: int) -> 'EvaluationHistory':
    """Of the evaluations that metrics.jsonl has up to a step: a resumed run goes on counting."""
    return cls(
      (entry['step'], entry['eval_top_1'])
      for entry in read_metrics(train_dir)
      if 'eval_top_1' in entry and entry['step'] <= step
    )

  def add(self, step: int, top_1: float) -> bool:
    """Whether this is the best so far."""
    is_best = top_1 > max((value for _, value in self._entries), default=-1.0)
    self._entries.append((step, top_1))
    return is_best

  def reason_to_stop(self, config: EvaluationConfig) -> str:
    """'' where there is none."""
    values = [value for _, value in self._entries]
    if config.stop_at_top_1 is not None and values[-1] >= config.stop_at_top_1:
      return f'top-1 {values[-1]:.4f} has reached --stop_at_top_1={config.stop_at_top_1}'
    best = values.index(max(values))
    if config.patience is not None and len(values) - 1 - best >= config.patience:
      return (
        f'{config.patience} evaluations without a top-1 better than {values[best]:.4f} '
        f'of step {self._entries[best][0]} (--patience)'
      )
    return ''
