"""A run as one HTML page, from the files of its train_dir; the run may still be going on.

It needs neither TensorFlow nor network: see `pages`.
"""

import collections
import dataclasses
import itertools
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from slim_inception import constants, files, flags
from slim_inception.datasets.progress_bar import digits, duration
from slim_inception.evaluate import comparison, page_plots, pages
from slim_inception.evaluate.metrics import accuracies, wilson_interval
from slim_inception.evaluate.page_plots import Line, Mark
from slim_inception.train import config as train_config
from slim_inception.train import config_json, events
from slim_inception.train.config import Config

# Facts under 'run' of config.json that say where the net and its classes come from.
_PROVENANCE = ('dataset_hashes', 'resumed_from', 'teachers', 'averaged')
# Flags that differ from run to run by their nature.
_OF_ONE_RUN = ('train_dir', 'recipe', 'config', 'resume_from')
_MOST_NAMES = 40  # of fresh variables that are listed


@dataclasses.dataclass(frozen=True)
class RunFiles:
  """What a train_dir says of its run.

  Attributes:
    folder: the train_dir.
    config: the content of config.json; {} without one.
    log: the lines of metrics.jsonl.
    events: those of history.jsonl.
    summary: what `slim-inception compare` reads of it.
  """

  folder: str
  config: Mapping[str, Any]
  log: Sequence[Mapping[str, Any]]
  events: Sequence[Mapping[str, Any]]
  summary: comparison.Run

  @property
  def facts(self) -> Mapping[str, Any]:
    """What config.json has under 'run'."""
    return self.config.get('run', {})

  def series(self, key: str) -> tuple[list[float], list[float]]:
    """Epochs and values of the lines that have a value of this name."""
    pairs = [
      (float(line['epoch']), float(line[key])) for line in self.log if _is_number(line.get(key))
    ]
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def read(folder: str) -> RunFiles:
  """Reads a train_dir.

  Raises:
    ValueError, OSError: it is none, or a file in it is not as it should be.
  """
  (summary,) = comparison.read_runs([folder])
  path = os.path.join(folder, constants.METRICS_FILE)
  lines = [
    line for line in files.read_json_lines(path, files.StepLine) if _is_number(line.get('epoch'))
  ]
  return RunFiles(folder, config_json.read(folder) or {}, lines, events.read(folder), summary)


def write(run: RunFiles, path: str) -> None:
  """Writes the page, whole or not at all.

  Raises:
    OSError: it cannot be written.
  """
  text = pages.render(
    pages.read('run_report.html.j2'),
    style=pages.style(),
    title=f'{run.summary.net}: {run.summary.name}',
    headline=headline(run),
    plots=[plot for plot in plots(run) if plot],
    times=times(run),
    starts=list(starts(run)),
    rollbacks=[event for event in run.events if event['event'] == 'rollback'],
    evaluations=list(evaluations(run)),
    shows_top_5='top_5' in accuracies(run.summary.num_classes),
    provenance=provenance(run),
    recipe=run.config.get('recipe', ''),
    differences=differences(run.config),
    has_events=bool(run.events),
    most_names=_MOST_NAMES,
  )
  with files.atomic_text(path) as file:
    file.write(text)


def status(run: RunFiles) -> tuple[str, str]:
  """How the run is, in a word, and more of it: 'finished', 'interrupted', 'failed', ..."""
  if not run.events:
    return 'unknown', 'it began before events were kept'
  last = next((e for e in reversed(run.events) if e['event'] in ('start', 'end')), None)
  if last is None or last['event'] == 'start':
    return 'going on', 'or killed: it has not said that it ended'
  return str(last.get('status', 'ended')), str(last.get('reason', ''))


def headline(run: RunFiles) -> list[tuple[str, str, str]]:
  """(name, value, note) of the figures that count."""
  word, more = status(run)
  total = run.facts.get('total_steps')
  last = max((line['step'] for line in run.log), default=0)
  summary = run.summary
  result = [
    ('Status', word, more),
    ('Epochs', f'{summary.epochs:.4g}', f'step {last:,}' + (f' of {total:,}' if total else '')),
  ]
  if summary.hours is not None:
    result.append(('Training', duration(3600 * summary.hours), 'without start-up and evaluation'))
  if summary.images_per_second:
    result.append(('Images/s', digits(summary.images_per_second), 'median of what was logged'))
  _, losses = run.series('loss')
  if losses:
    result.append(('Last loss', f'{losses[-1]:.4g}', 'of a step, with regularization'))
  if skipped := _skipped_images(run):
    result.append(('Skipped images', f'{skipped:,}', 'could not be decoded'))
  if overflows := int(max(run.series('overflow_steps')[1], default=0)):
    result.append(('Skipped updates', f'{overflows:,}', 'whose gradients overflowed float16'))
  if rows := list(evaluations(run)):
    best = max(rows, key=lambda row: row['top_1'])
    low, high = best['interval']
    result.append(
      (
        'Best top-1',
        f'{100 * best["top_1"]:.2f}%',
        f'{100 * low:.2f} to {100 * high:.2f}% at epoch {best["epoch"]:.4g}',
      )
    )
  return result


