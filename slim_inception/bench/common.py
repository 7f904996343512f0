"""What the measurements share."""

import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from slim_inception import kernels
from slim_inception.bench import peers, photographs, timing
from slim_inception.bench.config import Config
from slim_inception.datasets import runners
from slim_inception.nets import processor
from slim_inception.train import config as config_lib

NUM_CLASSES = 1001

Result = dict[str, Any]


def facts(config: Config, **more: Any) -> Result:
  """What was measured, and where."""
  details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus(config)] or [{}]
  cores = f'{processor.read_name() or "processor"}, {runners.num_cores()} cores'
  return {
    'program': 'slim-inception',
    'version': f'tensorflow {tf.__version__}',
    'device': details[0].get('device_name', cores),
    'kernels': kernels.describe(),
    'model_name': config.model_name,
    'image_size': config.side,
    'batch_size': config.batch_size,
    'precision': config.precision,
    'jit_compile': config.jit_compile,
    'recompute': config.recompute,
    **more,
  }


def figures(times: timing.Times, images: int) -> Result:
  """Rates of steps of so many images: the median, and the slowest and fastest round."""
  return {
    'images_per_second': images / times.median,
    'slowest_images_per_second': images / max(times.rounds),
    'fastest_images_per_second': images / min(times.rounds),
    'step_seconds': times.median,
    'rounds': len(times.rounds),
    'steps_per_round': times.steps_per_round,
    'stolen_share': statistics.mean(times.stolen),
  }


def peer_command(config: Config, name: str, num_classes: int = NUM_CLASSES) -> list[str]:
  """What starts a peer for a measurement of a net with so many classes."""
  request = {
    'mode': config.mode,
    'num_classes': num_classes,
    'image_size': config.side,
    'batch_size': config.batch_size,
    'precision': config.precision,
    'on_cpu': config.clone_on_cpu,
    'warmup_steps': config.warmup_steps,
  }
  python = config.timm_python or sys.executable
  return peers.command_of(name, config.model_name, request, python)


def training_flags(config: Config) -> dict[str, Any]:
  """The flags of a run with these."""
  same = ('recipe', 'model_name', 'batch_size', 'precision', 'jit_compile', 'recompute')
  return {'train_image_size': config.side} | {name: getattr(config, name) for name in same}


def training_config(config: Config) -> config_lib.Config:
  """The configuration of a run with these flags."""
  return config_lib.resolve({'train_dir': 'none', 'dataset_dir': 'none', **training_flags(config)})


def gpus(config: Config) -> list[tf.config.PhysicalDevice]:
  return [] if config.clone_on_cpu else tf.config.list_physical_devices('GPU')


@contextlib.contextmanager
def records(config: Config, **generated: int) -> Iterator[tuple[str, str]]:
  """Name and folder of the records: those given, or generated ones that vanish afterwards."""
  if config.dataset_dir:
    yield config.dataset_name, config.dataset_dir
    return
  with tempfile.TemporaryDirectory(prefix='benchmark-') as folder:
    photographs.write_records(folder, **generated)
    yield 'image_folder', folder
