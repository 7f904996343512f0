"""Compares the speed of two checkouts with steps in turns, for machines that are never idle.

  git worktree add ../before HEAD~1
  python benchmarks/compare_checkouts.py --before=../before --mode=train --precision=bfloat16

Each checkout runs in a process of its own and computes a step when it is told to, --num_rounds in
all. Flags are those of slim-inception benchmark with --mode=train or infer. Prints milliseconds,
and the ratio of the times, new to old, with its smallest and largest value in a round.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ.get('COMPARED_CHECKOUT', str(Path(__file__).resolve().parents[1])))

from absl import flags

from slim_inception import flags as config_flags
from slim_inception.bench import config as benchmark_config
from slim_inception.bench import net_rate, timing
from slim_inception.cli import console

_HERE = Path(__file__).resolve().parents[1]
_BEFORE = flags.DEFINE_string('before', None, 'The folder of the other checkout.', required=True)
_WARMUP_STEPS = 3
_READY = 'ready'


def main(arguments: list[str]) -> None:
  config = config_flags.parse(benchmark_config.Config, benchmark_config.resolve)
  if config.mode not in ('train', 'infer'):
    raise ValueError(f'--mode={config.mode}: choose train or infer')
  if 'COMPARED_CHECKOUT' in os.environ:
    return _serve(config)
  before = Path(_BEFORE.value).resolve()
  if not (before / 'slim_inception').is_dir():
    raise ValueError(f'--before={_BEFORE.value}: there is no checkout in this folder')
  servers = [_start(root) for root in (before, _HERE)]
  try:
    rounds = timing.undisturbed(lambda: [_step(server) for server in servers], config.rounds)
  finally:
    for server in servers:
      server.kill()
      server.wait()
  _report(*zip(*(times for times, _ in rounds), strict=True))


def _serve(config: benchmark_config.Config) -> None:
  """Does a step, and says its seconds, for each line on standard input."""

  def serve(start, finish, *_, **unused):
    for _ in range(_WARMUP_STEPS):
      finish(start())
    print(_READY, flush=True)
    for _ in sys.stdin:
      begin = time.perf_counter()
      finish(start())
      print(time.perf_counter() - begin, flush=True)
    sys.exit()

  timing.prepare = timing.measure = serve  # the second is how older checkouts time a net
  {'train': net_rate.train, 'infer': net_rate.infer}[config.mode](config)


def _start(root: Path) -> subprocess.Popen:
  server = subprocess.Popen(
    [sys.executable, __file__, *sys.argv[1:]],
    env={**os.environ, 'COMPARED_CHECKOUT': str(root)},
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  if server.stdout.readline().strip() != _READY:
    raise SystemExit(f'{root}: ended before its first step')
  return server


def _step(server: subprocess.Popen) -> float:
  server.stdin.write('\n')
  server.stdin.flush()
  return float(server.stdout.readline())


def _report(before: tuple[float, ...], after: tuple[float, ...]) -> None:
  ratios = [new / old for old, new in zip(before, after, strict=True)]
  print(
    f'before {statistics.median(before) * 1e3:.0f} ms  after {statistics.median(after) * 1e3:.0f} '
    f'ms  ratio {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})'
  )


def define_flags() -> None:
  config_flags.define(benchmark_config.Config)


if __name__ == '__main__':
  console.run(sys.modules[__name__], ['compare_checkouts', *sys.argv[1:]])
