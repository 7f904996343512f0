"""Variables and outputs of the original code, and the weights and images that they belong to.

tests/data/golden/<net>.json lists variables and end points of the original at the size of image
that it names; <net>_golden.npz, which some of the deep ResNets lack, holds its outputs for the
`weights` and `images` below: `logits`, `ep/AuxLogits`, and mean, standard deviation and largest
magnitude of every end point under `sum/`. A value depends on nothing but the variable's name, its
shape and a seed.
"""

import json
import pathlib
import zlib

import numpy as np
import pytest

DATA = pathlib.Path(__file__).parent / 'data' / 'golden'
NAMES = ('inception_v3', 'inception_v4', 'inception_resnet_v1', 'inception_resnet_v2')
DEEP = ('resnet_v1_101', 'resnet_v1_152', 'resnet_v1_200',
        'resnet_v2_101', 'resnet_v2_152', 'resnet_v2_200')  # fmt: skip
# Nets at 224 x 224.
SMALLER = ('inception_v1', 'inception_v2', 'resnet_v1_50', 'resnet_v2_50', *DEEP)
ALL = (*NAMES, *SMALLER)
ALL_OR_SLOW = tuple(
  pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in ALL
)
# Where the code is the same for all: the first net, and in ./run test --all the others.
FIRST_OR_SLOW = (NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:]))
# facenet's net, which the golden of Inception-ResNet-v1 is of, ends in an embedding.
ARGUMENTS = {
  name: {'num_classes': None, 'bottleneck_layer_size': 128}
  if name == 'inception_resnet_v1'
  else {'num_classes': 1000 if name.startswith('resnet_v1') else 1001}
  for name in ALL
}


def reference(name: str) -> dict:
  return json.loads((DATA / f'{name}.json').read_text())


def has_outputs(name: str) -> bool:
  return (DATA / f'{name}_golden.npz').exists()


def outputs(name: str) -> dict[str, np.ndarray]:
  return dict(np.load(DATA / f'{name}_golden.npz'))


def weights(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(zlib.crc32(f'{seed}|{name}'.encode()))
  leaf = name.rsplit('/', 1)[-1]
  if leaf == 'weights':
    value = rng.standard_normal(shape) * np.sqrt(2.0 / int(np.prod(shape[:-1])))
  elif leaf == 'moving_variance':
    value = rng.uniform(0.5, 1.5, shape)
  elif leaf == 'gamma':
    value = rng.uniform(0.8, 1.2, shape)
  else:
    value = rng.standard_normal(shape) * 0.1
  return value.astype(np.float32)


def images(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
  rng = np.random.default_rng(1000 + seed)
  coarse = rng.uniform(-1, 1, (batch, 12, 12, 3))
  rows = np.linspace(0, 11, height).round().astype(int)
  cols = np.linspace(0, 11, width).round().astype(int)
  noise = rng.uniform(-0.2, 0.2, (batch, height, width, 3))
  return np.clip(coarse[:, rows][:, :, cols] + noise, -1, 1).astype(np.float32)


def relative_error(value: np.ndarray, expected: np.ndarray) -> float:
  return float(np.abs(value - expected).max() / np.abs(expected).max())
