"""Says what XLA makes of programs of lower_step.py on an H100; no GPU is needed.

  pip install 'jax[cuda13]'
  python benchmarks/compile_lowered.py lowered --output_dir=hlo

XLA compiles for a card that it knows by a description alone, with cuDNN, and without trying which
of cuDNN's algorithms is the fastest. Prints a row of JSON for each program: how many convolutions
go to which of cuDNN's functions, the order of their dimensions (b01f: channels last), products of
matrices with the layers whose they are, kernels of XLA's own, and bytes of the inputs and of what
is in memory beside them. The optimized program is written to PROGRAM.hlo.
"""

import argparse
import collections
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec
from run_lowered import facts_of, function_of, specs_of

H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3"
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  shared_memory_per_core: 233472
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_core_limit: 2048
  threads_per_block_limit: 1024
  threads_per_warp: 32
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  driver_version: "13.0.0"
  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.12.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 12 }
runtime_version { major: 13 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def compiled(path: Path) -> Any:
  """The program as compiled for one H100."""
  card = topologies.get_topology_desc(platform='cuda', target_config=H100, topology='1x1x1')
  there = NamedSharding(topologies.make_mesh(card, (1,), ('cards',)), PartitionSpec())
  facts = facts_of(path)
  function = function_of(path.read_bytes(), facts, 'cuda')
  return function.lower(*specs_of(facts['inputs'], sharding=there)).compile()


def describe(hlo: str) -> dict[str, Any]:
  """How many operations of which kind a program has, as XLA prints it."""

  def count(pattern: str) -> dict[str, int]:
    return dict(collections.Counter(re.findall(pattern, hlo)))

  return {
    'cudnn': count(r'custom_call_target="__cudnn\$(\w+)"'),
    'dimensions': count(r'custom-call\(.*dim_labels=([^,]+),.*__cudnn'),
    'products': count(r'(?: dot\(|__cublas).*op_name="[^"]*?call_exported/([^"]+)"'),
    'kernels': count(r' fusion\(.*kind=k(\w+)'),
  }


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', type=Path, help='Programs of lower_step.py are here.')
  parser.add_argument('--output_dir', type=Path, help='Optimized programs are written into it.')
  flags = parser.parse_args()
  os.environ.setdefault('JAX_SKIP_CUDA_CONSTRAINTS_CHECK', '1')  # there is no driver,
  jax.config.update('jax_platforms', 'cpu')
  # nor a card on which algorithms could be tried.
  os.environ['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} --xla_gpu_autotune_level=0'
  paths = sorted(flags.folder.glob('*.stablehlo'))
  if not paths:
    sys.exit(f'{flags.folder}: there is no program of lower_step.py (*.stablehlo) in it')
  for path in paths:
    program = compiled(path)
    hlo, memory = program.as_text(), program.memory_analysis()
    row = {'program': path.stem, **describe(hlo)}
    row |= {'input_bytes': memory.argument_size_in_bytes, 'other_bytes': memory.temp_size_in_bytes}
    print(json.dumps(row), flush=True)
    if flags.output_dir:
      flags.output_dir.mkdir(parents=True, exist_ok=True)
      (flags.output_dir / f'{path.stem}.hlo').write_text(hlo, 'utf-8')


if __name__ == '__main__':
  main()
