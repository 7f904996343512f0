"""What the library knows of a net: one `Net`, which stands in the net's own file."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from .blocks import SEPARABLE, Body, Unit
from .build import Variant
from .folding import batch_norm_parameters
from .heads import Head, weighted

ArgScope = dict[str, Any]
NetworkFn = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]

# Arguments of the functions of all nets.
SHARED_ARGUMENTS = {'inputs', 'num_classes', 'is_training', 'reuse', 'scope'}


class Errors(NamedTuple):
  """Error rates on ImageNet's validation set, in %."""

  top_1: float
  top_5: float


class Paper(NamedTuple):
  """Where a net comes from, and the figures of one net (no ensemble) there."""

  title: str  # of the net, for people
  reference: str
  # 48,238 images, without the 1,762 of the exclude list; of ResNets all 50,000
  one_crop: Errors | None = None
  crops_10: Errors | None = None  # 50,000 images
  crops_12: Errors | None = None  # 50,000 images
  crops_144: Errors | None = None  # 50,000 images
  source: str = 'arXiv:1602.07261, tables 2 to 4'  # of the errors


def no_variant() -> Variant:
  """Of nets whose arguments do not change the body; with a name, so that a `Net` can be pickled."""
  return Variant()


@dataclasses.dataclass(frozen=True)
class Net:
  """A net; `nets_factory.register` makes it known to everything that takes a net's name.

  Args:
    name: what flags and files call it, 'inception_v3'.
    scope: the variable scope of all its variables, 'InceptionV3'.
    body: its rows; the last of its end points is what the head pools.
    head: what follows.
    arg_scope: makes the arg scope of its layers; takes `weight_decay` and `batch_norm_decay`.
    network_fn: builds body and head; slim's signature.
    default_image_size: pixels a side; becomes slim's attribute of `network_fn`, if it has none.
    num_classes: the number of logits where nobody says another.
    preprocessing: what images it is for, a name of `preprocessing_factory`.
    make_variant: of those arguments of the body's function that change how rows are built.
    make_body: of those that change the rows; None: there are none.
    paper: where it comes from.
  """

  name: str
  scope: str
  body: tuple[Unit, ...]
  head: Head
  arg_scope: Callable[..., ArgScope]
  network_fn: NetworkFn
  default_image_size: int = 299
  num_classes: int = 1001
  preprocessing: str = 'inception'
  make_variant: Callable[..., Variant] = no_variant
  make_body: Callable[..., Body] | None = None
  paper: Paper | None = None

  def __post_init__(self):
    vars(self.network_fn).setdefault('default_image_size', self.default_image_size)

  def vary(self, **arguments: Any) -> tuple[Body, Variant]:
    """Its rows and how they are built, with arguments of the body's function."""
    if self.make_body is None:
      return self.body, self.make_variant(**arguments)
    of_variant = set(inspect.signature(self.make_variant).parameters)
    variant = {name: value for name, value in arguments.items() if name in of_variant}
    rest = {name: value for name, value in arguments.items() if name not in of_variant}
    return self.make_body(**rest), self.make_variant(**variant)

  @functools.cached_property
  def has_gamma(self) -> bool:
    """Whether its batch norm scales, with the registry's arg scope."""
    return bool(batch_norm_parameters(self.arg_scope()).get('scale'))

  @property
  def has_residuals(self) -> bool:
    """Whether stochastic depth has something to drop."""
    return any(unit.join == 'add' for unit in self.body)

  @property
  def head_scopes(self) -> tuple[str, ...]:
    """Variable scopes that depend on the number of classes: 'InceptionV3/Logits', ..."""
    return tuple(f'{self.scope}/{scope}' for scope in reversed(self.head.weights))

  @property
  def logits_scope(self) -> str:
    """The layer that makes logits of the pooled features: 'InceptionV3/Logits/Conv2d_1c_1x1'."""
    return f'{self.scope}/{self.head.logits_path}'

  def widths(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Arguments of the function that make the layers of a checkpoint that not every net has.

    Args:
      shapes: {variable: shape} of the checkpoint.
    """
    weights = {arg: f'{self.scope}/{path}/weights' for path, arg in self.head.optional.items()}
    return {arg: shapes[name][-1] for arg, name in weights.items() if name in shapes}

  @property
  def first_weights(self) -> str:
    """The name of the weights that see the image, [3, 3, channels, 32]."""
    leaf = 'depthwise_weights' if self.body[0].cells[0].op == SEPARABLE else 'weights'
    return f'{self.scope}/{self.body[0].scope}/{leaf}'

  @property
  def weighted(self) -> dict[str, tuple[str, ...]]:
    """{row: paths of its layers that have variables} in order of building, those of the head last.

    Rows and paths are within the net's scope.
    """
    return {unit.scope: weighted([unit]) for unit in self.body} | self.head.weights

  @property
  def features(self) -> str:
    """The body's last output: an end point, unless slim does not keep it (`Model.features`)."""
    return self.body[-1].end_point or self.body[-1].scope

  @functools.cached_property
  def arguments(self) -> frozenset[str]:
    """The arguments of `network_fn` that not every net has: 'depth_multiplier', ..."""
    return frozenset(inspect.signature(self.network_fn).parameters) - SHARED_ARGUMENTS

  def select(self, **arguments: Any) -> dict[str, Any]:
    """Those of the arguments that `network_fn` takes."""
    return {name: value for name, value in arguments.items() if name in self.arguments}
