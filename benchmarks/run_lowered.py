"""Measures programs of lower_step.py with JAX, beside timm; TensorFlow is not needed.

  python benchmarks/run_lowered.py lowered --timm --output_json=gpu.json

Takes every PROGRAM.stablehlo of the folder. With --timm, timm's net of the same kind takes turns
with it, eager and compiled (channels last, autocast to bfloat16), and this interpreter needs torch
and timm too. Each of them has a process of its own. Rows have the card, the versions, and that the
program is XLA's rather than what TensorFlow's runtime makes of the net. The roofline is a product
of matrices in the program's type; copying is the rate of reading and writing memory.

What fails, or computes what is no number, has a row with the error in place of the rates. The rows
of the others are written all the same, and the exit status is 1.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Else JAX takes three quarters of a card's memory at once, and timm's processes lack it.
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from slim_inception.nets import processor

from slim_inception.bench import timing
from slim_inception.bench.peers import PEERS, PeerProcess, command_of

PROGRAM = 'XLA program of slim-inception'
_TIMM = ('timm', 'timm_compiled')
_SIDES = {'cpu': 1024}  # of the matrices of the roofline
_SIDE = 8192  # elsewhere
_COPIED = 2**26  # numbers


def function_of(program: bytes, facts: Mapping[str, Any], platform: str | None = None) -> Any:
  """A jitted function of the program's inputs, whose values it may overwrite with the new ones.

  Args:
    program: serialized StableHLO.
    facts: what `lower_step.lower` says of it.
    platform: for which it can be compiled; by default JAX's own.
  """
  outputs = specs_of(facts['outputs'])
  same_shapes = jax.jit(
    lambda *_: tuple(jnp.zeros(x.shape, x.dtype) for x in outputs), keep_unused=True
  )
  exported = dataclasses.replace(
    export.export(same_shapes, platforms=platform and [platform])(*specs_of(facts['inputs'])),
    mlir_module_serialized=program,
  )
  return jax.jit(exported.call, donate_argnums=tuple(range(len(outputs) - 1)))


def specs_of(values: Sequence[Mapping[str, Any]], **more: Any) -> list[jax.ShapeDtypeStruct]:
  """Shapes and types of inputs or outputs."""
  return [jax.ShapeDtypeStruct(tuple(x['shape']), x['dtype'], **more) for x in values]


class Step:
  """A program, with the values that it goes on from.

  Args:
    program: serialized StableHLO.
    facts: what `lower_step.lower` says of it.
    values: {variable: value}; random ones, of the scale of fresh weights, where it lacks some.
  """

  def __init__(
    self, program: bytes, facts: Mapping[str, Any], values: Mapping[str, Any] | None = None
  ):
    self._carried = len(facts['outputs']) - 1  # inputs whose new values are outputs
    self._run = function_of(program, facts)
    known = values or {}
    self.arguments = [
      jnp.asarray(known[x['name']]) if x['name'] in known else _make(x, number, facts)
      for number, x in enumerate(facts['inputs'])
    ]

  def start(self) -> jax.Array:
    """Takes a step; returns the loss or the logits, perhaps before they are there."""
    first, *new = self._run(*self.arguments)
    self.arguments[: self._carried] = new
    return first


def _make(one: Mapping[str, Any], seed: int, facts: Mapping[str, Any]) -> jax.Array:
  shape, content, rng = tuple(one['shape']), one['content'], np.random.default_rng(seed)
  if content == 'labels':
    return jnp.asarray(rng.integers(0, facts['num_classes'], shape), one['dtype'])
  if content == 'images':
    return jnp.asarray(rng.uniform(-1, 1, shape), one['dtype'])
  if content == 'normal':
    scale = math.sqrt(2 / max(math.prod(shape[:-1]), 1))
    return jnp.asarray(scale * rng.standard_normal(shape), one['dtype'])
  return (jnp.ones if content == 'ones' else jnp.zeros)(shape, one['dtype'])


def serve(path: Path, warmup_steps: int) -> None:
  """Runs rounds of a program for `timing.take_turns` of another process."""
  facts = facts_of(path)
  step = Step(path.read_bytes(), facts)

  def last_words() -> dict[str, Any]:
    outputs = np.asarray(step.start(), np.float32)
    return {
      'is_finite': bool(np.isfinite(outputs).all()),
      'last_output': float(outputs.flat[0]),
      'peak_bytes': _peak_bytes(),  # before the roofline
      'num_parameters': facts['num_parameters'],
      'version': f'jax {jax.__version__}, lowered by {facts["version"]}',
      **roofline(facts['precision']),
    }

  timing.serve(
    step.start, lambda x: x.block_until_ready(), warmup_steps=warmup_steps, facts=last_words
  )


def facts_of(path: Path) -> dict[str, Any]:
  return json.loads(path.with_suffix('.json').read_text('utf-8'))


def measure(
  path: Path, peers: Sequence[str], warmup_steps: int, rounds: int
) -> list[dict[str, Any]]:
  """The row of a program, then those of the peers; see `rows_of`."""
  facts = facts_of(path)
  serving = ['--serve', os.fspath(path), f'--warmup_steps={warmup_steps}']
  same = ('mode', 'num_classes', 'image_size', 'batch_size', 'precision')
  request = {key: facts[key] for key in same}
  request |= {'on_cpu': jax.default_backend() == 'cpu', 'warmup_steps': warmup_steps}
  commands = {PROGRAM: [sys.executable, __file__, *serving]} | {
    name: command_of(name, facts['model_name'], request, sys.executable) for name in peers
  }
  return rows_of(facts, commands, rounds)


def rows_of(
  facts: Mapping[str, Any], commands: Mapping[str, Sequence[str]], rounds: int
) -> list[dict[str, Any]]:
  """Rows of programs that take turns.

  Args:
    facts: what `lower_step.lower` says of the program.
    commands: {program: what starts a process that ends in `timing.serve`}.

  Returns:
    A row for each, with 'error' in place of rates where it did not start, or where what it computed
    is not finite. Where one fails in a later round, all have.
  """
  known = {'device': _device()} | {
    name: facts[name] for name in ('mode', 'model_name', 'image_size', 'batch_size', 'precision')
  }
  rows = {name: {'program': name, **known} for name in commands}
  with contextlib.ExitStack() as stack:
    running: dict[str, PeerProcess] = {}
    for name, command in commands.items():
      try:
        running[name] = stack.enter_context(PeerProcess(name, command))
      except ValueError as error:
        rows[name]['error'] = str(error)
    try:
      times = timing.take_turns([process.program for process in running.values()], rounds)
      ends = [process.end() for process in running.values()]
    except ValueError as error:  # of one of them, in a later round
      return [{**row, 'error': row.get('error', str(error))} for row in rows.values()]
    for name, own, last in zip(running, times, ends, strict=True):
      if last.pop('is_finite', True):
        rows[name] |= _rates(own, facts['batch_size']) | last
      else:
        rows[name]['error'] = f'after the last round its first output is {last["last_output"]}'
  return [*rows.values()]


def _device() -> str:
  device = jax.local_devices()[0]
  if device.platform != 'cpu':
    return device.device_kind
  return f'{processor.read_name() or "processor"}, {os.cpu_count()} cores'


def _rates(times: timing.Times, images: int) -> dict[str, Any]:
  return {
    'images_per_second': images / times.median,
    'slowest_images_per_second': images / max(times.rounds),
    'fastest_images_per_second': images / min(times.rounds),
    'step_seconds': times.median,
    'first_step_seconds': times.first,
    'rounds': len(times.rounds),
    'stolen_share': statistics.mean(times.stolen),
  }


def _peak_bytes() -> int:
  """Of the device so far; of the process on processors."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get('peak_bytes_in_use') or timing.peak_resident_bytes()


