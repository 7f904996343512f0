"""The sizes of training images over a run, by --image_size_schedule, and whether a net takes them.

Small images first, large ones last: "EfficientNetV2" (arXiv:2104.00298, section 4.2) calls it
progressive learning, and "Fixing the train-test resolution discrepancy" (arXiv:1906.06423) has
batch norm estimated anew at the size of evaluation.
"""

import itertools
from typing import NamedTuple

from slim_inception import flags
from slim_inception.nets import geometry, nets_factory, summary
from slim_inception.train.flag_groups import ModelConfig


class Phase(NamedTuple):
  """An entry of --image_size_schedule, or a stair of its ramp.

  Attributes:
    epoch: from which on.
    image_size: pixels a side.
    batch_size: as of --batch_size or, where it is given, of --global_batch_size; 0: as there.
  """

  epoch: float
  image_size: int
  batch_size: int = 0


def phases(config: ModelConfig) -> list[Phase]:
  """The sizes of images and the batches, in their order; the stairs of --image_size_ramp too.

  From an entry of size s to one of size t the ramp has the sizes s, s + ramp, ... below t. They
  part the epochs between the entries evenly, and all but s have the batch of the second entry.
  """
  if not config.image_size_schedule:
    net = nets_factory.get_net(config.model_name)
    return [Phase(0.0, config.train_image_size or net.default_image_size)]
  entries = [Phase(*entry) for entry in config.image_size_schedule]
  if not config.image_size_ramp:
    return entries
  result = []
  for here, there in itertools.pairwise(entries):
    result.append(here)
    sizes = range(here.image_size, there.image_size, config.image_size_ramp)
    for number, size in enumerate(sizes[1:], start=1):
      epoch = here.epoch + number / len(sizes) * (there.epoch - here.epoch)
      result.append(Phase(epoch, size, there.batch_size))
  return [*result, entries[-1]]


def image_size(config: ModelConfig) -> int:
  """Pixels a side of the images of the end of the run."""
  return phases(config)[-1].image_size


def check(config: ModelConfig, with_auxiliary: bool) -> None:
  """Raises ValueError where the net, or its weights, cannot be those of all sizes.

  Args:
    config: the flags.
    with_auxiliary: whether the auxiliary head is trained, whose weights span what a size leaves.
  """
  if not config.image_size_schedule:
    return
  name, schedule = config.model_name, flags.as_text(config.image_size_schedule)
  sizes = sorted({phase.image_size for phase in phases(config)})
  final = image_size(config)
  try:
    weights = {size: _weights(name, size, with_auxiliary) for size in [final, *sizes]}
  except ValueError as error:
    raise ValueError(f'--image_size_schedule={schedule}: {error}') from error
  other = next((size for size in sizes if weights[size] != weights[final]), None)
  if other is None:
    return
  smallest = geometry.smallest_input(nets_factory.get_net(name).body)
  least = next(
    size
    for size in range(smallest, final + 1)
    if _weights(name, size, with_auxiliary) == weights[final]
  )
  raise ValueError(
    f'--image_size_schedule={schedule}: the auxiliary head of {name} has other weights at {other} '
    f'x {other} than at {final} x {final} pixels: choose sizes of at least {least}, or '
    '--aux_loss_weight=0, which leaves that head out'
  )


def _weights(name: str, size: int, with_auxiliary: bool) -> list[tuple]:
  """What tells the variables of a net at a size from those at another."""
  net = summary.summarize(name, size)
  blocks = net.blocks if with_auxiliary else (*net.body, *net.head)
  layers = (layer for block in blocks for layer in block.layers if layer.parameters)
  return [(layer.scope, layer.parameters) for layer in layers]
