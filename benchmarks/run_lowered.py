"""Measures programs of lower_step.py with JAX, beside timm; TensorFlow is not needed.

  python benchmarks/run_lowered.py lowered --timm --output_json=gpu.json

Takes every PROGRAM.stablehlo of the folder. With --timm, timm's net of the same kind takes turns
with it, eager and compiled (channels last, autocast to bfloat16), in processes of this interpreter,
which then needs torch and timm too. Rows have the card, the versions, and that the program is XLA's
rather than what TensorFlow's runtime makes of the net. The roofline is a product of matrices in the
program's type; copying is the rate of reading and writing memory.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from slim_inception.bench import timing
from slim_inception.bench.peers import PEERS, PeerProcess, command_of

PROGRAM = 'XLA program of slim-inception'
_TIMM = ('timm', 'timm_compiled')
_SIDES = {'cpu': 1024}  # of the matrices of the roofline
_SIDE = 8192  # elsewhere


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
    inputs, outputs = (
      [jax.ShapeDtypeStruct(tuple(x['shape']), x['dtype']) for x in facts[name]]
      for name in ('inputs', 'outputs')
    )
    same_shapes = jax.jit(
      lambda *_: tuple(jnp.zeros(x.shape, x.dtype) for x in outputs), keep_unused=True
    )
    exported = dataclasses.replace(
      export.export(same_shapes)(*inputs), mlir_module_serialized=program
    )
    self._carried = len(outputs) - 1  # inputs whose new values are outputs
    carried = tuple(range(self._carried))
    self._run = jax.jit(exported.call, donate_argnums=carried)
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


def measure(
  path: Path, peers: Sequence[str], warmup_steps: int, rounds: int
) -> list[dict[str, Any]]:
  """The row of a program, then those of the peers."""
  facts = json.loads(path.with_suffix('.json').read_text('utf-8'))
  step = Step(path.read_bytes(), facts)
  with contextlib.ExitStack() as stack:
    running = [
      stack.enter_context(PeerProcess(name, _peer_command(name, facts, warmup_steps)))
      for name in peers
    ]
    ours = timing.prepare(step.start, lambda x: x.block_until_ready(), warmup_steps)
    times, *others = timing.take_turns([ours, *(peer.program for peer in running)], rounds)
    last = float(jnp.ravel(step.start())[0])
    if not math.isfinite(last):
      raise ValueError(f'{path}: after {rounds} rounds its first output is {last}')
    rows = [_row(facts, PROGRAM, times) | {'peak_bytes': _peak_bytes()}]
    rows[0] |= {'num_parameters': facts['num_parameters'], 'version': _version(facts)}
    for name, peer, own in zip(peers, running, others, strict=True):
      rows.append(_row(facts, name, own) | peer.end())
  return rows


def _peer_command(name: str, facts: Mapping[str, Any], warmup_steps: int) -> list[str]:
  same = ('mode', 'num_classes', 'image_size', 'batch_size', 'precision')
  request = {key: facts[key] for key in same}
  request |= {'on_cpu': jax.default_backend() == 'cpu', 'warmup_steps': warmup_steps}
  return command_of(name, facts['model_name'], request, sys.executable)


def _row(facts: Mapping[str, Any], program: str, times: timing.Times) -> dict[str, Any]:
  names = ('mode', 'model_name', 'image_size', 'batch_size', 'precision')
  images = facts['batch_size']
  return {
    'program': program,
    'device': jax.local_devices()[0].device_kind,
    **{name: facts[name] for name in names},
    'images_per_second': images / times.median,
    'slowest_images_per_second': images / max(times.rounds),
    'fastest_images_per_second': images / min(times.rounds),
    'step_seconds': times.median,
    'first_step_seconds': times.first,
    'rounds': len(times.rounds),
  }


def _version(facts: Mapping[str, Any]) -> str:
  return f'jax {jax.__version__}, lowered by {facts["version"]}'


def _peak_bytes() -> int:
  """Of the device so far; of the process on processors."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get('peak_bytes_in_use') or timing.peak_resident_bytes()


def roofline(precision: str, side: int | None = None) -> dict[str, float]:
  """GFLOP/s of a product of matrices, GB/s of a copy."""
  side = side or _SIDES.get(jax.default_backend(), _SIDE)
  matrix = jnp.ones((side, side), precision)
  product = jax.jit(jnp.matmul)
  copy = jax.jit(lambda x: x + 1)
  seconds = [_seconds(lambda: product(matrix, matrix)), _seconds(lambda: copy(matrix))]
  return {
    'product_gflops': 2 * side**3 / seconds[0] / 1e9,
    'copy_gbytes': 2 * matrix.nbytes / seconds[1] / 1e9,
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
  flags = parser.parse_args()
  paths = sorted(flags.folder.glob('*.stablehlo'))
  if not paths:
    sys.exit(f'{flags.folder}: there is no program of lower_step.py (*.stablehlo) in it')
  if flags.timm and not importlib.util.find_spec('timm'):
    sys.exit(f'--timm: {sys.executable} has no timm')
  for path in paths:
    model_name = json.loads(path.with_suffix('.json').read_text('utf-8'))['model_name']
    peers = [name for name in _TIMM if flags.timm and model_name in PEERS[name].nets]
    rows = measure(path, peers, flags.warmup_steps, flags.num_rounds)
    rows[0] |= roofline(rows[0]['precision'])
    for row in rows:
      print(json.dumps(row), flush=True)
      if flags.output_json:
        with flags.output_json.open('a', encoding='utf-8') as file:
          print(json.dumps(row), file=file)


if __name__ == '__main__':
  main()
