"""A layer's weights as plain arrays, and the algebra on them that is exact."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

NO_WEIGHTS = np.empty(0, np.float32)
CENTER = 127.5  # our nets get (pixel - CENTER) / CENTER of pixels in 0..255


class Norm(NamedTuple):
  """Batch norm: gamma * (x - mean) / sqrt(variance + epsilon) + beta; each [C] float32.

  Epsilon is the net's: 0.001 in Inception nets, slim's, facenet's, Keras' and PyTorch's; 1e-5 in
  ResNets, but 1.001e-5 in those of Keras (`add_to_variance`).
  """

  beta: np.ndarray
  mean: np.ndarray
  variance: np.ndarray
  gamma: np.ndarray | None = None  # None is 1


class Layer(NamedTuple):
  """A convolution [kh, kw, in, out] or product [in, out], then biases [out] or batch norm."""

  weights: np.ndarray  # NO_WEIGHTS: batch norm that stands alone
  biases: np.ndarray | None = None
  norm: Norm | None = None
  pointwise: np.ndarray | None = None  # [1, 1, in * m, out]: `weights` are [kh, kw, in, m]

  @classmethod
  def of(cls, leaves: Mapping[str, np.ndarray]) -> 'Layer':
    """The layer of what `leaves` gives, in float32."""
    values = {leaf: np.asarray(value, np.float32) for leaf, value in leaves.items()}
    weights = values.pop('weights', NO_WEIGHTS)
    biases, pointwise = (values.pop(leaf, None) for leaf in ('biases', 'pointwise'))
    return cls(weights, biases, Norm(**values) if values else None, pointwise)

  def leaves(self) -> dict[str, np.ndarray]:
    """What there is of 'weights', 'biases', 'pointwise', 'beta', 'mean', 'variance', 'gamma'."""
    norm = self.norm._asdict() if self.norm else {}
    weights = self.weights if self.weights.size else None
    own = {'weights': weights, 'biases': self.biases, 'pointwise': self.pointwise}
    leaves = {**own, **norm}
    return {leaf: value for leaf, value in leaves.items() if value is not None}


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
  if norm is None or norm.gamma is None or not layer.weights.size:
    return layer
  return layer._replace(
    weights=layer.weights * norm.gamma,  # the last axis is that of the outputs
    norm=norm._replace(mean=norm.mean * norm.gamma, gamma=None),
  )


def fold_biases(layer: Layer) -> Layer:
  """The same layer without biases before batch norm, which takes them off the mean: exact."""
  if layer.norm is None or layer.biases is None:
    return layer
  norm = layer.norm._replace(mean=layer.norm.mean - layer.biases)
  return layer._replace(biases=None, norm=norm)


def add_to_variance(layer: Layer, difference: float) -> Layer:
  """The same layer for a net whose epsilon is less by `difference`: exact but for rounding."""
  if layer.norm is None or not difference:
    return layer
  variance = np.maximum(layer.norm.variance + np.float32(difference), 0)
  return layer._replace(norm=layer.norm._replace(variance=variance))


def fold_normalization(
  layer: Layer,
  mean: Sequence[float],
  std: Sequence[float],
  own: tuple[Sequence[float], Sequence[float]] = ((CENTER,), (CENTER,)),
) -> Layer:
  """The first layer for images of another normalization, of one trained on (pixel - mean) / std.

  With u the latter and v = (pixel - m) / s what the net is given, m and s those of `own`, per
  channel u = a v + d with a = s / std and d = (m - mean) / std, hence

      W u - m  =  (a W) v - (m - sum(d W))    the sum over kernel and input channels

  Exact, in training too, where the first convolution is VALID or the means are the same: with
  padding the zeros around the image would have been zeros of u.

  Args:
    layer: with [kh, kw, C, out] weights.
    mean: of pixels in 0..255: one for all channels, or C.
    std: likewise.
    own: mean and deviation of what the net is given; 127.5 and 127.5 for [-1, 1].

  Raises:
    ValueError: `mean` or `std` is for another number of channels.
  """
  scale = np.asarray(own[1], np.float64) / std
  shift = (np.asarray(own[0], np.float64) - mean) / std
  if (scale == 1).all() and not shift.any():
    return layer
  channels = layer.weights.shape[2]
  if {len(scale), len(shift)} - {1, channels}:
    raise ValueError(
      f'the first convolution has {channels} channels, the normalization is for {len(shift)}'
    )
  weights = layer.weights.astype(np.float64)
  scaled = (weights * scale[:, np.newaxis]).astype(np.float32)
  constant = (weights * shift[:, np.newaxis]).sum((0, 1, 2)).astype(np.float32)
  if layer.norm is None:
    biases = constant if layer.biases is None else layer.biases + constant
    return layer._replace(weights=scaled, biases=biases)
  norm = layer.norm._replace(mean=layer.norm.mean - constant)
  return layer._replace(weights=scaled, norm=norm)