def _skipped_images(run: RunFiles) -> int:
  """Over all starts, each of which counts its own."""
  _, counts = run.series('skipped_images')
  ends = [a for a, b in itertools.pairwise(counts) if b < a] + counts[-1:]
  return int(sum(ends))


def plots(run: RunFiles) -> list[dict[str, Any] | None]:
  """Loss, accuracy, learning rate and throughput over epochs."""
  clock = comparison.make_clock(
    {line['step']: (float(line['epoch']), None) for line in run.log} or {0: (0.0, None)}
  )
  marks = [
    Mark(clock(event['step'])[0], f'{_VERBS[event["event"]]} at step {event["step"]:,}')
    for event in run.events
    if event['event'] == 'rollback' or (event['event'] == 'start' and event['step'] > 0)
  ]
  marks += [
    Mark(epoch, f'images of {size} x {size} pixels from epoch {epoch:g}')
    for epoch, size, _ in _schedule(run)
    if 0 < epoch <= run.summary.epochs
  ]
  evaluated = list(evaluations(run))

  def of_evaluations(key: str) -> Line:
    return Line(
      f'{key.replace("_", "-")} of evaluations',
      [row['epoch'] for row in evaluated],
      [row[key] for row in evaluated],
      with_points=True,
    )

  accuracy = [Line('top-1 of training batches', *run.series('top_1')), of_evaluations('top_1')]
  if 'top_5' in accuracies(run.summary.num_classes):
    accuracy.append(of_evaluations('top_5'))
  return [
    page_plots.plot('Loss', [Line('loss', *run.series('loss'))], marks, from_zero=False),
    page_plots.plot('Accuracy', accuracy, marks, percent=True),
    page_plots.plot('Learning rate', [Line('rate', *run.series('learning_rate'))], marks),
    page_plots.plot('Images/s', [Line('images/s', *run.series('images_per_second'))], marks),
    page_plots.plot(
      'Waiting for input',
      [Line('share of the time', *run.series('input_share'))],
      marks,
      percent=True,
    ),
  ]


def _schedule(run: RunFiles) -> list[tuple[float, int, int]]:
  """(epoch, size, batch) of --image_size_schedule; nothing where all images have one size."""
  return [tuple(entry) for entry in run.config.get('image_size_schedule') or ()]


def _image_size(run: RunFiles) -> str:
  """Of training and, where it is another one, of evaluation."""
  parts = [f'{size} from epoch {epoch:g}' for epoch, size, _ in _schedule(run)]
  if ramp := run.config.get('image_size_ramp'):
    parts.append(f'in stairs of {ramp}')
  text = ', '.join(parts) or str(run.facts.get('image_size', ''))
  evaluated = run.config.get('eval_image_size')
  return f'{text}; {evaluated} in evaluation' if evaluated else text


_VERBS = {'start': 'started again', 'rollback': 'went back'}


def times(run: RunFiles) -> list[tuple[str, str, str]]:
  """(what, time, share of the training) of a run that counted its hours."""
  hours = run.summary.hours
  if not hours:
    return []
  training = 3600 * hours
  waited, timed = 0.0, 0.0
  before = 0.0
  for line in run.log:
    now = 3600 * float(line.get('hours') or 0.0)
    if _is_number(line.get('input_share')):
      waited += float(line['input_share']) * (now - before)
      timed += now - before
    before = max(before, now)
  saves = [float(e.get('seconds', 0.0)) for e in run.events if e['event'] == 'checkpoint']
  _, evaluated = run.series('eval_seconds')
  rows = [('training', _time(training), '')]
  if timed:
    share = waited / timed
    rows.append(('of it waiting for input', _time(share * training), f'{share:.1%}'))
  if saves:
    mean = statistics.fmean(saves)
    rows.append(
      (
        f'of it saving {len(saves)} checkpoint(s), {mean:.3g} s each',
        _time(sum(saves)),
        f'{sum(saves) / training:.1%}',
      )
    )
  if evaluated:
    mean = statistics.fmean(evaluated)
    rows.append(
      (f'besides, {len(evaluated)} evaluation(s), {mean:.3g} s each', _time(sum(evaluated)), '')
    )
  return rows


