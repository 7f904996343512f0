"""Lists of images with their labels: CSV, TSV, JSON, lines of JSON, and of paths with numbers.

JSON is a list of objects, or an object of paths and labels. `train.csv` of Kaggle (`id,label`,
beside `train_images/`), `metadata.csv` or `.jsonl` of Hugging Face's image folders (`file_name`),
and one's own. A column is known by its name or named by a flag; a list without a header has the
path first and the label second. Numbers are labels from 0, other texts are names of classes. An
image has several labels where its cell has some with a separator between, where its JSON has a
list, or where several columns say 0 or 1.
"""

import ast
import csv
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from . import conversion, files, folder_layout, json_entries, sources, trees, webdataset
from .listing import Label, LabelledImage, Listing

EXPECTED = 'a list: .csv, .tsv, .json, .jsonl or .txt with a path and a label of each image'
LINES, TABLES, WHOLE = ('.jsonl', '.ndjson'), ('.csv', '.tsv'), ('.json',)
TEXTS = ('.txt',)  # as Caffe has them; they may be anything else, and are not looked for in folders
_SUFFIXES = LINES + TABLES + WHOLE
PATH_COLUMNS = (
  'path', 'file', 'filename', 'file_name', 'filepath', 'file_path', 'image', 'image_path', 'img',
  'img_path', 'image_name', 'image_file', 'image_id', 'fname', 'id', 'name',
)  # fmt: skip
SPLIT_COLUMNS = ('split', 'set', 'subset')
# Lists that are looked for in a folder, by the names before the suffix, beside those of splits.
_NAMES = ('metadata', 'labels', 'manifest', 'annotations', 'data', '_classes')
_ENDINGS = ('', '.jpg', '.jpeg', '.png', '.JPG', '.JPEG', '.webp', '.bmp', '.tif', '.tiff')
_NUMBER = re.compile(r'(-?\d{1,9})(?:\.0+)?')  # also 3.0, as pandas writes numbers with gaps
_SEPARATORS = ('|', ';')  # that no name of a class has; a space is for --label_separator
_LOOKED_AT = 100  # rows, to see where images are and what separates labels
_NOT_THERE = 'there is no such file'


class _Row(NamedTuple):
  line: int
  values: Mapping[str, Any]


class _Columns(NamedTuple):
  """Names of the columns that are read."""

  path: str
  labels: tuple[str, ...]  # several: of each 0 or 1
  split: str | None


def recognize(paths: Sequence[Path]) -> str | None:
  """Why these are lists: columns that name images and labels; see `formats`."""
  for path in find_lists(paths):
    try:
      columns = _columns(path, conversion.Options())
      rows = _first_rows(path)
      _Images(path, rows, columns.path, None, Path('.'), path.parent).root()
    except ValueError:
      if path in paths:
        return f'{files.printable(path.name)} is a list by its name'
      continue
    by = f'{columns.path} and {", ".join(columns.labels)}'
    return f'{files.printable(path.name)} has the columns {by}'
  return None


def recognize_name(paths: Sequence[Path]) -> str | None:
  """Which file is a list by its name, whatever is in it."""
  first = next(iter(find_lists(paths)), None)
  return None if first is None else f'{files.printable(first.name)} is a list by its name'


def find_lists(paths: Sequence[Path]) -> list[Path]:
  """Lists among the paths, and those of usual names in a folder, or else in those of its splits."""
  manifests = []
  for path in paths:
    if path.is_dir():
      splits = [each for each in files.subfolders(path) if folder_layout.split_of(each.name)]
      of_splits = [each for folder in splits for each in _lists_in(folder)]
      manifests += _lists_in(path) or of_splits
    elif path.name.lower().endswith(_SUFFIXES) or _is_list_of_lines(path):
      manifests.append(path)
  return manifests


def _lists_in(folder: Path) -> list[Path]:
  names = sorted(name for name in os.listdir(folder) if name.lower().endswith(_SUFFIXES))
  stems = {name: name.rpartition('.')[0].lower() for name in names}
  return [
    folder / name for name in names if stems[name] in _NAMES or folder_layout.split_of(stems[name])
  ]


def _is_list_of_lines(path: Path) -> bool:
  """Whether a text has an image and something else in its first line of two."""
  if not path.name.lower().endswith(TEXTS):
    return False
  try:
    first = next(_rows(path), None)
  except ValueError:
    return False
  return first is not None and bool(sources.IMAGE_SUFFIX.search(first.values['0']))


