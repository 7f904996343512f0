"""Images that are there more than once, byte for byte.

Copies on both sides of a split let a net remember what it is evaluated on; copies in two classes
are labels that contradict each other.
"""

import collections
import hashlib
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from concurrent import futures

from . import sources
from .shard_job import Item

_END_BYTES = 4096  # of a file; in most formats they differ where anything does
_THREADS, _TASK = 8, 256  # threads that wait for the disk, and files that each takes in one go

_Groups = Iterable[Sequence[Item]]


def find(items: Iterable[Item]) -> list[list[Item]]:
  """The groups of two or more equal files, in the order of their first items.

  Files of equal size alone are opened, and read as a whole where their ends are equal too. Empty
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
  numbered = [(number, item) for number, group in enumerate(groups) for item in group]
  tasks = (numbered[start : start + _TASK] for start in range(0, len(numbered), _TASK))
  keys = pool.map(lambda task: [key(item) for _, item in task], tasks)
  parts: dict[Hashable, list[Item]] = collections.defaultdict(list)
  for (number, item), value in zip(numbered, itertools.chain.from_iterable(keys), strict=True):
    if value is not None:
      parts[number, value].append(item)
  return [part for part in parts.values() if len(part) > 1]


def _digest(item: Item, start: int) -> bytes | None:
  """Of a file from a byte on; None where it cannot be read: the conversion will say so."""
  source = item.source
  if not isinstance(source, sources.File):
    return None
  digest = hashlib.blake2b(digest_size=16)
  try:
    with open(os.path.join(source.folder, source.name), 'rb') as file:
      file.seek(max(0, start))
      while block := file.read(1 << 20):
        digest.update(block)
  except OSError:
    return None
  return digest.digest()
