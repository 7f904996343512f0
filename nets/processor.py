"""What the processor of this machine has, and which kernels TensorFlow takes on it.

Nothing here needs TensorFlow, whose import is what decides on them: see `slim_inception.kernels`.
"""

import contextlib
import functools
import math
import os
from collections.abc import Mapping, Set
from pathlib import Path

ONEDNN = 'TF_ENABLE_ONEDNN_OPTS'
THREADS = 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS'
_TRUTHS = {'0': False, 'false': False, '1': True, 'true': True}  # as TensorFlow reads it

# Where TensorFlow takes its oneDNN kernels by itself, and where they are ready for bfloat16:
# DefaultOneDnnPolicy and IsDataTypeSupportedByOneDNNOnThisCPU in tensorflow/core/util of 2.21.
_ONEDNN_BY_ITSELF = {
  'avx512_vnni', 'avx512_bf16', 'avx_vnni', 'amx_tile', 'amx_int8', 'amx_bf16',
}  # fmt: skip
# Its own instructions for bfloat16; without them each product is one of float32, with conversions.
_BFLOAT16 = {'avx512_bf16', 'amx_bf16'}

# Instruction sets by what decides on the order of sums, best first.
_INSTRUCTIONS = (
  ('AMX', {'amx_tile', 'amx_bf16'}),
  ('AVX-512 with bfloat16', {'avx512f', 'avx512_bf16'}),
  ('AVX-512', {'avx512f', 'avx512bw', 'avx512vl', 'avx512dq'}),
  ('AVX2', {'avx2', 'fma'}),
  ('AVX', {'avx'}),
)


@functools.cache
def read_flags(path: str | os.PathLike = '/proc/cpuinfo') -> frozenset[str]:
  """The processor's features by Linux' names; none where the system or processor has no such list.

  Args:
    path: as /proc/cpuinfo of an x86 machine.
  """
  return frozenset(_field('flags', path).split())


@functools.cache
def read_name(path: str | os.PathLike = '/proc/cpuinfo') -> str:
  """What the processor calls itself; '' where that is not known."""
  return ' '.join(_field('model name', path).split())


def _field(name: str, path: str | os.PathLike) -> str:
  """The first processor's value."""
  try:
    lines = Path(path).read_text('utf-8', 'replace').splitlines()
  except OSError:
    return ''
  pairs = (line.partition(':') for line in lines)
  return next((value for key, _, value in pairs if key.strip() == name), '')


def read_quota(root: str | os.PathLike = '/sys/fs/cgroup') -> float | None:
  """Processors' time that a container may use, as of `docker run --cpus=2`; None: all there is.

  Args:
    root: where control groups are mounted; version 2, or 1.
  """
  with contextlib.suppress(OSError, ValueError):
    quota, period = (Path(root) / 'cpu.max').read_text('utf-8').split()
    return None if quota == 'max' else int(quota) / int(period)
  with contextlib.suppress(OSError, ValueError):
    names = 'cpu.cfs_quota_us', 'cpu.cfs_period_us'
    quota, period = ((Path(root) / 'cpu' / name).read_text('utf-8') for name in names)
    return int(quota) / int(period) if int(quota) > 0 else None
  return None


def missing_settings(
  flags: Set[str], environment: Mapping[str, str], cores: int = 1, quota: float | None = None
) -> dict[str, str]:
  """What TensorFlow's import should find in the environment beside what the user has set.

  TensorFlow leaves its oneDNN kernels off on processors with AVX2 that have no instructions for
  neural networks. They are the faster ones there: see docs/performance.md. And it starts a thread
  for each core, however little of their time a container may use.

  Args:
    flags: of `read_flags`.
    environment: as os.environ; a setting in it is left as it is.
    cores: that this process may use.
    quota: of `read_quota`.
  """
  settings = {}
  if {'avx2', 'fma'} <= flags and not flags & _ONEDNN_BY_ITSELF:
    settings[ONEDNN] = '1'
  if quota is not None and math.ceil(quota) < cores:
    settings |= dict.fromkeys(THREADS, str(max(math.ceil(quota), 1)))
  return {name: value for name, value in settings.items() if name not in environment}


def kernels(flags: Set[str], environment: Mapping[str, str]) -> str:
  """Whose kernels TensorFlow takes if it is imported with this environment.

  Returns:
    'oneDNN', 'Eigen', or 'default' where only TensorFlow knows: it is no Linux, or no x86.
  """
  chosen = _TRUTHS.get(environment.get(ONEDNN, '').lower())
  if chosen is None and not flags:
    return 'default'
  return 'oneDNN' if (flags & _ONEDNN_BY_ITSELF if chosen is None else chosen) else 'Eigen'


def instructions(flags: Set[str]) -> str:
  """The best instruction set that a kernel can take; '' where nothing is known."""
  return next((name for name, needed in _INSTRUCTIONS if needed <= flags), '')


def has_bfloat16(flags: Set[str]) -> bool:
  """Whether there are instructions for products of bfloat16 numbers."""
  return bool(flags & _BFLOAT16)


def has_matrix_unit(flags: Set[str]) -> bool:
  """Whether it multiplies tiles of bfloat16 numbers (AMX)."""
  return 'amx_bf16' in flags
