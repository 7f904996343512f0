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


def output_size(body: Body, size: int) -> int:
  """Pixels a side of the last feature map of a square image: 8 for Inception-v3 and 299.

  `size` is that of the image, at least `smallest_input(body)`.
  """
  for unit in body:
    for step in unit.branches[0].steps:  # all branches agree
      size = (size - _window(step)) // step[0].stride + 1
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


def check_size(images: tf.Tensor, rows: Body) -> None:
  """Raises ValueError where [N, H, W, C] images are known to be too small for the rows."""
  smallest = smallest_input(rows)
  height, width = spatial_size(images)
  if min(side for side in (height, width, smallest) if side is not None) < smallest:
    raise ValueError(
      f'Images of {height or "unknown"} x {width or "unknown"} pixels are too small for '
      f'{rows[-1].end_point or rows[-1].scope}: the smallest that work are {smallest} x {smallest}'
    )


def spatial_size(images: tf.Tensor) -> tuple[int | None, int | None]:
  """Static height and width of [N, H, W, C]; None where unknown, whatever TensorShape is about."""
  height, width = tf.TensorShape(images.shape).as_list()[1:3]
  return height, width
