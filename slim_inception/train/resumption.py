"""--resume_from: a new run that goes on where another one is, which stays as it is.

The new train_dir begins with what the other would have had there: the checkpoint, config.json, the
lines of metrics.jsonl until then and the best checkpoint. From there on it is a run that goes on
like any other. What may change is what a run can change in its train_dir (length, schedule,
learning rate, batch, replicas, augmentation, ...); what may not is the table `_FIXED`.
"""

import os
import shutil
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from slim_inception import constants, files, flags, provenance
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.nets import checkpoint_files, checkpoints
from slim_inception.train import config_json, optimizers, schedules
from slim_inception.train.checkpoint_manager import write_checkpoint_state
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import ScheduleConfig
from slim_inception.train.plan import Plan
from slim_inception.train.progress import read_metrics
from slim_inception.train.train_state import Counters, read_counters

_NET, _DATA, _ORDER = 'the net', 'the data', 'the order of the records'
# What a run that goes on elsewhere has in common with the one that it goes on from.
_FIXED = {
  'model_name': _NET, 'depth_multiplier': _NET, 'activation_scale': _NET, 'padding': _NET,
  'bottleneck_layer_size': _NET, 'input_channels': _NET,
  'dataset_name': _DATA, 'dataset_split_name': _DATA, 'labels_offset': _DATA,
  'sampling': _ORDER, 'mixture': _ORDER, 'repeated_augmentation': _ORDER,
  'seed': _ORDER, 'num_readers': _ORDER, 'shuffle_buffer': _ORDER, 'shuffle_buffer_mb': _ORDER,
  'optimizer': 'the optimizer',
}  # fmt: skip


class _Source(NamedTuple):
  """A checkpoint of a run, and what its config.json says."""

  prefix: str
  config: dict[str, Any]

  @property
  def facts(self) -> Mapping[str, Any]:
    return self.config.get('run', {})


def begin(config: Config, dataset: Dataset, num_classes: int) -> None:
  """Fills an empty train_dir from --resume_from; one that has begun already stays as it is.

  The checkpoint is the last to come: whoever is killed before that begins again.

  Args:
    config: the flags.
    dataset: the records.
    num_classes: of the head.

  Raises:
    ValueError: the checkpoint is damaged or no run's, something that is fixed has changed, or
      train_dir holds a run that began otherwise.
    OSError: there is no such checkpoint, or it cannot be copied.
  """
  path, train_dir = config.run.resume_from, config.run.train_dir
  if path is None:
    return
  folder = path if os.path.isdir(path) else os.path.dirname(path)
  if os.path.realpath(folder) == os.path.realpath(train_dir):
    raise ValueError(
      f'--resume_from={path} is of --train_dir itself, which goes on without it; choose another '
      '--train_dir'
    )
  if checkpoint_files.latest(train_dir):
    before = (config_json.read(train_dir) or {}).get('resume_from')
    if before != path:
      began = f'from --resume_from={before}' if before else 'without --resume_from'
      raise ValueError(f'{train_dir} holds a run that began {began}: choose another --train_dir')
    return
  source = _source(path)
  _check(source, config, dataset, num_classes)
  _copy(source, path, train_dir)
  logging.info('%s begins as %s, which stays as it is', train_dir, source.prefix)


def _source(path: str) -> _Source:
  """Raises ValueError where the checkpoint is damaged or no run's, OSError where there is none."""
  if os.path.isdir(path):
    prefix = checkpoints.latest_sound(path)
    if prefix is None:
      raise FileNotFoundError(f'--resume_from: {path} holds no checkpoint')
  else:
    prefix = checkpoint_files.resolve(path)
    if damage := checkpoints.find_damage(prefix):
      raise ValueError(damage)
  beside = config_json.read_beside(prefix)
  config = beside[1] if beside else {}
  stored = checkpoints.shapes(prefix)
  slots = [f'/{slot.suffix}' for slot in optimizers.RULES[config.get('optimizer', 'sgd')].slots]
  has_slots = all(any(name.endswith(slot) for name in stored) for slot in slots)
  if not beside or constants.GLOBAL_STEP not in stored or not has_slots:
    raise ValueError(
      f'--resume_from: {prefix} is not what a run saves to go on from: it needs config.json, '
      'global_step and the slots of the optimizer; --checkpoint_path takes its weights'
    )
  return _Source(prefix, config)


