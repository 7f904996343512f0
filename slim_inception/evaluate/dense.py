"""Dense evaluation: the net as one large convolution over a whole image.

The global pooling becomes a window that slides over the last feature map, as large as the map that
the net was trained with (8 x 8 at 299 x 299), and the layer of the logits a 1 x 1 convolution:
logits wherever the window fits, which are one position at the net's own size. VGG (arXiv:1409.1556,
section 3.2) and ResNet (arXiv:1512.03385) evaluate so; VGG averages over the mirror image too.
"""

from collections.abc import Callable

import tensorflow as tf

from slim_inception.nets import geometry
from slim_inception.nets.heads import AUX_LOGITS
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net


def dense_logits(model: Model, net: Net, images: tf.Tensor) -> tf.Tensor:
  """Logits of every position that the net's window has on the last feature map.

  Args:
    model: a classifier; `model.image_size` decides how large the window is, and `output_stride` of
      those nets that have it.
    net: its entry in the registry.
    images: [N, H, W, C] in [-1, 1]; H and W may be unknown, and differ from call to call. No side
      may be shorter than `model.image_size`.

  Returns:
    [N, h, w, num_classes] float32; 1 x 1 positions at the model's own size.

  Raises:
    ValueError: there are other layers between pooling and logits, or the images are known to be
      too small.
  """
  check_head(model, net, '--crops=dense')
  features = tf.cast(model.features(images), tf.float32)
  weights = model.variables_by_name[f'{net.logits_scope}/weights']
  biases = model.variables_by_name[f'{net.logits_scope}/biases']
  output_stride = model.config.arguments.get('output_stride')
  window = geometry.output_size(net.body, model.image_size, output_stride)
  for side in geometry.spatial_size(features):
    if side is not None and side < window:
      raise ValueError(
        f'Images are {images.shape[1]} x {images.shape[2]}; the smallest for --crops=dense are '
        f'{model.image_size} x {model.image_size}'
      )
  pooled = tf.nn.avg_pool2d(features, window, 1, 'VALID')
  kernel = tf.reshape(weights, [1, 1, *weights.shape[-2:]])  # of a fully connected layer: no 1, 1
  return tf.nn.bias_add(tf.nn.conv2d(pooled, kernel, 1, 'VALID'), biases)


def check_head(model: Model, net: Net, flag: str) -> None:
  """Raises ValueError, naming the flag that asks, where layers lie between pooling and logits."""
  between = [
    name
    for name in model.variables_by_name
    if name.startswith(net.head_scopes)
    and not name.startswith(net.logits_scope)
    and not name.startswith(f'{net.scope}/{AUX_LOGITS}/')
  ]
  if between:
    raise ValueError(
      f'{flag} needs logits that are made of the pooled features alone; between them lies '
      f'{between[0]}'
    )


def dense_probabilities(
  model: Model,
  net: Net,
  images: tf.Tensor,
  probabilities: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax,
) -> tf.Tensor:
  """Probabilities averaged over all positions, of the images and of their mirror images.

  Within a `tf.function` of signature [1, None, None, C] one trace does for images of all sizes.

  Args:
    model, net, images: see `dense_logits`.
    probabilities: logits to probabilities: tf.nn.softmax or tf.nn.sigmoid.

  Returns:
    [N, num_classes] float32.
  """
  both = tf.concat([images, tf.reverse(images, axis=[2])], axis=0)
  by_position = probabilities(dense_logits(model, net, both))
  images, mirrored = tf.split(tf.reduce_mean(by_position, axis=[1, 2]), 2)
  return (images + mirrored) / 2.0
