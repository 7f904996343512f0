"""Preprocessing by name."""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from preprocessing import inception_preprocessing


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """The parts of one way of preprocessing; `inception_preprocessing` documents the signatures."""

  train_host: Callable[..., tf.Tensor]  # file of a picture -> uint8 [h, w, 3]
  train_device: Callable[..., tf.Tensor]  # uint8 [N, h, w, 3] -> [N, h, w, 3] in [-1, 1]
  decode: Callable[..., tf.Tensor]  # file of a picture -> uint8 [h, w, 3], for evaluation
  preprocess_image: Callable[..., tf.Tensor]  # slim's entry, on a decoded picture


_INCEPTION = Preprocessing(
  inception_preprocessing.train_host,
  inception_preprocessing.train_device,
  inception_preprocessing.decode,
  inception_preprocessing.preprocess_image,
)
PREPROCESSING = {
  'inception': _INCEPTION,
  'inception_v3': _INCEPTION,
  'inception_v4': _INCEPTION,
  'inception_resnet_v1': _INCEPTION,
  'inception_resnet_v2': _INCEPTION,
}


def get(name: str) -> Preprocessing:
  """Raises ValueError, listing the valid names, where `name` is none of them."""
  if name not in PREPROCESSING:
    raise ValueError(f'unknown preprocessing {name!r}; valid: {", ".join(PREPROCESSING)}')
  return PREPROCESSING[name]


def get_preprocessing(name: str, is_training: bool = False) -> Callable[..., tf.Tensor]:
  """Slim's signature: returns fn(image, height, width, **kwargs) on one decoded picture."""
  return functools.partial(get(name).preprocess_image, is_training=is_training)
