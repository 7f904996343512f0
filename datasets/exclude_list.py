"""Images that are left out, by name: `--exclude_list` of conversion and evaluation.

Lists of names are such as people write: with or without folders, with or without extension, and
Hugging Face's files of ImageNet have the synset behind theirs; `Names` compares what both sides
say: `val/n01751748/ILSVRC2012_val_00000001_n01751748.JPEG` is `ILSVRC2012_val_00000001`.

Tables are what `slim-inception doctor` writes: a row names an image of a split exactly, and counts
where its column `exclude` says yes.
"""

import collections
import csv
import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from absl import logging

from . import files

IMAGENET_2014 = 'imagenet_2014'
VALIDATION_NAME = 'ILSVRC2012_val_{:08d}'
_IMAGENET_2014_FILE = 'ILSVRC2014_clsloc_validation_blacklist.txt'
_EXTENSION = re.compile(r'\.(jpe?g|png|gif|bmp|webp|tiff?|ppm)$', re.IGNORECASE)
_SYNSET_SUFFIX = re.compile(r'^(ILSVRC2012_(?:val|test)_\d{8}|n\d{8}_\d+)_n\d{8}$')

# Columns of a table.
FILENAME, SPLIT, EXCLUDE = 'filename', 'split', 'exclude'
YES, NO = 'yes', 'no'
_DELIMITERS = ',;\t'  # spreadsheets write what the language of the system says


def _parts(name: str) -> tuple[str, ...]:
  """Folders and file name, this without extension and Hugging Face's suffix."""
  *folders, last = name.replace('\\', '/').rstrip('/').split('/')
  last = _SYNSET_SUFFIX.sub(r'\1', _EXTENSION.sub('', last))
  return (*(folder for folder in folders if folder not in ('', '.')), last)


class Names:
  """A list of names that images are looked up in.

  A name with fewer folders than the other is compared from its end: `1.jpg` in a list stands for
  the `1.jpg` of every folder, `cats/1.jpg` for one.

  Attributes:
    flag: what the user gave, for messages.
    names: of the list.
  """

  def __init__(self, flag: str, names: Iterable[str]):
    self.flag, self.names = flag, tuple(names)
    self._by_last: dict[str, list[tuple[int, tuple[str, ...]]]] = collections.defaultdict(list)
    for index, name in enumerate(self.names):
      parts = _parts(name)
      self._by_last[parts[-1]].append((index, parts))

  def find(self, filename: str) -> list[int]:
    """The entries that name this file: their numbers in the list."""
    if not filename:
      return []
    mine = _parts(filename)
    return [
      index
      for index, parts in self._by_last.get(mine[-1], ())
      if parts[-len(mine) :] == mine[-len(parts) :]
    ]

  def find_all(self, filenames: Sequence[str]) -> list[list[int]]:
    """`find` of each file; ValueError where the list names none of them."""
    entries = [self.find(name) for name in filenames]
    if any(entries):
      return entries
    raise _names_none(self.flag, self.names, filenames)


def _names_none(flag: str, names: Sequence[str], filenames: Sequence[str]) -> ValueError:
  named = [name for name in filenames if name]
  return ValueError(
    f'{flag} names none of the {len(filenames):,} images: it has {files.some(names, 2)}, the '
    f'records have {files.some(named, 2) if named else "no names (image/filename)"}'
  )


class Excluded:
  """Images to be left out: a list of names, which stand for images of any split."""

  def __init__(self, flag: str, names: Iterable[str]):
    self._names = Names(flag, names)

  def is_excluded(self, filename: str, split: str) -> bool:
    """Whether a file of a split is named."""
    del split
    return bool(self._names.find(filename))

  def check_used(self, filenames: Sequence[str], split: str) -> str:
    """Compares the list with all images of a split, or of a source if `split` is ''.

    Returns:
      What to tell the user of entries that name no image; '' where all of them do.

    Raises:
      ValueError: no entry names an image.
    """
    del split
    used = set(itertools.chain(*self._names.find_all(filenames)))
    unused = [name for index, name in enumerate(self._names.names) if index not in used]
    return _note_of_unused(self._names.flag, unused, len(self._names.names))