def read(paths: Sequence[Path], options: conversion.Options, work_dir: Path) -> Listing:
  """Lists the images that lists name, see `formats`.

  Raises:
    ValueError: a list lacks a column, or names images that are not there.
  """
  manifests = find_lists(paths)
  if not manifests:
    raise ValueError(f'no list in {", ".join(map(str, paths))}; expected {EXPECTED}')
  listing = Listing((), folders=tuple(path for path in paths if path.is_dir()))
  listing.images = _all_images(manifests, paths, options, work_dir, listing)
  return listing


def _all_images(
  manifests: Sequence[Path],
  paths: Sequence[Path],
  options: conversion.Options,
  work_dir: Path,
  listing: Listing,
) -> Iterator[LabelledImage]:
  base = Path(os.path.commonpath([path.parent for path in manifests]))
  for path in manifests:
    try:
      columns = _columns(path, options)
    except ValueError as error:
      if path in paths or len(manifests) == 1:
        raise
      listing.notes.append(f'not used: {error}')
      continue
    split = folder_layout.split_in(path.name.rpartition('.')[0]) or ''
    if not split and path.parent != base:  # train/_classes.csv, valid/_classes.csv
      split = folder_layout.split_of(path.parent.name) or ''
    yield from _images(path, base, columns, split, options, work_dir, listing)


def _images(
  path: Path,
  base: Path,
  columns: _Columns,
  of_list: str,
  options: conversion.Options,
  work_dir: Path,
  listing: Listing,
) -> Iterator[LabelledImage]:
  rows = _first_rows(path)
  images = _Images(path, rows, columns.path, options.image_root, work_dir, base)
  listing.notes.append(f'{path}: images lie in {images.root()}')
  if isinstance(images.archive, trees.Archives):
    listing.unusable += images.archive.unusable
  separator = options.label_separator or _separator(rows, columns)
  if separator and not options.label_separator:
    listing.notes.append(f'{path}: {separator!r} separates the labels of an image')
  label_of = _label_reader(columns, separator)
  for row in _rows(path, listing.unusable):
    name, where = _path_in(row, columns.path), f'{path}, line {row.line}'
    if not name:
      listing.unusable.append((where, f'no path of an image in {columns.path!r}'))
      continue
    split = of_list
    if columns.split and (said := row.values.get(columns.split)):
      split = folder_layout.split_of(str(said)) or ''
      if not split:
        raise ValueError(f'{where}: {said!r} is no split; expected train, validation or test')
    filename, source = images.find(name)
    yield LabelledImage(files.readable(filename), label_of(row.values, where), split, source)


# Rows and columns


def _open(path: Path) -> Any:
  with open(path, 'rb') as file:
    is_wide = file.read(2) in (b'\xff\xfe', b'\xfe\xff')
  return open(path, encoding='utf-16' if is_wide else 'utf-8-sig', newline='')


def _rows(path: Path, unusable: list[tuple[str, str]] | None = None) -> Iterator[_Row]:
  """The rows of a list, each by the names of its columns; those that are none go to `unusable`.

  Raises:
    ValueError: this is no text.
  """
  unusable = [] if unusable is None else unusable
  try:
    with _open(path) as file:
      name = path.name.lower()
      readers = {TABLES: _table_rows, WHOLE: _rows_of_json, TEXTS: _text_rows, LINES: _json_rows}
      (rows,) = (reader for suffixes, reader in readers.items() if name.endswith(suffixes))
      yield from rows(path, file, unusable)
  except UnicodeDecodeError as error:
    raise ValueError(f'{path} is no UTF-8 text') from error


def _rows_of_json(path: Path, file: Any, unusable: list[tuple[str, str]]) -> Iterator[_Row]:
  """The rows of one piece of JSON; the lines of these are their numbers."""
  no_list = ValueError(
    f'{path} is neither a list of objects, with a path and a label each, nor an object of paths '
    'and labels (annotations of COCO are not read)'
  )
  are_rows = False
  try:
    for number, (name, value) in enumerate(json_entries.entries(file), start=1):
      if name is not None and not _may_be_label(value):
        raise no_list
      if name is not None or isinstance(value, dict):
        are_rows = True
        yield _Row(number, value if name is None else {'path': name, 'label': value})
      else:
        unusable.append((f'{path}, entry {number}', 'no JSON object'))
  except json_entries.DamagedError as error:
    raise ValueError(f'{path} is no JSON: {error}') from error
  if not are_rows:
    raise no_list


def _may_be_label(value: Any) -> bool:
  return not any(
    isinstance(v, (dict, list)) for v in (value if isinstance(value, list) else [value])
  )


