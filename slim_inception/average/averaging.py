"""Averages of weights: of a run's last checkpoints, or of runs that began alike (a soup).

"Averaging Weights Leads to Wider Optima" (arXiv:1803.05407) and "Model soups" (arXiv:2203.05482),
whose greedy soup keeps what does no harm; here a checkpoint is kept if it does good. The mean of
nets that were trained from different random weights is of no use.
"""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from slim_inception import choices, files, flags, needs, provenance
from slim_inception.average.config import AverageConfig, RecordsConfig
from slim_inception.constants import CONFIG_SUFFIX
from slim_inception.datasets import source_records
from slim_inception.evaluate import batch_norm_statistics
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.config import Member
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.stored_weights import StoredWeights, open_weights
from slim_inception.nets import checkpoint_files, checkpoints, nets_factory
from slim_inception.nets.convert import formats
from slim_inception.nets.heads import AUX_LOGITS
from slim_inception.nets.model import Model

Values = dict[str, np.ndarray]  # by the name of the variable
Measure = Callable[[Values], float]  # the top-1 accuracy


class Source(NamedTuple):
  """What goes in: a checkpoint, and what its run says."""

  stored: StoredWeights
  member: Member
  run: Mapping[str, Any]  # the content of config.json; {} without one


class Tried(NamedTuple):
  """What became of a checkpoint; without a measurement all are kept.

  Attributes:
    number: of the checkpoint.
    alone: its own top-1 accuracy.
    averaged: that of the average with it.
  """

  number: int
  is_kept: bool = True
  alone: float | None = None
  averaged: float | None = None


def average(config: AverageConfig, paths: Sequence[str]) -> list[str]:
  """Averages checkpoints, and writes the average with what went in beside it.

  Args:
    config: the flags.
    paths: train_dirs, prefixes of checkpoints or files of other libraries.

  Returns:
    Lines on what went in.

  Raises:
    ValueError, OSError: there is nothing to average, the checkpoints are not of one net, or the
      output exists or cannot be written. Then it is as it was.
  """
  output, records = config.weights.output, config.records
  files.refuse_existing(
    [output + end for end in ('', CONFIG_SUFFIX, *checkpoint_files.SUFFIXES)],
    config.weights.overwrite,
  )
  prefixes = checkpoints_of(paths, config.weights.last)
  sources = open_sources(prefixes, config.weights.model_name, config.weights.use_ema)
  check_alike(sources)
  is_greedy = config.weights.method == 'greedy'
  needs_records = is_greedy or records.batch_norm_batches > 0
  request = _request(sources[0], records) if needs_records else None
  model = make_model(sources, records.batch_norm_batches)
  kinds: dict[int, str] = {}

  def load(index: int) -> Values:
    kinds[index] = sources[index].stored.load(model)
    return {name: variable.numpy() for name, variable in model.variables_by_name.items()}

  if is_greedy and request:
    with measuring(model, Evaluation(request)) as measure:
      values, tried = greedy(load, len(sources), measure)
  else:
    values, tried = uniform(load, len(sources))
  assign(model, values)
  if request and records.batch_norm_batches:
    batch_norm_statistics.estimate(
      model,
      request.config.records.split('train'),
      sources[0].member.spec.preprocessing,
      records.batch_norm_batches,
      batch_size=records.batch_size,
      labels_offset=sources[0].member.labels_offset or 0,
    )
  files.make_folder_of(output)
  model.save(output)
  went_in = [_facts(sources[each.number], kinds[each.number], each) for each in tried]
  facts = {
    'method': config.weights.method,
    'batch_norm_batches': records.batch_norm_batches,
    'checkpoints': went_in,
  }
  files.write_json(output + CONFIG_SUFFIX, configuration(sources[0], facts))
  return [*map(_line, went_in), _summary(went_in, records), f'written to {output}']


def checkpoints_of(paths: Sequence[str], last: int) -> list[str]:
  """The checkpoints that paths stand for: of a folder the latest ones, the newest first.

  Raises:
    FileNotFoundError: there is nothing at a path.
    ValueError: all of them are one checkpoint.
  """
  prefixes: list[str] = []
  for path in paths:
    of_run = checkpoint_files.newest_first(path)[:last] if os.path.isdir(path) else []
    if of_run and len(of_run) < last:
      logging.info('%s has %d checkpoints, fewer than --last=%d', path, len(of_run), last)
    prefixes += of_run or [formats.locate(path)]
  prefixes = list(dict.fromkeys(prefixes))
  if len(prefixes) == 1:
    raise ValueError(f'{prefixes[0]} is one checkpoint: expected two or more to average')
  return prefixes


