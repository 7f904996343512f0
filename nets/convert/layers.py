"""A layer's weights as plain arrays, and the algebra on them that is exact."""

from typing import NamedTuple

import numpy as np

EPSILON = 0.001  # of batch norm: slim's, facenet's, Keras', torchvision's and timm's nets agree

# An image p in [0, 1] is given to a net as (p - mean) / std.
PREPROCESSINGS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
  'inception': ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),  # [-1, 1]: ours
  'imagenet': ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
  'facenet': ((0.5, 0.5, 0.5), (128 / 255, 128 / 255, 128 / 255)),  # (x - 127.5) / 128 of 0..255
}


class Norm(NamedTuple):
  """Batch norm: gamma * (x - mean) / sqrt(variance + EPSILON) + beta; each [C] float32."""

  beta: np.ndarray
  mean: np.ndarray
  variance: np.ndarray
  gamma: np.ndarray | None = None  # None is 1


class Layer(NamedTuple):
  """A convolution [kh, kw, in, out] or product [in, out], then biases [out] or batch norm."""

  weights: np.ndarray
  biases: np.ndarray | None = None
  norm: Norm | None = None


def has_gamma(layer: Layer) -> bool:
  """Whether batch norm scales, by anything but 1."""
  return (
    layer.norm is not None and layer.norm.gamma is not None and bool(np.any(layer.norm.gamma != 1))
  )


def fold_gamma(layer: Layer) -> Layer:
  """The same layer at inference with gamma 1, for nets whose batch norm has none.

  With W the weights, m, v the moving statistics, g gamma and b beta:

      g * (W x - m) / sqrt(v + eps) + b  =  ((g W) x - (g m)) / sqrt(v + eps) + b

  so W' = g W, m' = g m, and v and b stay: exact for every g, negative ones and 0 included. (To fold
  g into v would need g > 0, and v' = (v + eps) / g^2 - eps may be negative.) v is then not the
  variance of (g W) x, but still what the sum is divided by. In training batch norm divides by the
  deviation of the batch instead, and |g| is lost: to train on, keep gamma
  (`batch_norm_scale=True`), or freeze batch norm.
  """
  norm = layer.norm
  if norm is None or norm.gamma is None:
    return layer
  return layer._replace(
    weights=layer.weights * norm.gamma,  # the last axis is that of the outputs
    norm=norm._replace(mean=norm.mean * norm.gamma, gamma=None),
  )


def fold_preprocessing(layer: Layer, preprocessing: str) -> Layer:
  """The first layer for images in [-1, 1] rather than of `preprocessing`, a key of the table.

  It was trained on u = (p - mean) / std with p in [0, 1], and gets v = 2 p - 1. Per channel
  u = a v + d with a = 1 / (2 std), d = (0.5 - mean) / std, hence

      W u - m  =  (a W) v - (m - sum(d W))    the sum over kernel and input channels

  Exact, in training too, because the first convolution of all four nets is VALID: with padding the
  zeros around the image would have been zeros of u.
  """
  mean, std = (np.asarray(values) for values in PREPROCESSINGS[preprocessing])
  if preprocessing == 'inception' or layer.norm is None:
    return layer
  if layer.weights.shape[2] != len(mean):
    raise ValueError(
      f'Preprocessing {preprocessing!r} is for {len(mean)} channels; the first convolution has '
      f'{layer.weights.shape[2]}'
    )
  weights = layer.weights.astype(np.float64)
  shift = np.einsum('hwio,i->o', weights, (0.5 - mean) / std)
  return layer._replace(
    weights=(weights / (2 * std)[:, np.newaxis]).astype(np.float32),
    norm=layer.norm._replace(mean=(layer.norm.mean - shift).astype(np.float32)),
  )
