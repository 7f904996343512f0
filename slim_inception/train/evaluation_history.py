"""The evaluations of a run so far: which was the best, and whether it is time to stop."""

import os
from collections.abc import Iterable

from slim_inception.constants import BEST_FOLDER
from slim_inception.nets import checkpoint_files
from slim_inception.train.flag_groups import EvaluationConfig
from slim_inception.train.progress import read_metrics


class EvaluationHistory:
  """The top-1 accuracies of a run so far, for the best and for stopping early.

  Args:
    entries: (step, top-1).
    is_best_kept: whether the best checkpoint of these is; if not, the best is one of those to come.
  """

  def __init__(self, entries: Iterable[tuple[int, float]] = (), is_best_kept: bool = True):
    self._entries = list(entries)
    self._first = 0 if is_best_kept else len(self._entries)

  @classmethod
  def read(cls, train_dir: str, step: int) -> 'EvaluationHistory':
    """Of the evaluations that metrics.jsonl has up to a step: a resumed run goes on counting.

    A best checkpoint of a later step is of a branch that was left, see `checkpoint_files.of_run`.
    """
    best = os.path.join(train_dir, BEST_FOLDER)
    kept = checkpoint_files.of_run(best) if os.path.isdir(best) else []
    return cls(
      (
        (entry['step'], entry['eval_top_1'])
        for entry in read_metrics(train_dir)
        if 'eval_top_1' in entry and entry['step'] <= step
      ),
      is_best_kept=all((checkpoint_files.step_of(prefix) or 0) <= step for prefix in kept),
    )

  def add(self, step: int, top_1: float) -> bool:
    """Whether this is the best so far."""
    is_best = top_1 > max((value for _, value in self._entries[self._first :]), default=-1.0)
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
