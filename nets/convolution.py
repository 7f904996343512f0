"""The convolution of the layers, with a faster gradient where TensorFlow's is slow."""

import contextlib
import contextvars
from collections.abc import Iterator

import tensorflow as tf

from . import processor

# Pixels: up to here filter gradients as a product over patches take half the time of TensorFlow's
# (bfloat16, two cores with AMX, measured when it was introduced); 17 x 17 no less.
_MAX_POSITIONS = 64


def convolve(
  inputs: tf.Tensor,
  weights: tf.Tensor,
  stride: tuple[int, int],
  padding: str,
  rate: tuple[int, int],
  data_format: str,
) -> tf.Tensor:
  """The convolution of [N, H, W, C] with [h, w, C, filters] weights of the same type.

  With `data_format` 'NCHW' inputs are [N, C, H, W]. `stride` and `rate`, the dilation, are down and
  across; one of them is (1, 1).
  """
  if rate != (1, 1):
    # By space-to-batch, as in slim: not every processor has the gradient of a dilated kernel.
    return tf.nn.convolution(
      inputs, weights, padding=padding, data_format=data_format, dilations=rate
    )
  if stride == (1, 1) and data_format == 'NHWC':
    if _sees_all(inputs, weights, padding):
      return _product(inputs, weights)
    if _pays_as_product(inputs, weights):
      return _convolve_with_product_gradient(inputs, weights, padding)
  return tf.nn.conv2d(inputs, weights, stride, padding, data_format=data_format, name='Conv2D')


def _sees_all(inputs: tf.Tensor, weights: tf.Tensor, padding: str) -> bool:
  """Whether the kernel is as large as the image, as in the heads: there is one position."""
  kernel = weights.shape[:2]
  return inputs.shape[1:3] == kernel and (padding == 'VALID' or kernel == (1, 1))


def _product(inputs: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
  """The convolution where the kernel sees all: 40 ms of a step of 2 s less for Inception-v3."""
  filters = weights.shape[-1]
  rows = tf.reshape(inputs, (-1, weights.shape[:3].num_elements()))
  product = tf.linalg.matmul(rows, tf.reshape(weights, (-1, filters)))
  return tf.reshape(product, (-1, 1, 1, filters))


def _pays_as_product(inputs: tf.Tensor, weights: tf.Tensor) -> bool:
  """Whether filter gradients are faster as products: where AMX multiplies tiles of bfloat16.

  With AVX-512's instructions for bfloat16 they are equal (0.99 of the images/s of Inception-v3 and
  0.95 of ResNet-v1-50 in training, AMD EPYC 9005).
  """
  has_unit = _on_cpu() and processor.has_matrix_unit(processor.read_flags())
  if inputs.dtype != tf.bfloat16 or not has_unit:
    return False
  positions = inputs.shape[1:3].num_elements()
  return weights.shape[:2] == (1, 1) or (positions is not None and positions <= _MAX_POSITIONS)


_in_training = contextvars.ContextVar('_in_training', default=False)


@contextlib.contextmanager
def training(is_training: bool) -> Iterator[None]:
  """What is built within is trained, so its gradients count more than that others can take them.

  A SavedModel has no gradients of its own for what is faster in training.
  """
  token = _in_training.set(is_training)
  try:
    yield
  finally:
    _in_training.reset(token)


def is_training() -> bool:
  """Whether `training` is around."""
  return _in_training.get()


_on_this_machine = contextvars.ContextVar('_on_this_machine', default=True)


@contextlib.contextmanager
def compiled_for_gpu() -> Iterator[None]:
  """What is traced within runs on a GPU of another machine: XLA's programs can be taken there."""
  token = _on_this_machine.set(False)
  try:
    yield
  finally:
    _on_this_machine.reset(token)


def _on_cpu() -> bool:
  if not _on_this_machine.get():
    return False
  return all(device.device_type == 'CPU' for device in tf.config.list_physical_devices())


def _convolve_with_product_gradient(
  inputs: tf.Tensor, weights: tf.Tensor, padding: str
) -> tf.Tensor:
  @tf.custom_gradient
  def convolve_(inputs, weights):
    outputs = tf.nn.conv2d(inputs, weights, 1, padding, name='Conv2D')

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      of_inputs = tf.nn.conv2d_transpose(upstream, weights, tf.shape(inputs), 1, padding)
      return of_inputs, filter_gradient(inputs, upstream, weights.shape, padding)

    return outputs, gradient

  return convolve_(inputs, weights)


def add_biases(outputs: tf.Tensor, biases: tf.Tensor, data_format: str) -> tf.Tensor:
  """tf.nn.bias_add; its gradient is a product of matrices on processors, in float32 in training.

  TensorFlow's kernel rounds every partial sum in bfloat16: of 19,600 normal numbers, whose sum
  deviates by 140 from zero, it finds sums that are wrong by up to 86. The product sums in float32,
  in half of the time. In float32 TensorFlow sums in the kernel of the filter's gradient, which is
  slower than both one after the other: see docs/performance.md.
  """
  takes_product = outputs.dtype == tf.bfloat16 or (
    outputs.dtype == tf.float32 and _in_training.get()
  )
  if not takes_product or data_format != 'NHWC' or not _on_cpu():
    return tf.nn.bias_add(outputs, biases, data_format=data_format)

  @tf.custom_gradient
  def add(outputs, biases):
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      rows = tf.reshape(upstream, (-1, biases.shape[0]))
      ones = tf.ones((1, tf.shape(rows)[0]), rows.dtype)
      return upstream, tf.linalg.matmul(ones, rows)[0]

    return tf.nn.bias_add(outputs, biases), gradient

  return add(outputs, biases)


def filter_gradient(
  inputs: tf.Tensor, upstream: tf.Tensor, kernel_shape: tf.TensorShape, padding: str
) -> tf.Tensor:
  """The gradient of a convolution's weights, stride 1, as one product of matrices.

  Args:
    inputs: [N, H, W, C] of the convolution.
    upstream: [N, h, w, filters], the gradient of its output.
    kernel_shape: (rows, columns, C, filters).
    padding: 'SAME' or 'VALID'.

  Returns:
    `kernel_shape`, the type of `inputs`.
  """
  rows, columns, _, filters = kernel_shape
  if padding == 'SAME':
    around = [((side - 1) // 2, side // 2) for side in (rows, columns)]
    inputs = tf.pad(inputs, ((0, 0), *around, (0, 0)))
  height, width = tf.unstack(tf.shape(upstream)[1:3])
  patches = [inputs[:, i : i + height, j : j + width] for i in range(rows) for j in range(columns)]
  patches = patches[0] if len(patches) == 1 else tf.concat(patches, 3)
  product = tf.linalg.matmul(
    tf.reshape(patches, (-1, patches.shape[-1])),
    tf.reshape(upstream, (-1, filters)),
    transpose_a=True,
  )
  return tf.reshape(product, kernel_shape)