def open_sources(prefixes: Sequence[str], model_name: str | None, use_ema: str) -> list[Source]:
  """Opens checkpoints.

  Args:
    prefixes: of them.
    model_name: of the net; None: the runs'.
    use_ema: a key of `choices.USE_EMA`.

  Raises:
    ValueError, OSError: one cannot be opened, or nothing says of which net it is.
  """
  values = {'checkpoint_path': list(prefixes), 'use_ema': [use_ema]}
  values |= {'model_name': [model_name]} if model_name else {}
  runs = eval_config.read_runs(values)
  members = eval_config.members(flags.build(eval_config.CheckpointsConfig, values), runs)
  return [
    Source(
      open_weights(
        prefix,
        member.model_name,
        choices.USE_EMA[use_ema],
        preprocessing=member.spec.preprocessing,
      ),
      member,
      run,
    )
    for prefix, member, run in zip(runs.prefixes, members, runs.configs, strict=True)
  ]


def check_alike(sources: Sequence[Source]) -> None:
  """Raises ValueError where a checkpoint is not of the first one's net, images and classes."""
  first, *others = sources
  for other in others:
    reasons = [
      f'{name} {another}, not {one}'
      for name, one, another in zip(_KIND, _kind(first), _kind(other), strict=True)
      if one != another
    ]
    known = [source.member.trained_on for source in (first, other)]
    labels = [each.labels_with(0) if each else {} for each in known]
    if difference := provenance.differences(*labels):
      reasons.append(f'of its classes {difference}')
    if reasons:
      raise ValueError(
        f'{other.stored.path} cannot be averaged with {first.stored.path}: {reasons[0]}'
      )


_KIND = ('net', 'arguments', 'number of outputs', 'preprocessing', 'channels', 'labels_offset')


def _kind(source: Source) -> tuple[Any, ...]:
  member = source.member
  return (
    member.model_name,
    source.stored.arguments | member.net_arguments,
    source.stored.num_outputs,
    member.spec.preprocessing.name,
    member.spec.preprocessing.channels,
    member.labels_offset or 0,
  )


def make_model(sources: Sequence[Source], batch_norm_batches: int = 0) -> Model:
  """The net of checkpoints, with an auxiliary head if all of them have one."""
  stored, member = sources[0].stored, sources[0].member
  net = nets_factory.get_net(member.model_name)
  has_head = all(_has_auxiliary_head(source.stored) for source in sources)
  arguments = {**stored.arguments, **net.select(create_aux_logits=has_head)}
  arguments |= member.net_arguments
  if batch_norm_batches:
    decay = batch_norm_statistics.BATCH_NORM_DECAY
    arguments['arg_scope'] = net.arg_scope(batch_norm_decay=decay)
  return nets_factory.create_model(
    member.model_name,
    stored.num_outputs,
    image_size=member.spec.image_size,
    input_channels=member.spec.preprocessing.channels,
    **arguments,
  )


def _has_auxiliary_head(stored: StoredWeights) -> bool:
  net = nets_factory.get_net(stored.model_name)
  if stored.converted:
    return any(path in stored.converted.layers for path in net.head.weights.get(AUX_LOGITS, ()))
  scope = f'{net.scope}/{AUX_LOGITS}/'
  return any(name.startswith(scope) for name in checkpoints.shapes(stored.path))


def uniform(load: Callable[[int], Values], count: int) -> tuple[Values, list[Tried]]:
  """The mean of all checkpoints.

  Args:
    load: gives the values of a checkpoint by its number.
    count: of checkpoints.
  """
  total = _sum_of(load(0))
  for i in range(1, count):
    total = _add(total, load(i))
  return _divided(total, count), [Tried(i) for i in range(count)]


