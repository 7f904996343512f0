"""Where in an image a class was seen, for nets of any head: gradients, and what is covered.

`activation_maps` is exact where logits are a linear layer of the pooled features. These are for all
nets, for one class of one image at a time:

- Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): the channels of the last feature map, each
  weighted by the mean of the logit's gradient over its pixels; what is negative becomes 0.
- Grad-CAM++ (Chattopadhyay et al. 2018, arXiv:1710.11063): gradients above 0 alone, weighted by
  pixel, so that a class that is there several times is seen in all places.
- Occlusion (Zeiler and Fergus 2014, arXiv:1311.2901): how far the logit falls when a square of the
  image is covered. No gradients, no feature map: the net is asked.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.evaluate import dense
from slim_inception.evaluate.scorer import Scorer
from slim_inception.nets import nets_factory
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net

_LEAST = 1e-12  # below it a denominator is taken for 0
CELLS = 12  # places a side that are covered, one after the other, by a square of two of them


class HeatMap(NamedTuple):
  """A heat map of one class of one image.

  Attributes:
    map: [h, w] float32.
    logit: of the class.
  """

  map: np.ndarray
  logit: float


def logits_and_view(
  model: Model, net: Net, images: tf.Tensor
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
  """A `scorer.LogitsFn` that gives back the views, to be explained when the class is known."""
  del net
  return model(images)[0], {'view': tf.cast(images, tf.float32)}


def _features_and_logits(
  model: Model, net: Net, images: tf.Tensor, watch: Callable[[tf.Tensor], object]
) -> tuple[tf.Tensor, tf.Tensor]:
  """What the head pools, and the logits that are made of it.

  Where the net does not give its features back (ResNet-v2), the logits are made of them here.
  """
  logits, end_points = model(images)
  if net.features in end_points:
    return end_points[net.features], logits
  dense.check_head(model, net, '--explain_method')
  features = model.features(images)
  watch(features)
  weights = model.variables_by_name[f'{net.logits_scope}/weights']
  kernel = tf.cast(tf.reshape(weights, weights.shape[-2:]), features.dtype)
  biases = tf.cast(model.variables_by_name[f'{net.logits_scope}/biases'], features.dtype)
  return features, tf.reduce_mean(features, (1, 2)) @ kernel + biases


def _gradients(
  model: Model, net: Net, images: tf.Tensor, outputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Features [N, h, w, C], the gradients of the logits in them, and these logits [N]; float32."""
  with tf.GradientTape(watch_accessed_variables=False) as tape:
    tape.watch(images)
    features, logits = _features_and_logits(model, net, images, tape.watch)
    chosen = tf.gather(logits, outputs, axis=1, batch_dims=1)
  gradients = tape.gradient(chosen, features)
  return tuple(tf.cast(value, tf.float32) for value in (features, gradients, chosen))


def grad_cam(
  model: Model, net: Net, images: tf.Tensor, outputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Grad-CAM of one class of each image.

  Args:
    model: a classifier.
    net: its entry in the registry.
    images: [N, H, W, C] as the net is given them.
    outputs: [N] integers, which logit.

  Returns:
    Maps [N, h, w], at least 0, and the logits [N], float32.
  """
  features, gradients, logits = _gradients(model, net, images, outputs)
  weights = tf.reduce_mean(gradients, (1, 2), keepdims=True)
  return tf.nn.relu(tf.reduce_sum(weights * features, -1)), logits


def grad_cam_plus_plus(
  model: Model, net: Net, images: tf.Tensor, outputs: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Grad-CAM++ of one class of each image; arguments and result as `grad_cam`.

  The paper takes the exponential of the logit as the score, whose second and third derivatives are
  powers of the gradient of the logit (its equation 19), but for a factor that maps need not have.
  """
  features, gradients, logits = _gradients(model, net, images, outputs)
  sums = tf.reduce_sum(features, (1, 2), keepdims=True)
  denominator = 2 * gradients**2 + sums * gradients**3
  is_some = tf.abs(denominator) > _LEAST
  shares = tf.where(is_some, gradients**2 / tf.where(is_some, denominator, 1), 0)
  weights = tf.reduce_sum(shares * tf.nn.relu(gradients), (1, 2), keepdims=True)
  return tf.nn.relu(tf.reduce_sum(weights * features, -1)), logits


def occlusion_masks(height: int, width: int, cells: int = CELLS) -> np.ndarray:
  """What is left of an image in each of its places: [cells, cells, height, width] bool.

  A cell is in the middle of the square that is covered for it, which is twice as large; at the
  border of the image a part of the square lies outside.
  """
  kept = []
  for side in (height, width):
    starts = np.round((np.arange(cells) - 0.5) * side / cells)[:, np.newaxis]
    ends = np.round((np.arange(cells) + 1.5) * side / cells)[:, np.newaxis]
    kept.append((np.arange(side) < starts) | (np.arange(side) >= ends))
  return kept[0][:, np.newaxis, :, np.newaxis] | kept[1][np.newaxis, :, np.newaxis, :]


GRADIENTS = {'grad_cam': grad_cam, 'grad_cam_plus_plus': grad_cam_plus_plus}
# What the values of a map are.
UNITS = {
  'cam': 'part in the logit',
  'grad_cam': 'Grad-CAM',
  'grad_cam_plus_plus': 'Grad-CAM++',
  'occlusion': 'fall of the logit',
}


class Explainer:
  """A net of an ensemble that explains one class of one image after the other.

  Args:
    scorer: the net, with its checkpoint loaded.
    method: a key of `GRADIENTS`, or 'occlusion'.
    batch_size: images that the net sees at once.
    dtype: that it computes with.
  """

  def __init__(self, scorer: Scorer, method: str, batch_size: int, dtype: tf.DType):
    self._batch_size = batch_size
    net = nets_factory.get_net(scorer.member.model_name)

    @tf.function(autograph=False, reduce_retracing=True)
    def by_gradients(images: tf.Tensor, output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      return GRADIENTS[method](scorer.model, net, tf.cast(images, dtype), output[tf.newaxis])

    @tf.function(autograph=False, reduce_retracing=True)
    def logits_of_covered(image: tf.Tensor, masks: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
      images = image * tf.cast(masks[..., tf.newaxis], image.dtype)
      logits, _ = scorer.model(tf.cast(images, dtype))
      return tf.cast(logits[:, output], tf.float32)

    self._by_gradients = None if method == 'occlusion' else by_gradients
    self._logits_of_covered = logits_of_covered

  def explain(self, view: np.ndarray, output: int) -> HeatMap:
    """The map of one logit.

    Args:
      view: [H, W, C], what the net saw of an image, as it is given it.
      output: which logit.
    """
    image, index = tf.constant(view[np.newaxis]), tf.constant(output)
    if self._by_gradients:
      maps, logits = self._by_gradients(image, index)
      return HeatMap(maps[0].numpy(), float(logits[0]))
    height, width = view.shape[:2]
    cells = min(CELLS, height, width)
    covered = occlusion_masks(height, width, cells).reshape(-1, height, width)
    # The last place is the whole image; batches are equally large: others would be traced anew.
    masks = np.concatenate([covered, np.ones((1, height, width), bool)])
    size = min(self._batch_size, len(masks))
    padded = np.concatenate([masks, np.repeat(masks[-1:], -len(masks) % size, 0)])
    parts = [
      self._logits_of_covered(image, tf.constant(padded[start : start + size]), index).numpy()
      for start in range(0, len(padded), size)
    ]
    logits = np.concatenate(parts)[: len(masks)]
    return HeatMap((logits[-1] - logits[:-1]).reshape(cells, cells), float(logits[-1]))
