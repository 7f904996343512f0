"""Does a run that is killed and goes on with other replicas see the same batches?

  python -m experiments.elastic --output_dir=DIR
  python -m experiments.elastic --output_dir=DIR --setting=full --dataset_dir=IMAGENET

Trains a net three times with the same flags and global batch: unbroken on one replica; killed
(SIGKILL) --kills times, and gone on with the next number of --replicas each time, with batch norm
over all replicas; and the same with that of each replica. Every step writes down its records. DIR
gets page.html, the losses as .svg and .png, results.json and losses.csv; DIR/runs has the
train_dirs. Started again it begins the runs that are not finished anew. In a checkout; needs
matplotlib, and scikit-learn for the digits of the small setting:
pip install "slim-inception[demo,plots]".
"""

import dataclasses
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from experiments import command as command_lib
from experiments import config as config_lib
from experiments import page, runs
from slim_inception import files, flags
from slim_inception.cli import console
from slim_inception.train import config_json
from slim_inception.train.config import Config

NAME = 'elastic'
UNBROKEN, SYNCHRONIZED, PLAIN = 'unbroken', 'synchronized', 'plain'
_TITLES = {
  UNBROKEN: 'unbroken, one replica',
  SYNCHRONIZED: 'killed, batch norm over all replicas',
  PLAIN: 'killed, batch norm of each replica',
}
_WORKER = (sys.executable, '-m', 'experiments.elastic_worker')
_POLL_SECS = 0.05


def _check_replicas(replicas: tuple[int, ...]) -> None:
  if len(set(replicas)) < 2:
    raise ValueError('expected two different numbers or more, e.g. 1,2,4')


@dataclasses.dataclass(frozen=True)
class ElasticConfig:
  """Whether killed runs go on exactly."""

  experiment: config_lib.ExperimentConfig
  training: config_lib.TrainingConfig
  replicas: tuple[int, ...] = flags.field(
    (1, 2, 4),
    'A run that is killed goes on with these numbers of replicas in turn.',
    at_least=1,
    check=_check_replicas,
  )
  kills: int = flags.field(5, 'It is killed so many times.', at_least=1)
  batch_norm: tuple[str, ...] = flags.field(
    (SYNCHRONIZED, PLAIN),
    'A run is killed with the batch norm of the global batch (synchronized), and another one with '
    'that of each replica (plain).',
    choices=(SYNCHRONIZED, PLAIN),
  )


def define_flags() -> None:
  flags.define(ElasticConfig)


def main(_: list[str]) -> None:
  command_lib.main(NAME, ElasticConfig, resolve, run)


def resolve(values: Mapping[str, Any]) -> ElasticConfig:
  """See `command.resolve`."""
  return command_lib.resolve(ElasticConfig, configs_of, values)


def run(config: ElasticConfig, command: str, worker: Sequence[str] = _WORKER) -> None:
  """Trains, and writes page and tables.

  Args:
    config: the flags.
    command: the command line, for the page.
    worker: command line of `experiments.elastic_worker`.

  Raises:
    ValueError, OSError: a run cannot be trained; its own message is on stderr.
  """
  configs = configs_of(config)
  with runs.timed(config.experiment.output_dir):
    config_lib.make_records(config.experiment, configs[UNBROKEN])
    for name, each in configs.items():
      if runs.is_finished(each):
        last = (config_json.read(each.run.train_dir) or {}).get('num_clones')
        runs.check_unchanged(flags.replace(each, num_clones=last))
        console.say(f'{name}: was finished before')
        continue
      shutil.rmtree(each.run.train_dir, ignore_errors=True)  # kills would come at other steps
      console.say(f'{name}: in {each.run.train_dir}')
      sequence = config.replicas if name != UNBROKEN else (1,)
      train_killed(each, sequence, 0 if name == UNBROKEN else config.kills, worker)
  write(config, configs, command)


def configs_of(config: ElasticConfig) -> dict[str, Config]:
  """The three runs.

  Raises:
    ValueError: flags do not go together, e.g. a batch that cannot be divided among the replicas.
  """

  def make(name: str) -> Config:
    return config_lib.training_config(
      NAME,
      config.experiment,
      config.training,
      train_dir=os.path.join(config.experiment.output_dir, 'runs', name),
      sync_batch_norm=name == SYNCHRONIZED,
      deterministic=True,
      clone_on_cpu=config.experiment.setting == 'small',
      num_clones=1,
      log_every_n_steps=1,
      max_to_keep=2,
    )

  configs = {name: make(name) for name in (UNBROKEN, *config.batch_norm)}
  batch = configs[UNBROKEN].batch.batch_size
  for count in config.replicas:
    if batch % count:
      raise ValueError(f'--batch_size={batch} cannot be divided among {count} replicas')
  return {name: flags.replace(each, global_batch_size=batch) for name, each in configs.items()}


