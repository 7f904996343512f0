"""Compares the speed of two checkouts with rounds in turns, for machines that are never idle.

  git worktree add ../before HEAD~1
  python benchmarks/compare_checkouts.py --before=../before --mode=train --precision=bfloat16

Each checkout runs in a process of its own. Flags are those of slim-inception benchmark with
--mode=train or infer; input pipelines read ahead in the other's turn, so each is measured alone.
Prints the milliseconds of a step, the ratio of the times, new to old, with its smallest and largest
value in a round, and the peak memory of both.

  python benchmarks/compare_checkouts.py --before=. --only_after=--recompute --batch_size=16

compares what a flag does in one checkout.
"""

import contextlib
import os
import shlex
import statistics
import sys
from pathlib import Path

sys.path.insert(0, os.environ.get('COMPARED_CHECKOUT', str(Path(__file__).resolve().parents[1])))

if 'COMPARED_CHECKOUT' in os.environ:
  with contextlib.suppress(ImportError):  # older ones leave the choice to TensorFlow
    from slim_inception import kernels

    kernels.choose()

from absl import flags

from slim_inception import flags as config_flags
from slim_inception.bench import config as benchmark_config
from slim_inception.bench import net_rate, timing
from slim_inception.bench.peers import PeerProcess
from slim_inception.cli import console

_HERE = Path(__file__).resolve().parents[1]
_BEFORE = flags.DEFINE_string('before', None, 'The folder of the other checkout.', required=True)
_ONLY_AFTER = flags.DEFINE_string(
  'only_after', '', 'Flags, with spaces between them, that the newer one has in addition.'
)


def main(_: list[str]) -> None:
  config = config_flags.parse(benchmark_config.Config, benchmark_config.resolve)
  if config.mode not in net_rate.MODES:
    raise ValueError(f'--mode={config.mode}: choose {", ".join(net_rate.MODES)}')
  if 'COMPARED_CHECKOUT' in os.environ:
    return _serve(config)
  if not (Path(_BEFORE.value) / 'slim_inception').is_dir():
    raise ValueError(f'--before={_BEFORE.value}: there is no checkout in this folder')
  with contextlib.ExitStack() as stack:
    processes: list[PeerProcess] = []
    more = shlex.split(_ONLY_AFTER.value)
    for root, own in ((os.path.abspath(_BEFORE.value), []), (str(_HERE), more)):
      command = [sys.executable, __file__, *sys.argv[1:], *own]
      process = PeerProcess(root, command, os.environ | {'COMPARED_CHECKOUT': root})
      processes.append(stack.enter_context(process))
    programs = [process.program for process in processes]
    before, after = (times.rounds for times in timing.take_turns(programs, config.rounds))
    peaks = [process.end()['peak_bytes'] / 1e9 for process in processes]
  ratios = [new / old for old, new in zip(before, after, strict=True)]
  print(
    f'before {statistics.median(before) * 1e3:.0f} ms  after {statistics.median(after) * 1e3:.0f} '
    f'ms  ratio {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})  '
    f'peak memory {peaks[0]:.2f} and {peaks[1]:.2f} GB'
  )


def _serve(config: benchmark_config.Config) -> None:
  sys.path.append(str(_HERE / 'slim_inception' / 'bench'))
  import timing as clock  # this checkout's, with which older ones too are measured

  def serve(start, finish, *_, **unused):
    facts = lambda: {'peak_bytes': clock.peak_resident_bytes()}  # noqa: E731
    clock.serve(start, finish, warmup_steps=config.warmup_steps, facts=facts)
    sys.exit()

  timing.prepare = timing.measure = serve  # the second is how older checkouts time a net
  net_rate.MODES[config.mode](config)


def define_flags() -> None:
  config_flags.define(benchmark_config.Config)


if __name__ == '__main__':
  console.run(sys.modules[__name__], ['compare_checkouts', *sys.argv[1:]])
