"""Images that are there more than once, byte for byte.

Copies on both sides of a split let a net remember what it is evaluated on; copies in two classes
are labels that contradict each other.
"""

import array
import collections
import hashlib
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import NamedTuple

from . import files, images, sources
from .shard_job import Item

_BLOCK_BYTES = 1 << 20
_END_BYTES = 4096  # of a file; in most formats they differ where anything does
_THREADS, _TASK = 8, 256  # threads that wait for the disk, and files that each takes in one go

_Groups = Sequence[Sequence[Item]]


def find(items: Iterable[Item]) -> list[list[Item]]:
  """The groups of two or more equal files, in the order of their first items.

  Those of equal size alone are looked at, and read as a whole where their ends are equal too. Empty
  files and what cannot be read are equal to nothing.
  """
  with futures.ThreadPoolExecutor(_THREADS) as pool:
    of_size = _divide([list(items)], lambda item: item.source.size or None, pool)
    of_end = _divide(of_size, lambda item: _digest(item, item.source.size - _END_BYTES), pool)
    return _divide(of_end, lambda item: _digest(item, 0), pool)


def _divide(
  groups: _Groups, key: Callable[[Item], Hashable], pool: futures.ThreadPoolExecutor
) -> list[list[Item]]:
  """Parts groups by a key, without the items of which it is None and those that remain alone."""
  items = [item for group in groups for item in group]
  tasks = (items[start : start + _TASK] for start in range(0, len(items), _TASK))
  results = pool.map(lambda task: [key(item) for item in task], tasks)
  values = list(itertools.chain.from_iterable(results))
  # Most of a million are alone: they need no list each, and no place in a dictionary.
  numbers = array.array('q', (number for number, group in enumerate(groups) for _ in group))
  ordered = sorted(map(hash, zip(numbers, values, strict=True)))
  repeated = {one for one, other in itertools.pairwise(ordered) if one == other}
  del ordered
  parts: dict[Hashable, list[Item]] = collections.defaultdict(list)
  for of_item, item in zip(zip(numbers, values, strict=True), items, strict=True):
    if of_item[1] is not None and hash(of_item) in repeated:
      parts[of_item].append(item)
  return [part for part in parts.values() if len(part) > 1]


def _digest(item: Item, start: int) -> bytes | None:
  """Of an image's file from a byte on; None where it cannot be read: the conversion will say so."""
  digest = hashlib.blake2b(digest_size=16)
  try:
    for block in _blocks(item.source, max(0, start)):
      digest.update(block)
  except (OSError, images.BadImageError):
    return None
  return digest.digest()


def _blocks(source: sources.Source, start: int) -> Iterator[bytes]:
  """The bytes of a source from one on; none where it can be read as a whole alone."""
  if isinstance(source, sources.RawImage):
    source = source.planes
  if isinstance(source, sources.File):
    source = sources.Slice(f'{source.folder}/{source.name}', 0, source.size)
  if isinstance(source, sources.Slice):
    for begin in range(start, source.size, _BLOCK_BYTES):
      size = min(_BLOCK_BYTES, source.size - begin)
      yield files.read_at(source.path, source.offset + begin, size)
  elif isinstance(source, sources.Content):
    yield source.content[start:]
  elif not start:
    yield source.read()


# What is done with them


class Copy(NamedTuple):
  """An image that is left out, and the equal one that stays."""

  file: str
  copy_of: str


def drop(
  splits: Mapping[str, Sequence[Item]], copies: Sequence[Sequence[Item]]
) -> tuple[dict[str, list[Item]], list[Copy]]:
  """Leaves copies out: of training what another split has too, and in a split all but the first.

  Args:
    splits: the items of each.
    copies: see `find`.

  Returns:
    The splits without them, and what was left out.
  """
  place_of = {id(item): split for split, items in splits.items() for item in items}
  dropped: dict[int, Copy] = {}
  for group in copies:
    first_of: dict[str, Item] = {}
    for item in group:
      first_of.setdefault(place_of[id(item)], item)
    elsewhere = next((item for split, item in first_of.items() if split != 'train'), None)
    for item in group:
      split = place_of[id(item)]
      kept = elsewhere if split == 'train' and elsewhere else first_of[split]
      if kept is not item:
        dropped[id(item)] = Copy(item.filename, kept.filename)
  rest = {
    split: [item for item in items if id(item) not in dropped] for split, items in splits.items()
  }
  return rest, list(dropped.values())