# The runs


def records_path(train_dir: str) -> str:
  """Where a run writes down the records of its steps."""
  return os.path.join(train_dir, 'records.jsonl')


class Step(TypedDict):
  """A line of it."""

  step: int
  replicas: int
  record_indices: list[int]


def read_steps(train_dir: str) -> list[Step]:
  """The steps that a run took, those that a kill undid too, in the order in which it took them."""
  return files.read_json_lines(records_path(train_dir), Step)


def train_killed(
  config: Config, replicas: Sequence[int], kills: int, worker: Sequence[str] = _WORKER
) -> None:
  """Trains to the end in processes of which all but the last are killed.

  Args:
    config: of the run.
    replicas: of the starts, in turn.
    kills: how many, evenly over the steps.
    worker: see `run`.

  Raises:
    ValueError: a process ended otherwise.
  """
  train_dir = config.run.train_dir
  os.makedirs(train_dir)
  total = total_steps(config)
  for start in range(kills + 1):
    count = replicas[start % len(replicas)]
    own = flags.flatten(flags.replace(config, num_clones=count))
    flags_path = os.path.join(train_dir, 'flags.json')
    files.write_json(flags_path, own)
    process = subprocess.Popen(
      [*worker, flags_path, records_path(train_dir)],
      env={'TF_CPP_MIN_LOG_LEVEL': '2', **os.environ},  # TensorFlow's start-up chatter
    )
    # In the middle between two of evenly spread checkpoints or not, as it comes.
    last = round(total * (start + 1) / (kills + 1)) if start < kills else None
    while process.poll() is None:
      steps = read_steps(train_dir)
      if last is not None and steps and steps[-1]['step'] >= last:
        process.kill()
        break
      time.sleep(_POLL_SECS)
    status = process.wait()
    if status != (0 if last is None else -9):
      raise ValueError(f'{train_dir}: start {start + 1} ended with status {status}')
    console.say(f'  {count} replica(s): {"killed in" if last else "ended after"} step '
                f'{read_steps(train_dir)[-1]["step"]}')  # fmt: skip


def total_steps(config: Config) -> int:
  """Of a run that begins."""
  from slim_inception.train import run_input
  from slim_inception.train.plan import make_plan

  dataset = run_input.open_dataset(config.data)
  plan = make_plan(config, dataset.num_samples, dataset.num_classes, 1)
  assert plan.total_steps  # `training_config` sees to it
  return plan.total_steps


# What is said of them


class Difference(NamedTuple):
  """How a killed run differs from the unbroken one.

  Attributes:
    steps: of the runs.
    taken: steps that it took, those that it took twice counted twice.
    starts: [(step, replicas)] of each start: the first step of it.
    other_batches: steps whose records were not those of the unbroken run.
    at_change: relative difference of the loss of the first step with other replicas, whose weights
      are those of the unbroken run; 0 where there is none.
    largest: that of any step, by which rounding has grown.
    last: that of the last step.
  """

  steps: int
  taken: int
  starts: list[tuple[int, int]]
  other_batches: list[int]
  at_change: float
  largest: float
  last: float


def compare(
  unbroken: Sequence[Step],
  killed: Sequence[Step],
  losses: Mapping[int, float],
  killed_losses: Mapping[int, float],
) -> Difference:
  """Compares steps and losses {step: loss} of two runs."""
  expected = {step['step']: step['record_indices'] for step in unbroken}
  other = [step['step'] for step in killed if step['record_indices'] != expected[step['step']]]
  starts = [
    (step['step'], step['replicas'])
    for i, step in enumerate(killed)
    if i == 0 or step['step'] != killed[i - 1]['step'] + 1
    or step['replicas'] != killed[i - 1]['replicas']
  ]  # fmt: skip
  off = {step: abs(killed_losses[step] - loss) / abs(loss) for step, loss in losses.items()}
  changed = next((step for step, count in starts if count != unbroken[0]['replicas']), None)
  at_change = off[changed] if changed else 0.0
  return Difference(
    len(expected), len(killed), starts, other, at_change, max(off.values()), off[max(off)]
  )


