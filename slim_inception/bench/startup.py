"""The time from a command to what the user waits for."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from slim_inception.bench.common import Result, facts, gpus, records, training_flags
from slim_inception.bench.config import Config
from slim_inception.datasets.progress_bar import ProgressBar

_ROOT = Path(__file__).parents[2]
_IMPORT = 'from slim_inception.nets import inception, nets_factory'


def startup(config: Config) -> Result:
  """Seconds until the nets are imported, and until the first training step is done."""
  rounds = range(config.rounds)
  with (
    records(config, num_images=256, num_distinct=16) as (name, directory),
    ProgressBar('Measuring', 2 * config.rounds, 'starts') as bar,
  ):
    imports = [_import_seconds() for _ in bar.track(rounds)]
    runs = [_first_step_seconds(config, name, directory) for _ in bar.track(rounds)]
  return {
    **facts(config, num_replicas=config.num_clones or max(1, len(gpus(config)))),
    'import_seconds': sorted(imports),
    # Imports done, records and flags checked: the run describes itself.
    'described_seconds': sorted(described for described, _ in runs),
    'command_to_first_step_seconds': sorted(first for _, first in runs),
  }


def _import_seconds() -> float:
  begin = time.perf_counter()
  subprocess.run(
    [sys.executable, '-c', _IMPORT], env=_environment(), check=True, capture_output=True
  )
  return time.perf_counter() - begin


def _environment() -> dict[str, str]:
  """That of a process that imports this very slim_inception."""
  return {**os.environ, 'PYTHONPATH': os.fspath(_ROOT)}


def _first_step_seconds(config: Config, name: str, directory: str) -> tuple[float, float]:
  """Until a run describes itself, and until its first step is done.

  Raises:
    ValueError: the run ended before; its last words.
  """
  flags = {
    **training_flags(config),
    'dataset_name': name,
    'dataset_dir': directory,
    'num_clones': config.num_clones,
    'clone_on_cpu': config.clone_on_cpu,
    'num_preprocessing_threads': config.num_preprocessing_threads,
    'max_number_of_steps': 1,
    'log_every_n_steps': 1,
  }
  with tempfile.TemporaryDirectory(prefix='benchmark-') as train_dir:
    command = [sys.executable, '-m', 'slim_inception', 'train', f'--train_dir={train_dir}/run']
    command += [f'--{name}={value}' for name, value in flags.items() if value is not None]
    begin = time.perf_counter()
    process = subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE, text=True)
    described, last = None, ''
    try:
      for line in process.stderr or ():
        last = line.strip()
        if described is None and last.startswith(f'{config.model_name} on '):
          described = time.perf_counter() - begin
        if described is not None and last.startswith('step 1/1 '):
          return described, time.perf_counter() - begin
    finally:
      process.kill()  # what comes after the step takes time but is not asked for
      process.communicate()
  raise ValueError(f'slim-inception train ended without a step: {last}')
