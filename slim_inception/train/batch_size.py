"""The largest batch that fits into memory, for --batch_size=auto: tried, not guessed.

A trial is a process of its own that takes steps on noise with the run's net, optimizer and
augmentation, and says what they took at most. What cannot be tried there, the input pipeline and
the run's evaluations, has `MARGIN` of the memory, and what shuffling holds is taken off.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypedDict

from absl import logging

from slim_inception import flags, kernels, memory
from slim_inception.cluster import find_cluster
from slim_inception.datasets import progress_bar
from slim_inception.nets import checkpoint_files
from slim_inception.train import config_json
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import AUTO_BATCH_SIZE

MARGIN = 0.1  # of the memory, which stays free
_STEPS = 2
_FIRST, _SECOND = 4, 16  # images; a line through their peaks says which batch to try next
_MOST_TRIALS = 6
_LARGEST = 1 << 16
_MODULE = 'slim_inception.train.batch_size'


class Trial(TypedDict, total=False):
  """What a trial says.

  Attributes:
    peak_bytes: of the process, or of the fullest GPU; missing where memory ran out. Nothing else
      is there either where the system killed the process for it.
    gpus: that it computed on; 0: on processors.
    shuffle_bytes: what shuffling holds, of the process.
    num_samples: images of the split.
  """

  peak_bytes: int
  gpus: int
  shuffle_bytes: int
  num_samples: int


class Fit(NamedTuple):
  """The largest batch, and the trials that say so: {images: bytes at most, or None}."""

  batch_size: int
  peaks: Mapping[int, int | None]


def resolve(config: Config) -> Config:
  """The configuration with a number for --batch_size=auto: that of the run if it has begun.

  Nothing of TensorFlow is computed in this process before the trials: it would take the GPUs'
  memory.

  Raises:
    ValueError: not even one image fits, a trial went wrong, or there are several workers; on
      processors --memory_limit is missing.
  """
  if config.batch.batch_size != AUTO_BATCH_SIZE:
    return config
  before = config_json.read(config.run.train_dir)
  if before and before.get('batch_size') and checkpoint_files.numbered(config.run.train_dir):
    return flags.replace(config, batch_size=before['batch_size'])
  sizes = [batch for _, _, batch in config.model.image_size_schedule]
  if config.batch.global_batch_size or (sizes and all(sizes)):
    other = 'global_batch_size' if config.batch.global_batch_size else 'image_size_schedule'
    raise ValueError(f'--batch_size=auto has nothing to find: --{other} says the batch')
  if find_cluster(os.environ)[0] is not None:
    raise ValueError(
      "--batch_size=auto is for one process: unset TF_CONFIG, or leave Slurm's job step, to find "
      'a number, and give that to all workers'
    )
  limit = config.devices.memory_limit
  if limit is None and not kernels.physical_gpus(config.devices.clone_on_cpu):
    raise ValueError('--batch_size=auto needs --memory_limit on processors, e.g. 8GB')
  first = try_batch(config, _FIRST)
  if 'num_samples' not in first:
    raise ValueError(
      f'--batch_size=auto: the trial of {_FIRST} images was killed, as the system does where its '
      'memory runs out: use a smaller net or --train_image_size'
    )
  budget = None
  if limit is not None:
    held = 0 if first['gpus'] else first['shuffle_bytes']
    budget = int((1 - MARGIN) * memory.num_bytes(limit)) - held
    if budget <= 0:
      raise ValueError(
        f'--batch_size=auto: shuffling alone holds {memory.as_text(held)} of '
        f'--memory_limit={limit}: choose a smaller --shuffle_buffer_mb, or a larger limit'
      )

  def trial(size: int) -> int | None:
    result = first if size == _FIRST else try_batch(config, size)
    return result.get('peak_bytes')

  fit = find(trial, budget, min(_LARGEST, first['num_samples']))
  tried = ', '.join(
    f'{size} images: {"too much" if peak is None else memory.as_text(peak)}'
    for size, peak in sorted(fit.peaks.items())
  )
  of_limit = '' if budget is None else f' of at most {memory.as_text(budget)}'
  logging.info('--batch_size=auto is %d%s (%s)', fit.batch_size, of_limit, tried)
  return flags.replace(config, batch_size=fit.batch_size)


def find(trial: Callable[[int], int | None], budget: int | None, largest: int) -> Fit:
  """The largest batch that fits, of those that can be told apart in a few trials.

  With a budget a line through the two largest batches that were tried says what to try next, and
  what it says is tried before it is believed. Without one batches are doubled until memory runs
  out. Batches of 16 and more are multiples of 8.

  Args:
    trial: the bytes that a batch takes at most; None: memory ran out.
    budget: that it may take; None: what there is.
    largest: batch to try.

  Raises:
    ValueError: one image does not fit.
  """
  peaks: dict[int, int | None] = {}

  def fits(size: int) -> bool:
    if size not in peaks:
      peaks[size] = trial(size)
    peak = peaks[size]
    return peak is not None and (budget is None or peak <= budget)

  good, bad = 0, largest + 1
  guess = min(_FIRST, largest)
  for _ in range(_MOST_TRIALS + (4 if budget is None else 0)):
    if fits(guess):
      good = guess
    else:
      bad = guess
    guess = _next_guess(peaks, good, bad, budget)
    if not good < guess < bad:
      break
  if not good:
    peak = peaks[1]
    of = '' if budget is None else f' of {memory.as_text(budget)}'
    needs = '' if peak is None else f': it takes {memory.as_text(peak)}'
    raise ValueError(f'--batch_size=auto: not even one image fits into the memory{of}{needs}')
  return Fit(good, peaks)


def _next_guess(peaks: Mapping[int, int | None], good: int, bad: int, budget: int | None) -> int:
  """Between `good`, which fits, and `bad`, which does not; outside: nothing is left to try."""
  measured = sorted((size, peak) for size, peak in peaks.items() if peak is not None)
  if not good:
    return bad // 2 if bad > 1 else 0
  if good < _SECOND < bad and len(measured) == 1:
    return _SECOND
  if budget is not None and len(measured) > 1:
    (size, peak), (larger, more) = measured[-2:]
    slope = (more - peak) / (larger - size)
    guess = int(size + (budget - peak) / slope) if slope > 0 else 2 * good
  else:
    guess = 2 * good if bad > 2 * good else (good + bad) // 2
  guess = min(guess, bad - 1)
  return guess // 8 * 8 if guess >= 16 else guess


def try_batch(config: Config, size: int) -> Trial:
  """A trial with so many images a replica and pass.

  Raises:
    ValueError: it went wrong by anything but memory; has its last line.
  """
  values = {**flags.flatten(config), 'batch_size': size}
  images = f'{size} images take' if size > 1 else 'one image takes'
  with progress_bar.waiting(f'Trying how much memory {images}'):
    done = subprocess.run(
      [sys.executable, '-m', _MODULE],
      input=json.dumps(values),
      capture_output=True,
      text=True,
      check=False,
    )
  if done.returncode == -signal.SIGKILL:  # by the system, where its memory runs out
    return Trial()
  lines = done.stdout.strip().splitlines()
  if done.returncode or not lines:
    reason = (done.stderr.strip().splitlines() or ['it said nothing'])[-1]
    raise ValueError(f'--batch_size=auto: trying {size} images failed: {reason}')
  trial: Trial = json.loads(lines[-1])
  return trial


def measure(config: Config) -> Trial:
  """Steps of a run on noise, in this process, and what they took at most."""
  import tensorflow as tf

  from slim_inception.cluster import gpus_of, make_cluster
  from slim_inception.input import pipeline, record_order, training_batches
  from slim_inception.train import augmentation as augmentation_lib
  from slim_inception.train import run_input, start, trainer
  from slim_inception.train.plan import make_plan
  from slim_inception.train.train_step import TrainStep

  config = start.of_checkpoint(config)
  dataset = run_input.open_dataset(config.data)
  num_classes = pipeline.check_labels(dataset, config.data.labels_offset)
  cluster = make_cluster(config.devices.num_clones, config.devices.clone_on_cpu)
  strategy = cluster.strategy
  gpus = gpus_of(strategy)
  result = Trial(
    gpus=len(gpus),
    num_samples=dataset.num_samples,
    shuffle_bytes=int(
      record_order.shuffle_bytes(dataset, run_input.shuffle_window(config.data, dataset))
    ),
  )
  plan = make_plan(config, dataset.num_samples, num_classes, strategy.num_replicas_in_sync)
  stage = max(plan.stages, key=lambda stage: stage.pass_pixels)
  augmentation = augmentation_lib.make_augmentation(config)
  source = pipeline.Source(dataset, augmentation.preprocessing, augmentation.distortion)
  options = run_input.input_options(config, plan, stage, source, cluster)
  try:
    state, teaching = trainer.make_state(config, plan, dataset, cluster, augmentation)
    passes = stage.accumulate_steps
    step = TrainStep(strategy, state, config, augmentation, teaching=teaching, num_passes=passes)
    batches = iter(
      strategy.distribute_datasets_from_function(
        lambda _: training_batches.noise_batches(source, options)
      )
    )
    for number in range(_STEPS):
      values = step(next(batches), tf.constant(number, tf.int64), tf.constant(0.0))
      float(values.metrics['loss'])
  except tf.errors.OpError as error:
    if not memory.exhausted(error):
      raise
    return result
  if gpus:
    names = [f'GPU:{device.rpartition(":")[2]}' for device in gpus]
    infos = [tf.config.experimental.get_memory_info(name) for name in names]
    result['peak_bytes'] = max(info['peak'] for info in infos)
  else:
    result['peak_bytes'] = memory.peak_resident_bytes()
  return result


def main() -> None:
  """A trial: the configuration comes as JSON on stdin, what it took goes to stdout."""
  values: dict[str, Any] = json.load(sys.stdin)
  print(json.dumps(measure(flags.build(Config, values))))


if __name__ == '__main__':
  main()