def _check(source: _Source, config: Config, dataset: Dataset, num_classes: int) -> None:
  """Raises ValueError where the new run would not go on where the other is."""
  now = flags.flatten(config)
  for name, what in _FIXED.items():
    if name in source.config and source.config[name] != now[name]:
      old, new = flags.as_text(source.config[name]), flags.as_text(now[name])
      raise ValueError(
        f'--resume_from keeps {what}: {source.prefix} has --{name}={old}, not {new}; '
        '--checkpoint_path takes its weights alone'
      )
  facts = source.facts
  if facts.get('num_classes', num_classes) != num_classes:
    raise ValueError(
      f'--resume_from keeps the classes: {source.prefix} has {facts["num_classes"]}, not '
      f'{num_classes}'
    )
  folder = config.data.dataset_dir or ''
  beside = os.path.join(os.path.dirname(source.prefix), constants.CONFIG_FILE)
  if known := provenance.trained_on(beside, source.config):
    provenance.check_resumed(known, dataset, folder)
  is_other = facts.get('num_samples', dataset.num_samples) != dataset.num_samples
  hashes = set(facts.get('dataset_hashes', []))
  if is_other or (hashes and not provenance.hashes_of(dataset) <= hashes):
    raise ValueError(
      f'--resume_from keeps the data: {folder} has other records than {source.prefix} was trained '
      'on; --checkpoint_path takes its weights alone'
    )


def _copy(source: _Source, path: str, train_dir: str) -> None:
  """Writes what the run had at the checkpoint into another folder, the checkpoint last."""
  step = read_counters(source.prefix, source.facts.get('global_batch_size', 1)).step
  folder = os.path.dirname(source.prefix)
  if os.path.basename(folder) == constants.BEST_FOLDER:  # its run lies above it
    folder = os.path.dirname(folder)
  os.makedirs(train_dir, exist_ok=True)
  origin = {
    'checkpoint': os.path.abspath(source.prefix),
    'identity': checkpoint_files.identity(source.prefix),
    'step': step,
  }
  content = {**source.config, 'resume_from': path, 'run': {**source.facts, 'resumed_from': origin}}
  files.write_json(os.path.join(train_dir, constants.CONFIG_FILE), content)
  lines = [line for line in read_metrics(folder) if line['step'] <= step]
  if lines:
    files.write_json_lines(os.path.join(train_dir, constants.METRICS_FILE), lines)
  _copy_best(os.path.join(folder, constants.BEST_FOLDER), train_dir, step)
  _copy_checkpoint(source.prefix, os.path.join(train_dir, f'model.ckpt-{step}'))


def _copy_best(best: str, train_dir: str, step: int) -> None:
  """Copies the best checkpoint, if it is none of a later step."""
  prefix = checkpoint_files.latest(best)
  if prefix is None or (checkpoint_files.step_of(prefix) or 0) > step:
    return
  target = os.path.join(train_dir, constants.BEST_FOLDER)
  os.makedirs(target, exist_ok=True)
  for name in (constants.CONFIG_FILE, constants.EVALUATION_METRICS_FILE):
    if os.path.exists(os.path.join(best, name)):
      _copy_file(os.path.join(best, name), os.path.join(target, name))
  _copy_checkpoint(prefix, os.path.join(target, os.path.basename(prefix)))


def _copy_checkpoint(prefix: str, target: str) -> None:
  """Copies the files of a checkpoint, the index last, and names it in the file `checkpoint`."""
  folder, base = os.path.split(prefix)
  names = [n for n in os.listdir(folder or '.') if checkpoint_files.prefix_of(n) == base]
  for name in sorted(names, key=lambda name: name.endswith(checkpoint_files.INDEX)):
    if not name.endswith('.meta'):  # TF1's graph
      _copy_file(os.path.join(folder, name), target + name[len(base) :])
  write_checkpoint_state(os.path.dirname(target), [target])


def _copy_file(source: str, target: str) -> None:
  with files.naming_full_disk(target), files.atomic_path(target) as temporary:
    shutil.copyfile(source, temporary)


def describe_rate(before: Mapping[str, Any], schedule: ScheduleConfig, plan: Plan) -> str:
  """A line on the learning rate where the schedule of before gives another one for the next step.

  Args:
    before: the content of config.json, of the last start.
    schedule: the flags of now, as they are.
    plan: of now.

  Returns:
    '' where it goes on as it was.
  """
  names = [name for name in flags.fields(ScheduleConfig) if name in before]
  then = flags.build(ScheduleConfig, {name: before[name] for name in names})
  batch = before.get('run', {}).get('global_batch_size', plan.global_batch_size)
  old, new = (
    _rate(schedules.scaled(config, size), plan.start, plan, size)
    for config, size in ((then, batch), (schedule, plan.global_batch_size))
  )
  if abs(new - old) <= 1e-6 * max(old, new):
    return ''
  return (
    f'The learning rate of step {plan.start.step + 1} is {new:.4g}; by the schedule of before it '
    f'would be {old:.4g}'
  )


def _rate(schedule: ScheduleConfig, start: Counters, plan: Plan, batch: int) -> float:
  epoch = start.images / plan.num_samples
  return schedules.learning_rate(schedule, start.step, epoch, plan.num_samples / batch)