def greedy(
  load: Callable[[int], Values], count: int, measure: Measure
) -> tuple[Values, list[Tried]]:
  """The mean of the best checkpoint and those that make it better, tried from the best down.

  Of equal ones the first counts as better.

  Args:
    load: gives the values of a checkpoint by its number.
    count: of checkpoints.
    measure: of values, greater is better.

  Returns:
    The mean, and the checkpoints in the order in which they were tried.
  """
  alone = [measure(load(i)) for i in range(count)]
  best, *others = sorted(range(count), key=lambda i: -alone[i])
  total, kept, top = _sum_of(load(best)), 1, alone[best]
  tried = [Tried(best, True, top, top)]
  for i in others:
    with_it = _add(total, load(i))
    result = measure(_divided(with_it, kept + 1))
    tried.append(Tried(i, result > top, alone[i], result))
    if result > top:
      total, kept, top = with_it, kept + 1, result
  return _divided(total, kept), tried


def _sum_of(values: Values) -> Values:
  return {name: value.astype(np.float64) for name, value in values.items()}


def _add(total: Values, values: Values) -> Values:
  return {name: total[name] + value for name, value in values.items()}


def _divided(total: Values, count: int) -> Values:
  return {name: (value / count).astype(np.float32) for name, value in total.items()}


def assign(model: Model, values: Values) -> None:
  """Sets all variables of a model."""
  for name, variable in model.variables_by_name.items():
    variable.assign(values[name])


@contextlib.contextmanager
def measuring(model: Model, evaluation: Evaluation) -> Iterator[Measure]:
  """Gives a `Measure` by a whole evaluation, as slim-inception eval does it.

  Args:
    model: that values are put into; it is made anew by what it loads next.
    evaluation: of the held-out split; estimates batch norm statistics where its request says so.
  """
  numbers = itertools.count(1)
  with tempfile.TemporaryDirectory(prefix='average-') as folder:

    def measure(values: Values) -> float:
      prefix = os.path.join(folder, f'model.ckpt-{next(numbers)}')
      assign(model, values)
      model.save(prefix)
      outcome = evaluation.evaluate([prefix])
      checkpoint_files.remove(prefix)
      assert outcome  # this process is the only one
      return float(outcome.metrics['top_1'])

    yield measure


def _request(source: Source, records: RecordsConfig) -> eval_config.Request:
  """An evaluation of the net of a checkpoint.

  Raises:
    ValueError, OSError: nothing says where the records are, or they are not there and cannot be
      made.
  """
  values = {
    'checkpoint_path': [source.stored.path],
    'model_name': [source.member.model_name],
    **flags.flatten(records),
  }
  request = eval_config.resolve({name: v for name, v in values.items() if v is not None})
  chosen = request.config.records
  made = source_records.find_or_make(chosen.dataset_name, chosen.dataset_dir, chosen.cache_dir)
  return request._replace(config=flags.replace(request.config, **made))


def configuration(source: Source, facts: Mapping[str, Any]) -> dict[str, Any]:
  """The config.json of an average: that of the first run, and under 'run' what went in.

  Args:
    source: the first checkpoint.
    facts: of the average.
  """
  run, member = dict(source.run), source.member
  if not run.get('model_name'):
    needed = needs.of_weights(source.stored.path, member.model_name, run)
    run |= {'preprocessing_name': needed.preprocessing_name, 'padding': needed.padding}
    run['run'] = {**run.get('run', {}), 'image_size': needed.image_size}
  return {**run, 'model_name': member.model_name, 'run': {**run.get('run', {}), 'averaged': facts}}


def _facts(source: Source, kind: str, tried: Tried) -> dict[str, Any]:
  path = source.stored.path
  return {
    'checkpoint': os.path.abspath(path),
    'identity': checkpoint_files.identity(path),
    'weights': kind,
    'kept': tried.is_kept,
    'top_1': tried.alone,
    'average_top_1': tried.averaged,
  }


def _line(facts: Mapping[str, Any]) -> str:
  text = f'{facts["checkpoint"]}: {facts["weights"]} weights'
  if facts['top_1'] is None:
    return text
  verdict = 'kept' if facts['kept'] else 'left out'
  return f'{text}, top-1 {facts["top_1"]:.4f}, with it {facts["average_top_1"]:.4f}: {verdict}'


def _summary(went_in: Sequence[Mapping[str, Any]], records: RecordsConfig) -> str:
  kept = sum(facts['kept'] for facts in went_in)
  text = f'the average of {kept} of {len(went_in)} checkpoints; batch norm statistics '
  if batches := records.batch_norm_batches:
    return f'{text}estimated anew on {batches} batches of {records.batch_size} images'
  return f'{text}averaged too'
