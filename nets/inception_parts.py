"""Parts that several nets of the family have: figures with the paper's letters as arguments.

Figures and tables are those of arXiv:1602.07261.
"""

from collections.abc import Callable

import tensorflow as tf

from . import build
from .blocks import Cell, Columns, conv, max_pool, row

# fmt: off
STEM = (                                             # Figure 14 but its end output of 299 x 299 x 3
  row('Conv2d_1a_3x3', conv(32, 3, stride=2)),                            # 149 x 149 x 32
  row('Conv2d_2a_3x3', conv(32, 3, padding='VALID')),                     # 147 x 147 x 32
  row('Conv2d_2b_3x3', conv(64, 3)),                                      # 147 x 147 x 64
  row('MaxPool_3a_3x3', max_pool(3, stride=2)),                           # 73 x 73 x 64
  row('Conv2d_3b_1x1', conv(80, 1)),                                      # 73 x 73 x 80
  row('Conv2d_4a_3x3', conv(192, 3, padding='VALID')),                    # 71 x 71 x 192
)
# fmt: on


def residual_variant(
  activation_fn: Callable[[tf.Tensor], tf.Tensor] | None = tf.nn.relu,
  activation_scale: float | None = None,
  min_depth: int = 16,
  depth_multiplier: float = 1.0,
) -> build.Variant:
  """What arguments of the Inception-ResNets change: see `inception_resnet_v2_base`."""
  variant = build.residual_variant(activation_fn, activation_scale)
  return variant._replace(depth=build.scale_depth(min_depth, depth_multiplier))


def reduction_a(k: int, l: int, m: int, n: int, *, last: str = '') -> Columns:  # noqa: E741
  """Figure 7, whose letters Table 1 gives; 35 x 35 to 17 x 17. `last` names the strided cells."""
  return (
    [conv(n, 3, stride=2, name=last)],
    [conv(k, 1), conv(l, 3), conv(m, 3, stride=2, name=last)],
    [max_pool(3, stride=2)],
  )


def reduction_b(*, left: tuple[int, int], right: tuple[int, int, int]) -> Columns:
  """Figure 8, by the filters of its two columns; 17 x 17 to 8 x 8."""
  a, b = left
  c, d, e = right
  return (
    [conv(a, 1), conv(b, 3, stride=2)],
    [conv(c, 1), conv(c, (1, 7)), conv(d, (7, 1)), conv(e, 3, stride=2)],
    [max_pool(3, stride=2)],
  )


def residual_reduction_b(m: int, n: int) -> Columns:
  """Figures 12 and 18, by the filters in which they differ; 17 x 17 to 8 x 8."""
  return (
    [conv(256, 1), conv(384, 3, stride=2)],
    [conv(256, 1), conv(m, 3, stride=2)],
    [conv(256, 1), conv(m, 3), conv(n, 3, stride=2)],
    [max_pool(3, stride=2)],
  )


def _lone(depth: int) -> list[Cell]:
  return [conv(depth, 1, name='Conv2d_1x1')]  # slim's slip: not Conv2d_0a_1x1


def block_35(m: int, n: int) -> Columns:
  """Figures 10 and 16, by the filters of the two 3 x 3 of the right column."""
  return (
    _lone(32),
    [conv(32, 1), conv(32, 3)],
    [conv(32, 1), conv(m, 3), conv(n, 3)],
  )


def block_17(m: int, n: int) -> Columns:
  """Figures 11 and 17, by the filters of 1 x 7 and 7 x 1."""
  return (
    _lone(n),
    [conv(128, 1), conv(m, (1, 7)), conv(n, (7, 1))],
  )


def block_8(m: int, n: int) -> Columns:
  """Figures 13 and 19, by the filters of 1 x 3 and 3 x 1."""
  return (
    _lone(192),
    [conv(192, 1), conv(m, (1, 3)), conv(n, (3, 1))],
  )