def _time(seconds: float) -> str:
  return f'{seconds:.1f} s' if seconds < 10 else duration(seconds)


class StartShown(NamedTuple):
  """A start as the page has it: `facts` by name, fresh variables by reason, and lines."""

  step: int
  time: str
  facts: dict[str, str]
  fresh: list[tuple[str, list[str]]]
  lines: list[str]
  end: str


def starts(run: RunFiles) -> Iterator[StartShown]:
  """Each start, with how it ended."""
  shown = [i for i, event in enumerate(run.events) if event['event'] == 'start']
  for number, i in enumerate(shown):
    event = run.events[i]
    until = shown[number + 1] if number + 1 < len(shown) else len(run.events)
    end = next((e for e in run.events[i:until] if e['event'] == 'end'), None)
    is_last = number + 1 == len(shown)
    text = 'going on, or killed' if is_last else 'killed'
    if end:
      text = ' '.join(filter(None, [str(end.get('status')), f'at {end["time"]}']))
      text += f': {end["reason"]}' if end.get('reason') else ''
    fresh = collections.defaultdict(list)
    for name, reason in event.get('fresh', {}).items():
      fresh[reason].append(name)
    replicas, each = event.get('num_replicas'), event.get('per_replica_batch')
    count = event.get('accumulate_steps', 1)
    batch = f'{event.get("global_batch_size")} images a step, {replicas} replica(s) x {each}'
    batch += f' x {count} passes' if count > 1 else ''
    facts = {
      'processor': event.get('processor'),
      'devices': event.get('devices'),
      'batch': batch,
      'precision': event.get('precision'),
      'versions': ', '.join(f'{k} {v}' for k, v in event.get('versions', {}).items()),
      'variables from': event.get('source') or 'fresh weights',
    }
    if event.get('source'):
      facts['restored'] = f'{event.get("restored", 0):,} variables'
      facts['of no use here'] = f'{len(event.get("ignored", []))} variables'
    yield StartShown(
      event['step'],
      event['time'],
      {name: str(value) for name, value in facts.items() if value},
      list(fresh.items()),
      [*event.get('notes', ()), *event.get('changes', ())],
      text,
    )


def evaluations(run: RunFiles) -> Iterator[dict[str, Any]]:
  """Each evaluation: accuracies from 0 to 1, with the interval of top-1."""
  for each in run.summary.evaluations:
    top_1, top_5 = (1 - error / 100 for error in (each.top_1, each.top_5))
    hits = round(top_1 * each.num_images)
    yield {
      **each._asdict(),
      'top_1': top_1,
      'top_5': top_5,
      'interval': wilson_interval(hits, each.num_images) if each.num_images else (0.0, 1.0),
    }


def provenance(run: RunFiles) -> dict[str, str]:
  """Where the net and its classes come from."""
  config, facts = run.config, run.facts
  classes, batches = facts.get('labels') or [], config.get('batch_norm_batches')
  result = {
    'data set': f'{config.get("dataset_name")} {config.get("dataset_split_name")}',
    'records': config.get('dataset_dir') or '',
    'images': f'{facts["num_samples"]:,}' if 'num_samples' in facts else '',
    'classes': files.some(classes, 10) if classes else str(facts.get('num_classes', '')),
    'weights of the start': config.get('checkpoint_path') or '',
    'image size': _image_size(run),
    'batch norm': f'averages estimated anew on {batches} batches before evaluations'
    if batches
    else '',
    'kernels': facts.get('kernels') or '',
    'seed': str(config.get('seed', '')),
  }
  for name in _PROVENANCE:
    if value := facts.get(name):
      result[name.replace('_', ' ')] = _text(value)
  return {name: text for name, text in result.items() if text}


def differences(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """(flag, value by the recipe, value of the run) where they differ."""
  if not config.get('recipe'):
    return []
  defaults = {name: flag.default for name, flag in flags.fields(Config).items()}
  try:
    recipe = flags.convert(Config, train_config.read_recipe(config['recipe']))
  except OSError:  # of another version
    recipe = {}
  return [
    (f'--{name}', flags.shown(then), flags.shown(config[name]))
    for name, then in {**defaults, **recipe}.items()
    if name in config and config[name] != then and name not in _OF_ONE_RUN
  ]


def _text(value: object) -> str:
  if isinstance(value, Mapping):
    return ', '.join(f'{key} {_text(item)}' for key, item in value.items())
  if isinstance(value, (list, tuple)):
    return ', '.join(map(_text, value))
  return str(value)


def _is_number(value: object) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
