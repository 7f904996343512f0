"""Class activation maps (Zhou et al. 2016, arXiv:1512.04150): where a class was seen.

The nets pool their last feature map by its mean and make logits of that by one linear layer. The
two can change places: the layer at each place of the map, then the mean. What it gives there is the
part of that place in the logit, and the mean over the places plus the bias is the logit: nothing is
approximated, and no gradients are needed.
"""

import numpy as np
import tensorflow as tf

from slim_inception.evaluate import dense
from slim_inception.nets.model import Model
from slim_inception.nets.nets_factory import Net

_TOLERANCE = 1e-3  # of logits, relative to the largest: sums in another order


def logits_and_maps(
  model: Model, net: Net, images: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Logits and what they are made of.

  Args:
    model: a classifier.
    net: its entry in the registry.
    images: [N, H, W, 3] in [-1, 1].

  Returns:
    Logits [N, num_classes], maps [N, h, w, num_classes] and biases [num_classes], float32.

  Raises:
    ValueError: there are other layers between pooling and logits.
  """
  dense.check_head(model, net, '--explain')
  logits, end_points = model(images)
  features = tf.cast(end_points[net.body[-1].end_point], tf.float32)
  weights = model.variables_by_name[f'{net.logits_scope}/weights']
  kernel = tf.reshape(weights, weights.shape[-2:])  # of a 1 x 1 convolution: 1, 1, before
  maps = tf.einsum('nhwc,ck->nhwk', features, kernel)
  return logits, maps, tf.convert_to_tensor(model.variables_by_name[f'{net.logits_scope}/biases'])


def check(logits: np.ndarray, maps: np.ndarray, biases: np.ndarray, image_size: int) -> None:
  """Compares maps with the logits that they explain; arguments as `logits_and_maps` gives them.

  Raises:
    ValueError: they are not the whole of the logits: Inception-v3 pools 8 x 8 places, and from 331
      pixels on there are more.
  """
  difference = np.abs(maps.mean(axis=(1, 2)) + biases - logits).max()
  if difference > _TOLERANCE * max(1.0, np.abs(logits).max()):
    raise ValueError(
      f'--explain can not be exact at {image_size} pixels: this net does not pool all of its '
      f'{maps.shape[1]} x {maps.shape[2]} places there; choose a smaller --eval_image_size'
    )
