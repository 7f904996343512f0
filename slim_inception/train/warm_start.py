"""What the variables of a run are at its start: restored, from another checkpoint, or fresh."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from absl import logging

from slim_inception import constants, files
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.nets.model import Model
from slim_inception.train import optimizers
from slim_inception.train.config import FinetuneConfig
from slim_inception.train.train_state import TrainState

# Of an optimizer and the like: a checkpoint has hundreds that nobody misses.
_BOOKKEEPING = (
  checkpoints.EMA_SUFFIX,
  constants.GLOBAL_STEP,
  constants.INPUT_POSITION,
  constants.TRAINED_IMAGES,
  constants.LOSS_SCALE,
  constants.LOSS_SCALE_GOOD_STEPS,
  constants.OVERFLOW_STEPS,
  *(f'/{slot.suffix}' for rule in optimizers.RULES.values() for slot in rule.slots),
)


def restore_or_init(
  config: FinetuneConfig, model_name: str, state: TrainState, latest: str | None
) -> None:
  """Goes on from the checkpoint `latest`, or starts from `checkpoint_path`, or fresh.

  Raises:
    ValueError, OSError: a checkpoint cannot be read or does not fit.
  """
  if latest:
    fresh = state.restore(latest)
    ignored = f' (--checkpoint_path={config.checkpoint_path} is ignored)'
    logging.info('Going on from %s%s', latest, ignored if config.checkpoint_path else '')
    if fresh:
      logging.info('  fresh: %s, %d like it; %s has none', fresh[0], len(fresh), latest)
  elif config.checkpoint_path:
    _init_from(config.checkpoint_path, config, model_name, state.model)
    state.restart_averages()


def _init_from(path: str, config: FinetuneConfig, model_name: str, model: Model) -> None:
  """Loads a checkpoint; heads whose shapes do not fit, or that it lacks, stay fresh."""
  net = nets_factory.get_net(model_name)
  variables = model.variables_by_name
  prefix = checkpoints.resolve(path)
  stored = checkpoints.shapes(prefix)
  excluded = config.checkpoint_exclude_scopes
  for scope in excluded:
    if not any(name.startswith(scope) for name in variables):
      raise ValueError(f'--checkpoint_exclude_scopes: {model_name} has no scope {scope}')
  unfit = [
    name
    for name, variable in variables.items()
    if name.startswith(net.head_scopes)
    and not name.startswith(excluded)
    and stored.get(name) != variable.shape.as_list()
  ]
  try:
    restored = checkpoints.restore(
      variables,
      prefix,
      exclude_scopes=(*excluded, *unfit),
      ignore_missing=config.ignore_missing_vars,
      use_ema=True,
      sum_channels=net.first_weights,
    )
  except ValueError as error:
    raise ValueError(
      f'{error}; --checkpoint_exclude_scopes leaves scopes out, --ignore_missing_vars those that '
      'the checkpoint lacks'
    ) from error
  fresh = {
    name: 'excluded' if name.startswith(excluded) else stored.get(name, 'not there')
    for name in (*restored.excluded, *restored.missing)
  }
  logging.info('Starting from %s', prefix)
  for line in restored_table(restored, fresh, variables):
    logging.info('  %s', line)


def restored_table(
  restored: checkpoints.Restored, fresh: Mapping[str, Any], variables: Mapping[str, tf.Variable]
) -> list[str]:
  """Lines on what came from a checkpoint, what starts fresh and why, and what nobody wanted."""
  foreign = [
    name for name in restored.unused if name not in variables and not name.endswith(_BOOKKEEPING)
  ]
  return [
    f'restored: {len(restored.restored)} of {len(variables)} variables',
    *(
      f'fresh: {name} {variables[name].shape.as_list()} (checkpoint: {reason})'
      for name, reason in fresh.items()
    ),
    f'ignored: {len(foreign)} that the net does not have'
    + (f': {files.some(foreign)}' if foreign else ''),
  ]
