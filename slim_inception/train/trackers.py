"""--log: a run's figures in Weights & Biases or MLflow, beside metrics.jsonl and TensorBoard.

Where they go is what their own environment variables say (WANDB_PROJECT, WANDB_MODE, ...,
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME). The run's id there stands in train_dir/tracker.json,
so that a run that is started again goes on in the same one.
"""

import importlib
import logging as logging_module
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypedDict

from absl import logging

from slim_inception import constants, files, flags
from slim_inception.train import events

_PROJECT = 'slim-inception'  # where the environment names no project or experiment


class Tracker(Protocol):
  """What follows a run, once it is made with its configuration."""

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    """Takes the finite figures of a step, or of an evaluation after it (`eval_...`).

    Steps can come twice: a run that was killed, or goes back, does them again.
    """

  def finish(self, status: str) -> None:
    """Ends it: `events.FINISHED`, `INTERRUPTED` or `FAILED`."""


class NoTracker:
  """Follows nothing."""

  def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

  def finish(self, status: str) -> None: ...


class Wandb:
  """A run of Weights & Biases, whose files lie in train_dir/wandb.

  Args:
    train_dir: of the run; its last part is the name.
    config: {flag or fact: value}.
    run_id: of the run to go on with; None of a new one.
  """

  package = extra = 'wandb'

  def __init__(self, train_dir: str, config: Mapping[str, Any], run_id: str | None):
    import wandb

    self.run_id = run_id or uuid.uuid4().hex[:12]
    self._run = wandb.init(
      project=os.environ.get('WANDB_PROJECT', _PROJECT),
      name=_name_of(train_dir),
      id=self.run_id,
      resume='allow',
      dir=train_dir,
      settings=wandb.Settings(console='off'),  # the log has a place of its own
    )
    self._run.config.update(dict(config), allow_val_change=True)
    self._run.define_metric('*', step_metric='global_step')  # its own steps cannot go back

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    self._run.log({**values, 'global_step': step})

  def finish(self, status: str) -> None:
    self._run.finish(exit_code=0 if status == events.FINISHED else 1)


class Mlflow:
  """A run of MLflow; arguments as of `Wandb`."""

  package, extra = 'mlflow', 'mlflow'
  _most = 100  # values in a request, as its server allows
  _status = (
    (events.FINISHED, 'FINISHED'), (events.INTERRUPTED, 'KILLED'), (events.FAILED, 'FAILED')
  )  # fmt: skip

  def __init__(self, train_dir: str, config: Mapping[str, Any], run_id: str | None):
    from mlflow.entities import Param
    from mlflow.tracking import MlflowClient

    logging_module.getLogger('mlflow').setLevel(logging_module.CRITICAL)  # errors come here too
    self._client = MlflowClient()
    if run_id is not None:
      self._client.update_run(run_id, status='RUNNING')
      self.run_id = run_id
      return
    name = os.environ.get('MLFLOW_EXPERIMENT_NAME', _PROJECT)
    known = self._client.get_experiment_by_name(name)
    experiment = known.experiment_id if known else self._client.create_experiment(name)
    self.run_id = self._client.create_run(experiment, run_name=_name_of(train_dir)).info.run_id
    params = [Param(key, flags.as_text(value)) for key, value in config.items()]
    for start in range(0, len(params), self._most):
      self._client.log_batch(self.run_id, params=params[start : start + self._most])

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    metrics = [Metric(_key(name), float(value), now, step) for name, value in values.items()]
    for start in range(0, len(metrics), self._most):
      self._client.log_batch(self.run_id, metrics=metrics[start : start + self._most])

  def finish(self, status: str) -> None:
    self._client.set_terminated(self.run_id, dict(self._status)[status])


_TRACKERS: Mapping[str, type[Wandb] | type[Mlflow]] = {'mlflow': Mlflow, 'wandb': Wandb}


def _name_of(train_dir: str) -> str:
  return os.path.basename(os.path.abspath(train_dir))


def _key(name: str) -> str:
  """A name with the signs alone that MLflow allows."""
  return ''.join(sign if sign.isalnum() or sign in '_-. /' else '_' for sign in name)


class _Ids(TypedDict, total=False):
  """tracker.json: the run's ids."""

  mlflow: str
  wandb: str


def check(name: str | None) -> None:
  """Says before the work, not after it, that a package is missing.

  Raises:
    ValueError: it is.
  """
  if name is None:
    return
  kind = _TRACKERS[name]
  try:
    importlib.import_module(kind.package)
  except ImportError as error:
    raise ValueError(
      f"--log={name} needs a package: pip install 'slim-inception[{kind.extra}]'"
    ) from error


def start(name: str | None, train_dir: str, config: Mapping[str, Any], step: int) -> Tracker:
  """What `name` follows the run with; it goes on with what train_dir/tracker.json names.

  Args:
    name: of --log; None: nothing follows.
    train_dir: of the run.
    config: {flag or fact: value}.
    step: where the run begins.

  Raises:
    ValueError: it cannot be reached by a run that begins; one that goes on does so without.
  """
  if name is None:
    return NoTracker()
  path = os.path.join(train_dir, constants.TRACKER_FILE)
  ids: dict[str, str] = {**(files.read_json(path, _Ids) or {})}
  try:
    tracker = _TRACKERS[name](train_dir, config, ids.get(name))
  except Exception as error:  # of a server, a network or a login: there is no end of kinds
    if step == 0:
      raise ValueError(f'--log={name}: {_one_line(error)}') from error
    _give_up(name, error)
    return NoTracker()
  files.write_json(path, {**ids, name: tracker.run_id})
  return Guarded(name, tracker)


class Guarded:
  """A tracker that cannot stop a run: after its first error it is left alone.

  Args:
    name: of --log.
    tracker: which may fail.
  """

  def __init__(self, name: str, tracker: Tracker):
    self._name = name
    self._tracker: Tracker | None = tracker

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    finite = {name: value for name, value in values.items() if math.isfinite(value)}
    self._call(lambda tracker: tracker.scalars(step, finite))

  def finish(self, status: str) -> None:
    self._call(lambda tracker: tracker.finish(status))

  def _call(self, action: Callable[[Tracker], None]) -> None:
    if self._tracker is None:
      return
    try:
      action(self._tracker)
    except Exception as error:  # as in `start`
      _give_up(self._name, error)
      self._tracker = None


def _give_up(name: str, error: Exception) -> None:
  logging.warning(
    '--log=%s: %s; nothing more goes there, and the run goes on', name, _one_line(error)
  )


def _one_line(error: Exception) -> str:
  lines: Iterable[str] = filter(None, map(str.strip, str(error).splitlines()))
  return files.printable(next(iter(lines), type(error).__name__))
