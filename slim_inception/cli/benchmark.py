"""Measures how fast training, inference, input and start are here, beside other libraries.

  slim-inception benchmark --mode=train --model_name=inception_v3 --batch_size=16
  slim-inception benchmark --mode=infer --precision=bfloat16 --peers=keras,timm \\
    --timm_python=/path/to/python

A table on stdout; --output_json and --output_csv add to files. Rates are the median of the rounds,
with the slowest and the fastest; ours and the peers' take turns, and rounds in which the hypervisor
gave the machine to others are run again. The roofline is the rate of one large 3 x 3 convolution,
measured in the same process.
"""

import contextlib
import os
from typing import TYPE_CHECKING

from absl import logging

from slim_inception import files, flags, kernels
from slim_inception.bench import peers, report, timing
from slim_inception.bench.config import Config, resolve
from slim_inception.bench.peers import PeerProcess
from slim_inception.cli import quiet
from slim_inception.datasets.progress_bar import waiting

if TYPE_CHECKING:  # imports TensorFlow, as do imports in functions here: --help needs none
  from slim_inception.bench.common import Result


def benchmark(config: Config) -> 'list[Result]':
  """Our result, then those of the peers.

  Raises:
    ValueError, OSError: a file, the records or a peer is not as it should be.
  """
  from slim_inception.bench import common, input_rate, net_rate, startup

  if config.output_csv:
    report.check_csv(config.output_csv, config.mode)
  if config.timm_python:
    peers.check_timm(config.timm_python)
  logging.info(
    'Measuring %s: %s, %d x %d pixels, batches of %d, %s, on %s, %s; %d rounds',
    config.mode,
    config.model_name,
    *(config.side, config.side, config.batch_size, config.precision),
    *(common.facts(config)[name] for name in ('device', 'kernels')),
    config.rounds,
  )
  kernels.warn_of_precision(config.precision, bool(common.gpus(config)))
  other_modes = {'input': input_rate.input_rate, 'startup': startup.startup}
  if config.mode in other_modes:
    return [{'mode': config.mode, **other_modes[config.mode](config)}]
  names = config.peers
  if names:  # all of them are in memory at once
    os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')
  with contextlib.ExitStack() as stack:
    commands = {name: common.peer_command(config, name) for name in names}
    running = []
    for name, command in commands.items():
      with waiting(f'{name} starts and warms up'):
        running.append(stack.enter_context(PeerProcess(name, command)))
    ours, others = net_rate.MODES[config.mode](config, [peer.program for peer in running])
    results = [{'mode': config.mode, **ours}]
    for name, peer, times in zip(names, running, others, strict=True):
      results.append(_of_peer(config, name, times, peer.end()))
  return results


def _of_peer(config: Config, name: str, times: timing.Times, facts: 'Result') -> 'Result':
  from slim_inception.bench import common

  return {
    'mode': config.mode,
    **common.facts(config),
    **common.figures(times, config.batch_size),
    'program': name,
    'jit_compile': peers.PEERS[name].compiled,
    'first_step_seconds': times.first,
    **facts,
  }


def define_flags() -> None:
  flags.define(Config)


def main(_: list[str]) -> None:
  config = flags.parse(Config, resolve, prepare=quiet.import_tensorflow)
  results = benchmark(config)
  print(report.table(results))
  for path in filter(None, (config.output_json, config.output_csv)):
    files.make_folder_of(path)
  if config.output_json:
    files.append_json_lines(config.output_json, results)
  if config.output_csv:
    report.append_csv(config.output_csv, results)