def roofline(precision: str, side: int | None = None) -> dict[str, float]:
  """GFLOP/s of a product of matrices, GB/s of a copy of more than caches hold."""
  side = side or _SIDES.get(jax.default_backend(), _SIDE)
  matrix, numbers = jnp.ones((side, side), precision), jnp.ones(_COPIED, jnp.float32)
  product = jax.jit(jnp.matmul)
  copy = jax.jit(lambda x: x + 1)
  seconds = [_seconds(lambda: product(matrix, matrix)), _seconds(lambda: copy(numbers))]
  return {
    'product_gflops': 2 * side**3 / seconds[0] / 1e9,
    'copy_gbytes': 2 * numbers.nbytes / seconds[1] / 1e9,
  }


def _seconds(start: Callable[[], jax.Array]) -> float:
  finish = lambda x: x.block_until_ready()  # noqa: E731
  return timing.measure(start, finish, warmup_steps=3, num_rounds=3).median


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', type=Path, help='Programs of lower_step.py are here.')
  parser.add_argument('--timm', action='store_true', help='timm takes turns, eager and compiled.')
  parser.add_argument('--num_rounds', type=int, default=10, help='So many rounds count.')
  parser.add_argument('--warmup_steps', type=int, default=5, help='So many steps come before.')
  parser.add_argument('--output_json', type=Path, help='Rows are added to this file.')
  parser.add_argument('--serve', action='store_true', help=argparse.SUPPRESS)
  flags = parser.parse_args()
  if flags.serve:
    return serve(flags.folder, flags.warmup_steps)
  if flags.warmup_steps < 2 or flags.num_rounds < 1:
    parser.error('--warmup_steps is at least 2, --num_rounds at least 1')
  paths = sorted(flags.folder.glob('*.stablehlo'))
  if not paths:
    sys.exit(f'{flags.folder}: there is no program of lower_step.py (*.stablehlo) in it')
  if flags.timm and not importlib.util.find_spec('timm'):
    sys.exit(f'--timm: {sys.executable} has no timm')
  failed = False
  for path in paths:
    nets = [name for name in _TIMM if facts_of(path)['model_name'] in PEERS[name].nets]
    rows = measure(path, nets if flags.timm else (), flags.warmup_steps, flags.num_rounds)
    failed |= any('error' in row for row in rows)
    for row in rows:
      print(json.dumps(row), flush=True)
      if flags.output_json:
        with flags.output_json.open('a', encoding='utf-8') as file:
          print(json.dumps(row), file=file)
  sys.exit(failed)


if __name__ == '__main__':
  main()
