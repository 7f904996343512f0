"""Which images are held out for validation, and what is said of copies."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

from . import conversion, images, sources
from .conversion import Item

DEFAULT_FRACTION = 0.1

Group = TypeVar('Group', bound=Hashable)


def hold_out(
  items: Mapping[Group, list[Item]], fraction: float, seed: int, copies: Sequence[Sequence[Item]]
) -> tuple[dict[Group, list[Item]], dict[Group, list[Item]]]:
  """Holds a share of each class out: at least one image where it has two or more different ones.

  Copies go to one side together, those in another class too. What is known to be no image, or
  cannot be read, is not held out, and does not count.

  Args:
    items: class -> its images.
    fraction: the share, from 0 to below 1.
    seed: of the choice.
    copies: see `duplicates.find`.

  Returns:
    What remains and what is held out, of each class.
  """
  first = {item.filename: group[0].filename for group in copies for item in group}
  is_held: dict[str, bool] = {}  # the first of some copies -> its side
  train, validation = {}, {}
  for name, of_class in items.items():
    groups: dict[str, list[Item]] = {}
    skipped: list[Item] = []
    for item in conversion.shuffled(of_class, seed, 'split'):
      if may_be_image(item):
        groups.setdefault(first.get(item.filename, item.filename), []).append(item)
      else:
        skipped.append(item)
    num_images = len(of_class) - len(skipped)
    count = round(num_images * fraction)
    if fraction and len(groups) > 1:
      count = min(max(count, 1), num_images - 1)
      count = max(count, min(map(len, groups.values())))
    num_held = sum(len(groups[key]) for key in groups if is_held.get(key))
    sides: tuple[list[Item], list[Item]] = [], []
    for key, group in groups.items():
      side = is_held.get(key)
      if side is None:
        side = num_held + len(group) <= count
        num_held += len(group) * side
        if key in first:
          is_held[key] = side
      sides[side].extend(group)
    train[name], validation[name] = [*sides[0], *skipped], sides[1]
  return train, validation


def may_be_image(item: Item) -> bool:
  """Whether nothing that is known without reading it says that it will be skipped."""
  is_readable = not isinstance(item.source, sources.Unreadable)
  has_size = 0 < item.source.size <= images.MAX_BYTES
  return is_readable and has_size and not item.filename.lower().endswith(sources.NO_IMAGES)


def notes_of_copies(
  copies: Sequence[Sequence[Item]], splits: Mapping[str, Sequence[Item]]
) -> list[str]:
  """How many images are equal, how many of these are in two classes, and how many in two splits."""
  split_of = {item.filename: split for split, items in splits.items() for item in items}
  notes = []
  if copies:
    number = sum(len(group) - 1 for group in copies)
    first, second, *_ = copies[0]
    notes.append(
      f'{number:,} images are copies of others, byte for byte, such as {second.filename} of '
      f'{first.filename}'
    )
  for what, part in (('class', lambda i: i.label), ('split', lambda i: split_of[i.filename])):
    apart = [pair for group in copies if (pair := _two_parts(group, part))]
    if apart:
      first, second = apart[0]
      notes.append(
        f'{len(apart):,} images are in more than one {what}, such as {first.filename} = '
        f'{second.filename}'
      )
  return notes


def _two_parts(group: Sequence[Item], part: Callable[[Item], Any]) -> tuple[Item, Item] | None:
  """The first image, and the first of another part; None where all are of one."""
  other = next((item for item in group if part(item) != part(group[0])), None)
  return other and (group[0], other)
