"""Members of a tar as WebDataset's samples: neighbours whose names are equal up to a dot.

`n02018795_1761.jpg`, `n02018795_1761.cls` and `n02018795_1761.json` are one image with its label.
The key is what stands before the first dot of the file's name, folders included; the rest is the
extension. (https://github.com/webdataset/webdataset, "The WebDataset Format".)
"""

import itertools
import os
from collections.abc import Iterable, Iterator

from . import tars

IMAGES = ('jpg', 'jpeg', 'png', 'webp')  # the first of them that a sample has
LABELS = ('cls', 'json', 'txt')
_MOST_BYTES = 1 << 20  # of a label


def split_name(name: str) -> tuple[str, str]:
  """Key and extension of a member, e.g. ('folder/0001', 'seg.png'); ('', '') where it has none."""
  start = name.rfind('/') + 1
  dot = name.find('.', start)
  return (name[:dot], name[dot + 1 :].lower()) if dot > start else ('', '')


def grouped(members: Iterable[tars.Member]) -> Iterator[dict[str, tars.Member]]:
  """Yields the members of each sample by their extensions, and each other member for itself."""
  keyed = ((*split_name(member.name), member) for member in members)
  for key, of_sample in itertools.groupby(keyed, lambda each: each[0]):
    if key:
      yield {extension: member for _, extension, member in reversed([*of_sample])}
    else:
      yield from ({'': member} for *_, member in of_sample)


def image_in(sample: dict[str, tars.Member]) -> tars.Member | None:
  return next((sample[extension] for extension in IMAGES if extension in sample), None)


def text_of(descriptor: int, member: tars.Member, path: str) -> str:
  """The text of a small member of the tar in `path`.

  Raises:
    ValueError: it is large, or no UTF-8.
  """
  if member.size > _MOST_BYTES:
    raise ValueError(f'{path}: {member.name} has {member.size:,} bytes, which are no label')
  try:
    return os.pread(descriptor, member.size, member.offset).decode().strip()
  except UnicodeDecodeError:
    raise ValueError(f'{path}: {member.name} is no UTF-8 text') from None


def class_of(descriptor: int, member: tars.Member, path: str) -> int:
  """The number in a .cls.

  Raises:
    ValueError: it holds something else.
  """
  text = text_of(descriptor, member, path)
  try:
    return int(text)
  except ValueError:
    raise ValueError(f'{path}: {member.name} is no number of a class: {text!r:.40}') from None