def statements_of(differences: Mapping[str, Difference]) -> list[str]:
  """Sentences that follow from the numbers."""
  result = []
  for name, each in differences.items():
    replicas = ', '.join(str(count) for _, count in each.starts)
    text = (
      f'{_TITLES[name][0].upper()}{_TITLES[name][1:]}: {len(each.starts) - 1} kills, '
      f'{len(each.starts)} starts with {replicas} replica(s). '
    )
    if each.other_batches:
      text += (
        f'{len(each.other_batches)} of the {each.taken} steps that it took had other records than '
        f'in the unbroken run, the first of them step {min(each.other_batches)}.'
      )
    else:
      text += (
        f'All {each.taken} steps that it took had the records of the unbroken run, also the '
        f'{each.taken - each.steps} that it took twice because a kill had undone them.'
      )
    result.append(
      f'{text} The loss differs from that of the unbroken run by {each.at_change:.2g} of it in the '
      f'first step with other replicas, by at most {each.largest:.2g} in any of {each.steps} '
      f'steps, and by {each.last:.2g} in the last.'
    )
  return result


def write(config: ElasticConfig, configs: Mapping[str, Config], command: str) -> None:
  """Writes the files of the output folder."""
  output_dir = config.experiment.output_dir
  folders = {name: each.run.train_dir for name, each in configs.items()}
  losses = {name: dict(runs.log_of(folder, 'loss')) for name, folder in folders.items()}
  steps = {name: read_steps(folder) for name, folder in folders.items()}
  differences = {
    name: compare(steps[UNBROKEN], steps[name], losses[UNBROKEN], losses[name])
    for name in config.batch_norm
  }
  statements = statements_of(differences)
  base = os.path.join(output_dir, NAME)
  _draw(losses, differences, base)
  files.write_csv(
    os.path.join(output_dir, 'losses.csv'),
    ['step', *losses],
    ([step, *(losses[name][step] for name in losses)] for step in losses[UNBROKEN]),
    line_end='\n',
  )
  model = configs[UNBROKEN].model.model_name
  kernels = (config_json.read(folders[UNBROKEN]) or {}).get('run', {}).get('kernels')
  facts = {'net': model, 'command': command, 'kernels': str(kernels)}
  facts |= runs.facts(output_dir, configs)
  content = {
    'setting': config.experiment.setting,
    'statements': statements,
    'runs': {name: each._asdict() for name, each in differences.items()},
    **facts,
  }
  files.write_json(os.path.join(output_dir, 'results.json'), content)
  path = os.path.join(output_dir, 'page.html')
  page.write(
    path,
    title='Does a killed run see the same batches with other replicas?',
    about=f'The same run three times, {model}, a global batch of '
    f'{configs[UNBROKEN].batch.global_batch_size} images. Setting: {config.experiment.setting}; '
    f'seed {config.experiment.seed}.',
    statements=statements,
    plots=[page.Plot('Loss', f'{base}.svg', 'The first steps of the starts are marked.')],
    header=['run', 'starts', 'steps taken', 'other batches', 'largest difference of the loss'],
    rows=[
      [
        _TITLES[name],
        str(len(each.starts)),
        str(each.taken),
        str(len(each.other_batches)),
        f'{each.largest:.2g}',
      ]
      for name, each in differences.items()
    ],
    facts=facts,
  )
  console.say(*statements, f'written to {path}')


def _draw(
  losses: Mapping[str, Mapping[int, float]], differences: Mapping[str, Difference], base: str
) -> None:
  from slim_inception.evaluate import curves

  reference = losses[UNBROKEN]
  name, difference = next(iter(differences.items()))
  starts, killed = difference.starts[1:], losses[name]
  names = [*(_TITLES[name] for name in losses), 'gone on after a kill']
  ratios = {
    name: curves.Curve([*reference], [of_run[step] / reference[step] for step in reference])
    for name, of_run in losses.items()
  }
  # Points without a line between them.
  at = [x for step, _ in starts for x in (float(step), math.nan)]
  marked = [killed[int(x)] if x == x else x for x in at]
  marked_ratios = [y / reference[int(x)] if x == x else x for x, y in zip(at, marked, strict=True)]
  rows = [
    [
      curves.Panel(
        'loss',
        'steps',
        'loss',
        [
          *(curves.Curve([*of_run], [*of_run.values()]) for of_run in losses.values()),
          curves.Curve(at, marked),
        ],
      )
    ],
    [
      curves.Panel(
        'ratio',
        'steps',
        'loss / that of the unbroken run',
        [*ratios.values(), curves.Curve(at, marked_ratios)],
      )
    ],
  ]
  curves.draw(rows, names, base)


if __name__ == '__main__':
  command_lib.start(sys.modules[__name__])