def _json_rows(path: Path, file: Any, unusable: list[tuple[str, str]]) -> Iterator[_Row]:
  for number, line in enumerate(file, start=1):
    if not line.strip():
      continue
    try:
      values = json.loads(line)
    except (ValueError, RecursionError):
      values = None
    if isinstance(values, dict):
      yield _Row(number, values)
    else:
      unusable.append((f'{path}, line {number}', 'no JSON object'))


def _text_rows(path: Path, file: Any, unusable: list[tuple[str, str]]) -> Iterator[_Row]:
  """Lines of a path, which may have spaces, and a label without any; or with a comma between."""
  for number, line in enumerate(file, start=1):
    cells = line.rsplit(maxsplit=1)
    if len(cells) == 1:
      cells = cells[0].rsplit(',', 1)
    if len(cells) == 2:
      yield _Row(number, dict(zip(('0', '1'), cells, strict=True)))
    elif cells:
      unusable.append((f'{path}, line {number}', 'no path and label with a space between'))


def _table_rows(path: Path, file: Any, unusable: list[tuple[str, str]]) -> Iterator[_Row]:
  first = file.readline()
  file.seek(0)
  delimiter = '\t' if path.name.lower().endswith('.tsv') else max(',;\t', key=first.count)
  # An error where a quote is not closed: all lines that follow would be one cell.
  reader = csv.reader(file, delimiter=delimiter, strict=True)
  header: list[str] = []
  while True:
    try:
      cells = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      unusable.append((f'{path}, line {reader.line_num}', f'no row: {error}'))
      continue
    if not cells:
      continue
    if not header:
      has_none = sources.IMAGE_SUFFIX.search(cells[0].strip())
      names = [str(index) for index in range(len(cells))] if has_none else cells
      header = [name.strip() for name in names]
      if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f'{path} has two columns {twice!r}: which one counts?')
      if not has_none:
        continue
    if len(cells) < len(header) or any(cells[len(header) :]):
      reason = f'{len(cells)} columns, the first row has {len(header)}'
      unusable.append((f'{path}, line {reader.line_num}', reason))
      continue
    yield _Row(reader.line_num, dict(zip(header, cells, strict=False)))


def _first_rows(path: Path) -> list[_Row]:
  """Some rows to look at.

  Raises:
    ValueError: there are none.
  """
  rows: list[_Row] = []
  unusable: list[tuple[str, str]] = []
  for row in _rows(path, unusable):
    rows.append(row)
    if len(rows) == _LOOKED_AT:
      break
  if not rows:
    damage = ''.join(f' ({file}: {why})' for file, why in unusable[:1])
    raise ValueError(f'{path} has no rows; expected {EXPECTED}{damage}')
  return rows


def _columns(path: Path, options: conversion.Options) -> _Columns:
  """Which columns are read.

  Raises:
    ValueError: one is missing, and which there are.
  """
  names = list(_first_rows(path)[0].values)
  if names[:2] == ['0', '1']:  # without a header
    return _Columns(
      options.image_column or '0', (options.label_column or '1',), options.split_column
    )
  by_name = {_normal(name): name for name in reversed(names)}
  asked = options.label_column.split(',') if options.label_column else []
  if options.label_column in names:
    asked = [options.label_column]
  for name in (options.image_column, *asked, options.split_column):
    if name and name not in names:
      raise ValueError(f'{path} has no column {name!r}; it has {", ".join(names)}')

  def known(usual: Sequence[str]) -> str | None:
    return next((by_name[name] for name in usual if name in by_name), None)

  of_path, label = options.image_column or known(PATH_COLUMNS), known(webdataset.LABEL_KEYS)
  labels = tuple(asked) or ((label,) if label else ())
  if not of_path or not labels:
    flag = '--label_column' if of_path else '--image_column'
    raise ValueError(f'{path} has no column of a usual name for {flag}; it has {", ".join(names)}')
  return _Columns(of_path, labels, options.split_column or known(SPLIT_COLUMNS))


def _path_in(row: _Row, column: str) -> str | None:
  """The path that a row has; Hugging Face's JSON may have it in an object."""
  value = row.values.get(column)
  value = value.get('path') if isinstance(value, dict) else value
  is_name = isinstance(value, (str, int)) and not isinstance(value, bool)
  return (str(value).strip() or None) if is_name else None


def _normal(name: str) -> str:
  return re.sub(r'[\s-]+', '_', name.strip().lower())


# Labels


def _separator(rows: Sequence[_Row], columns: _Columns) -> str | None:
  cells = [str(row.values.get(columns.labels[0], '')) for row in rows]
  present = (separator for separator in _SEPARATORS if any(separator in cell for cell in cells))
  return next(present, None) if len(columns.labels) == 1 else None


