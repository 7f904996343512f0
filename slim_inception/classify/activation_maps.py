"""Class activation maps (Zhou et al. 2016, arXiv:1512.04150): where a class was seen.

The nets pool their last feature map by its mean and make logits of that by one linear layer. The
two can change places: the layer at each pixel of the map, then the mean. What it gives there is the
part of that pixel in the logit, and the mean over the pixels plus the bias is the logit: nothing is
approximated, and no gradients are needed.
"""

import numpy as np
import tensorflow as tf

from slim_inception.evaluate import dense
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net

_TOLERANCE = 1e-3  # of logits, relative to the largest: sums in another order


def logits_and_maps(
  model: Model, net: Net, images: tf.Tensor
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
  """Logits and what they are made of: a `scorer.LogitsFn`.

  Args:
    model: a classifier.
    net: its entry in the registry.
    images: [N, H, W, C] as the net is given them.

  Returns:
    Logits [N, num_classes]; and 'logits', the same, 'maps' [N, h, w, num_classes] and 'biases'
    [N, num_classes], those of the layer for each image, float32.

  Raises:
    ValueError: there are other layers between pooling and logits.
  """
  dense.check_head(model, net, '--explain_method=cam')
  logits, end_points = model(images)
  features = end_points[net.features] if net.features in end_points else model.features(images)
  features = tf.cast(features, tf.float32)
  weights = model.variables_by_name[f'{net.logits_scope}/weights']
  kernel = tf.reshape(weights, weights.shape[-2:])  # of a 1 x 1 convolution: 1, 1, before
  maps = tf.einsum('nhwc,ck->nhwk', features, kernel)
  biases = tf.broadcast_to(model.variables_by_name[f'{net.logits_scope}/biases'], tf.shape(logits))
  return logits, {'logits': logits, 'maps': maps, 'biases': biases}


def check(logits: np.ndarray, maps: np.ndarray, biases: np.ndarray, image_size: int) -> None:
  """Compares the maps of an image with the logits that they explain.

  Args:
    logits: [num_classes].
    maps: [h, w, num_classes].
    biases: [num_classes].
    image_size: pixels a side that the net saw, for the message.

  Raises:
    ValueError: they are not the whole of the logits: Inception-v3 pools 8 x 8 pixels of its map,
      and from 331 pixels on there are more.
  """
  difference = np.abs(maps.mean(axis=(0, 1)) + biases - logits).max()
  if difference > _TOLERANCE * max(1.0, np.abs(logits).max()):
    height, width = maps.shape[:2]
    raise ValueError(
      f'--explain_method=cam cannot be exact at {image_size} pixels: this net does not pool all of '
      f'its {height} x {width} pixels there; choose a smaller --eval_image_size, or another method'
    )


def caption(of_class: np.ndarray, bias: float, logit: float) -> str:
  """A line on how a map makes up its logit."""
  sign = '-' if bias < 0 else '+'
  return f'logit {logit:.2f} = mean {of_class.mean():.2f} {sign} bias {abs(bias):.2f}'
