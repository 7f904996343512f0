"""Preprocessing by name."""

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf

from . import inception_preprocessing


@dataclasses.dataclass(frozen=True)
class Preprocessing:
  """The parts of one way of preprocessing; `inception_preprocessing` documents the signatures."""

  train_host: Callable[..., tf.Tensor]  # file of an image -> uint8 [h, w, channels]
  train_device: Callable[..., tf.Tensor]  # uint8 [N, h, w, C] -> [N, h, w, C] in [-1, 1]
  decode: Callable[..., tf.Tensor]  # file of an image -> uint8 [h, w, channels], for evaluation
  preprocess_image: Callable[..., tf.Tensor]  # slim's entry, on a decoded image


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


def get(name: str, channels: int = 3) -> Preprocessing:
  """A way of preprocessing that decodes images to `channels`: 3 for RGB, 1 for grey.

  Raises:
    ValueError: `name` is none of those there are; lists them.
  """
  if name not in PREPROCESSING:
    raise ValueError(f'unknown preprocessing {name!r}; valid: {", ".join(PREPROCESSING)}')
  found = PREPROCESSING[name]
  if channels == 3:
    return found
  return dataclasses.replace(
    found,
    train_host=functools.partial(found.train_host, channels=channels),
    decode=functools.partial(found.decode, channels=channels),
  )


def get_preprocessing(name: str, is_training: bool = False) -> Callable[..., tf.Tensor]:
  """Slim's signature: returns fn(image, height, width, **kwargs) on one decoded image."""
  return functools.partial(get(name).preprocess_image, is_training=is_training)