def _label_reader(
  columns: _Columns, separator: str | None
) -> Callable[[Mapping[str, Any], str], Label | tuple[Label, ...] | None]:
  """Reads what the row at a place says."""
  if len(columns.labels) > 1:
    return lambda values, where: tuple(
      name for name in columns.labels if _is_set(values.get(name), f'{where}, {name}')
    )
  (column,) = columns.labels

  def read_cell(values: Mapping[str, Any], where: str) -> Label | tuple[Label, ...] | None:
    value = values.get(column)
    if not isinstance(value, str):
      return webdataset.label_of_json(value, where)
    if several := _list_in(value):
      return webdataset.label_of_json(several, where)
    if separator:
      parts = value.split() if separator == ' ' else value.split(separator)
      return tuple(_label(part.strip()) for part in parts if part.strip())
    return _label(value.strip()) if value.strip() else None

  return read_cell


def _list_in(text: str) -> list[Any] | None:
  """The list that a cell is the text of, as pandas writes one; None where it is none."""
  if not text.strip().startswith('['):
    return None
  try:
    value = ast.literal_eval(text.strip())
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    return None
  return value if isinstance(value, list) and value else None


def _label(text: str) -> Label:
  match = _NUMBER.fullmatch(text)
  return int(match[1]) if match else text


def _is_set(value: Any, where: str) -> bool:
  """Whether a column of 0 and 1 says 1.

  Raises:
    ValueError: it says something else.
  """
  text = str(value).strip().lower()
  if text in ('1', '1.0', 'true'):
    return True
  if text in ('0', '0.0', 'false', '', 'none'):
    return False
  raise ValueError(f'{where}: {value!r:.40} is neither 0 nor 1')


# Images


class _Images:
  """Where the images of a list lie."""

  def __init__(
    self,
    path: Path,
    rows: Sequence[_Row],
    column: str,
    root: str | None,
    work_dir: Path,
    base: Path,
  ) -> None:
    self._manifest, self._folders = path, dict[str, str]()
    self._base = f'{base}{os.sep}'  # what names of images do without
    self._root = Path(os.path.abspath(root)) if root else None
    self.archive: trees.Archives | None = None
    if self._root and not self._root.is_dir():
      if not self._root.exists():
        raise FileNotFoundError(f'--image_root={root} does not exist')
      self.archive = trees.Archives([self._root], work_dir)
    names = [name for row in rows if (name := _path_in(row, column))] or ['nothing']
    stem = path.name.rpartition('.')[0]
    folders = '', f'{stem}_images', stem, 'images', 'train_images', 'train'
    usual = [path.parent / folder for folder in folders]
    candidates = [self._root] if self._root else [each for each in usual if each.is_dir()]
    for candidate in candidates:
      self._root = candidate
      if any(not isinstance(self.find(name)[1], sources.Unreadable) for name in names):
        return
    if '://' in names[0]:
      raise ValueError(f'{path} names images that are elsewhere, {names[0]}: download them first')
    raise ValueError(
      f'{path} names images that are not in {root or path.parent}, such as {names[0]}: '
      '--image_root says where they are'
    )

  def root(self) -> Path:
    return self._root or self._manifest.parent

  def find(self, name: str) -> tuple[str, sources.Source]:
    """What an image is called in records, and its bytes."""
    own = self._find(name)
    if isinstance(own[1], sources.Unreadable) and '\\' in name and os.sep == '/':
      of_windows = self._find(name.replace('\\', '/'))
      return own if isinstance(of_windows[1], sources.Unreadable) else of_windows
    return own

  def _find(self, name: str) -> tuple[str, sources.Source]:
    endings = _ENDINGS[:1] if sources.IMAGE_SUFFIX.search(name) else _ENDINGS
    root = self.root()
    for ending in endings:
      if self.archive:
        source = self.archive.file(name + ending)
        if source:
          return name + ending, source
        continue
      full = os.path.join(root, name + ending)
      try:
        status = os.stat(full)
      except (OSError, ValueError):
        continue
      if stat.S_ISREG(status.st_mode):
        folder, own = os.path.split(full)
        folder = self._folders.setdefault(folder, folder)
        return self._shown(full), sources.File(folder, own, status.st_size)
    shown = name if self.archive else self._shown(os.path.join(root, name))
    return shown, sources.Unreadable(_NOT_THERE)

  def _shown(self, full: str) -> str:
    """A path from the folder of the lists on, or a whole one of what lies elsewhere."""
    return os.path.normpath(full).removeprefix(self._base)
