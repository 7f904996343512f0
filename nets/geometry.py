"""Sizes: how large images must be, and how large and where the features of a body are."""

from collections.abc import Iterable
from typing import NamedTuple

import tensorflow as tf

from .blocks import Body, Branch, Cell


def smallest_input(body: Body, final_endpoint: str | None = None) -> int:
  """Pixels a side of the smallest square image that leaves one pixel at `final_endpoint`.

  None is the end of `body`, the rows of a net; that of Inception-v3 takes 75.
  """
  size = 1
  for unit in reversed(rows_to(body, final_endpoint)):
    size = max(_needed(branch, size) for branch in unit.branches)
  return size


def _needed(branch: Branch, size: int) -> int:
  """Input pixels a side for `size` output pixels."""
  for step in reversed(branch.steps):
    size = (size - 1) * step[0].stride + _window(step)
  return size


def _window(step: Iterable[Cell]) -> int:
  """The pixels a side that an output pixel needs: with SAME padding one is enough."""
  return max(max(cell.kernel) if cell.padding == 'VALID' else 1 for cell in step)


def output_size(body: Body, size: int, max_stride: int | None = None) -> int:
  """Pixels a side of the last feature map of a square image: 8 for Inception-v3 and 299.

  Args:
    body: the rows of a net.
    size: of the image, at least `smallest_input(body)`.
    max_stride: see `build.run_body`.
  """
  stride, rate = 1, 1
  for unit in body:
    is_dilated = max_stride is not None and stride * unit.reduction > max_stride
    for step in unit.branches[0].steps:  # all branches agree
      window = rate * (_window(step) - 1) + 1
      size = (size - window) // (1 if is_dilated else step[0].stride) + 1
    if is_dilated:
      rate *= unit.reduction
    else:
      stride *= unit.reduction
  return size


class Level(NamedTuple):
  """Where the features of one stride of a body come from, and where they lie."""

  row: int  # the last row whose output has the stride
  offset: int  # pixels of the image before the centre of the first feature


def levels(body: Body, max_stride: int | None = None) -> dict[int, Level]:
  """The last output at each stride: {2: ..., 4: ..., 8: ..., 16: ..., 32: ...} for most nets.

  Larger strides than `max_stride` are not there: see `build.run_body`. Feature i of a level lies
  around pixel `offset + stride * i`, counted from 0, where `is_fixed`.
  """
  by_stride, stride, rate, offset = {}, 1, 1, 0
  for number, unit in enumerate(body):
    for step in unit.branches[0].steps:  # all branches agree
      offset += stride * rate * (_window(step) // 2)
    if max_stride is not None and stride * unit.reduction > max_stride:
      rate *= unit.reduction
    else:
      stride *= unit.reduction
    by_stride[stride] = Level(number, offset)
  return {stride: level for stride, level in by_stride.items() if stride > 1}


def is_fixed(body: Body) -> bool:
  """Whether features lie at the same pixels of images of any size.

  They do not where a strided layer pads as much as its input lacks: by SAME.
  """
  cells = (
    cell for unit in body for cell in unit.cells if cell.stride > 1 and cell.kernel != (1, 1)
  )
  return all(cell.padding != 'SAME' for cell in cells)


def rows_to(body: Body, final_endpoint: str | None) -> Body:
  """The rows up to an end point; None is the end.

  Raises:
    ValueError: there is no such end point.
  """
  if final_endpoint is None:
    return body
  ends = {name: number for number, unit in enumerate(body, 1) for name in unit.end_points}
  if final_endpoint not in ends:
    choices = ', '.join(ends)
    raise ValueError(f'Unknown final_endpoint {final_endpoint!r}; choose one of {choices}')
  return body[: ends[final_endpoint]]


def check_size(images: tf.Tensor, rows: Body) -> tf.Tensor:
  """The [N, H, W, C] images; an error where they are too small for the rows.

  Raises:
    ValueError: they are. A side that is unknown while tracing is checked when the function runs,
      and raises tf.errors.InvalidArgumentError then.
  """
  smallest = smallest_input(rows)
  what = rows[-1].end_point or rows[-1].scope
  return check_sides(
    images,
    f'Images of {{}} x {{}} pixels are too small for {what}: the smallest that work are '
    f'{smallest} x {smallest}',
    least=(smallest, smallest),
  )


def check_sides(
  features: tf.Tensor,
  text: str,
  *,
  least: tuple[int, int] = (0, 0),
  most: tuple[int, int] = (2**30, 2**30),
) -> tf.Tensor:
  """The [N, h, w, C] features; an error where a side is too small or too large.

  Args:
    features: N, h and w may be unknown.
    text: of the error, with '{}' for height and for width.
    least: height and width.
    most: height and width.

  Raises:
    ValueError: a side is wrong. One that is unknown while tracing is checked when the function
      runs, and raises tf.errors.InvalidArgumentError then.
  """
  sides = spatial_size(features)
  limits = zip(least, most, sides, strict=True)
  if not all(side is None or low <= side <= high for low, high, side in limits):
    raise ValueError(text.format(*('unknown' if side is None else side for side in sides)))
  if None not in sides:
    return features
  dynamic = tf.shape(features)[1:3]
  is_right = tf.reduce_all((dynamic >= least) & (dynamic <= most))
  before, between, after = text.split('{}')
  parts = [before, dynamic[0], between, dynamic[1], after]
  with tf.control_dependencies([tf.debugging.Assert(is_right, parts)]):
    return tf.identity(features)


def spatial_size(images: tf.Tensor) -> tuple[int | None, int | None]:
  """Static height and width of [N, H, W, C]; None where unknown, whatever TensorShape is about."""
  height, width = tf.TensorShape(images.shape).as_list()[1:3]
  return height, width