class ExcludedOfTable(Excluded):
  """As above, of a table: an image is the one of that very name in the split of its row.

  Args:
    flag: what the user gave, for messages.
    splits: {name as a table has it: splits, '' for any}.
  """

  def __init__(self, flag: str, splits: Mapping[str, frozenset[str]]):
    self._flag, self._splits = flag, splits

  def is_excluded(self, filename: str, split: str) -> bool:
    """Whether a row is of this file; with '' for the split whether one of any split is."""
    splits = self._splits.get(files.csv_cell(filename)) if filename else None
    return splits is not None and (not split or split in splits or '' in splits)

  def check_used(self, filenames: Sequence[str], split: str) -> str:
    """See `Excluded`; a table without rows of this split names none of it, which is no error."""
    rows = [
      name for name, splits in self._splits.items() if not split or splits & frozenset([split, ''])
    ]
    if not rows:
      return f'{self._flag} leaves out no image{f" of {split}" if split else ""}'
    present = {files.csv_cell(name) for name in filenames if name}
    unused = [name for name in rows if name not in present]
    if len(unused) == len(rows):
      raise _names_none(self._flag, rows, filenames)
    return _note_of_unused(self._flag, unused, len(rows))


def warn_of_unused(leaves_out: Excluded, filenames: Sequence[str]) -> None:
  """`check_used` of all images of a source; what there is to tell is a warning."""
  if note := leaves_out.check_used(filenames, ''):
    logging.warning('%s', note)


def _note_of_unused(flag: str, unused: Sequence[str], count: int) -> str:
  note = f'{flag}: {len(unused):,} of {count:,} entries name no image: {files.some(unused, 3)}'
  return note if unused else ''


def read(name_or_path: str) -> Excluded:
  """Reads a list of images to be left out.

  Args:
    name_or_path: 'imagenet_2014', the 1,762 validation images that the Inception-v4 paper's
      single-crop table leaves out; a text file of names, one a line; or a CSV table, see above.

  Raises:
    OSError: there is no such file.
    ValueError: it is empty or no UTF-8 text, or a damaged table.
  """
  flag = f'--exclude_list={name_or_path}'
  if name_or_path == IMAGENET_2014:
    path = resources.files(__package__) / 'data' / _IMAGENET_2014_FILE
    numbers = path.read_text('utf-8').split()
    return Excluded(flag, [VALIDATION_NAME.format(int(number)) for number in numbers])
  expected = (
    f'{IMAGENET_2014}, a text file of image names, one a line, or a table of slim-inception doctor'
  )
  text = read_text(flag, name_or_path, expected)
  for delimiter in _DELIMITERS:
    header = next(csv.reader(text.splitlines()[:1], delimiter=delimiter), [])
    if FILENAME in header and EXCLUDE in header:
      return ExcludedOfTable(flag, _rows(flag, text, delimiter))
  names = tuple(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))
  if not names:
    raise ValueError(f'{flag} is empty; expected {expected}')
  return Excluded(flag, names)


def _rows(flag: str, text: str, delimiter: str) -> dict[str, frozenset[str]]:
  """{name: splits} of the rows that leave an image out."""
  splits: dict[str, set[str]] = collections.defaultdict(set)
  reader = csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter, strict=True)
  try:
    for row in reader:
      answer = (row[EXCLUDE] or '').strip().lower()
      if answer not in (YES, NO, ''):
        raise ValueError(f'{EXCLUDE} is {row[EXCLUDE]!r}; expected {YES} or {NO}')
      if answer == YES and row[FILENAME]:
        splits[row[FILENAME]].add((row.get(SPLIT) or '').strip())
  except (csv.Error, ValueError) as error:
    raise ValueError(f'{flag}, line {reader.line_num}: {error}') from error
  return {name: frozenset(of_name) for name, of_name in splits.items()}


def read_text(what: str, path: str, expected: str) -> str:
  """The text of a file that a flag names.

  Args:
    what: the flag and its value, for messages.
    path: of the file.
    expected: what it should be.

  Raises:
    OSError: there is no such file.
    ValueError: it is no UTF-8 text.
  """
  try:
    return files.decoded(Path(path).read_bytes())
  except FileNotFoundError:
    raise FileNotFoundError(f'{what}: no such file; expected {expected}') from None
  except UnicodeDecodeError:
    raise ValueError(f'{what} is no UTF-8 text; expected {expected}') from None
