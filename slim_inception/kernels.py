"""Chooses TensorFlow's kernels for this machine, before TensorFlow is imported.

Every command does it. In research code:

    from slim_inception import kernels

    kernels.choose()
    import tensorflow as tf

What the environment has already, a user's own TF_ENABLE_ONEDNN_OPTS for example, is left alone.
"""

import os
import sys

from absl import logging

from slim_inception.datasets.runners import num_cores
from slim_inception.nets import processor


def choose() -> str:
  """Sets what TensorFlow's import reads; returns what it will take, as `describe` says it."""
  settings = processor.missing_settings(
    processor.read_flags(), os.environ, num_cores(), processor.read_quota()
  )
  if settings and 'tensorflow' in sys.modules:
    logging.warning(
      'TensorFlow was imported before its kernels could be chosen, which would have been faster '
      'on this machine: set %s',
      ' '.join(f'{name}={value}' for name, value in settings.items()),
    )
  else:
    os.environ.update(settings)
  return describe()


def describe() -> str:
  """What TensorFlow computes with on this processor: 'oneDNN kernels, AVX2'.

  Two machines of the same description give the same bits where TensorFlow's versions are equal; of
  others the last bits differ.
  """
  flags = processor.read_flags()
  whose = processor.kernels(flags, os.environ)
  limit = os.environ.get('ONEDNN_MAX_CPU_ISA') if whose == 'oneDNN' else None
  threads = os.environ.get(processor.THREADS[0])
  parts = (
    f'{whose} kernels',
    processor.instructions(flags),
    limit and f'at most {limit}',
    threads and f'{threads} threads',
  )
  return ', '.join(filter(None, parts))


def precision(clone_on_cpu: bool) -> str:
  """bfloat16 where the first device has instructions for it, else float32.

  Args:
    clone_on_cpu: whether GPUs are left alone.
  """
  import tensorflow as tf  # this module comes before it

  gpus = physical_gpus(clone_on_cpu)
  if not gpus:
    return 'bfloat16' if processor.has_bfloat16(processor.read_flags()) else 'float32'
  # Of CUDA; from Ampere on, which is 8.0, GPUs have them.
  capability = tf.config.experimental.get_device_details(gpus[0]).get('compute_capability')
  return 'float32' if capability and capability < (8, 0) else 'bfloat16'


def physical_gpus(clone_on_cpu: bool) -> list:
  """The GPUs that a run can have, of which it may take some; to ask takes none of their memory.

  Args:
    clone_on_cpu: whether GPUs are left alone.
  """
  import tensorflow as tf  # this module comes before it

  return [] if clone_on_cpu else tf.config.list_physical_devices('GPU')


def warn_of_precision(chosen: str, on_gpu: bool) -> None:
  """Says it where bfloat16 takes longer than float32."""
  if chosen == 'bfloat16' and not on_gpu and not processor.has_bfloat16(processor.read_flags()):
    logging.warning(
      'bfloat16 is slower than float32 on this processor, which has no instructions for it '
      '(AVX-512 BF16 or AMX): --precision=float32'
    )
