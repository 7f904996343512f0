"""The formats in which people have labelled images, and which of them a source is.

A format is a row of `FORMATS`: how it is recognized, and who reads it. A new one is a module with
`recognize(paths)` and `read(paths, options, work_dir)`, which lists images as the source has them
(`listing.Listing`), and a row here; classes, splits, shares held out, copies, shards and reports
are the work of others. Its name is a data set's name too (`--dataset_name=NAME` reads this format
and no other), so that a set of records says what it was made of.

What is expected of a format:

- `recognize` gets the paths that the user wrote, patterns and braces expanded; all of them exist.
  It looks at names, and at the first bytes or members of some files, for not more than a second,
  and says why it is this format ('12 tars of images with .cls'), or None. It raises nothing but
  OSError: what is damaged is for `read`.
- `read` raises ValueError where the whole source is unusable. What is wrong with a part of it goes
  to `Listing.unusable`, or is a `sources.Unreadable` image: it is skipped and listed.
- Images are read in place, by other processes: a `sources.Source` is picklable and small. What has
  to be unpacked goes to `work_dir` (see `tables.unpacked`); it is removed with the folder.
- An image takes some 300 bytes in memory, for there may be millions.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from absl import logging

from . import (
  conversion,
  evaluation_sets,
  files,
  folder_layout,
  huggingface,
  image_folder,
  imagenet,
  listing,
  manifest,
  mds,
  packed_sets,
  sources,
  tfds,
  webdataset,
)


@dataclasses.dataclass(frozen=True)
class Format:
  """A row of `FORMATS`.

  Attributes:
    name: of the format and of data sets made of it.
    what: it is, in words, for a list of what is valid.
    recognize: paths -> why they are of this format; None: they are not.
    plan: makes the plan of a conversion.
  """

  name: str
  what: str
  recognize: Callable[[Sequence[Path]], str | None]
  plan: conversion.MakePlan

  def convert(self, *arguments, **keywords) -> conversion.Conversion:
    """`conversion.convert` of a source that is of this format."""
    return conversion.convert(self.plan, *arguments, **keywords)


def _listed(
  name: str, what: str, recognize: Callable[[Sequence[Path]], str | None], read: listing.Read
) -> Format:
  """A format of which a reader lists the images."""

  def plan(source: str | None, options: conversion.Options, work_dir: Path) -> conversion.Plan:
    images = read(sources.expand(source, what), options, work_dir)
    return listing.make_plan(name, images, source, options)

  return Format(name, what, recognize, plan)


def _evaluation_set(kind: evaluation_sets.EvaluationSet) -> Format:
  def recognize_set(paths: Sequence[Path]) -> str | None:
    return packed_sets.recognize(kind.name, paths) or evaluation_sets.recognize(kind.name, paths)

  def plan(source: str | None, options: conversion.Options, work_dir: Path) -> conversion.Plan:
    paths = sources.expand(source, kind.layout)
    of_layout = packed_sets if packed_sets.container(paths) else evaluation_sets
    return of_layout.make_plan(kind.name, paths, source, options, work_dir)

  return Format(kind.name, f'{kind.title}: {kind.layout}', recognize_set, plan)


# The first that recognizes a source reads it: those that look for more come first.
FORMATS = (
  *map(_evaluation_set, evaluation_sets.SETS.values()),
  Format('imagenet', 'ImageNet (ILSVRC 2012)', imagenet.recognize, imagenet.make_plan),
  _listed('webdataset', webdataset.EXPECTED, webdataset.recognize, webdataset.read),
  _listed('tfds', tfds.EXPECTED, tfds.recognize, tfds.read),
  _listed('mds', mds.EXPECTED, mds.recognize, mds.read),
  _listed('huggingface', huggingface.EXPECTED, huggingface.recognize, huggingface.read),
  _listed('manifest', manifest.EXPECTED, manifest.recognize, manifest.read),
  Format('image_folder', image_folder.LAYOUT, image_folder.recognize, image_folder.make_plan),
)

# Those whose files hold the images: folders of images beside them are of another set.
_OF_FILES = 'webdataset', 'tfds', 'mds', 'huggingface'

# What is no such list or archive, but has the name of one, its reader says best what is wrong with.
_BY_NAME = {'manifest': manifest.recognize_name, 'image_folder': image_folder.recognize_name}


# What people have that is no format of labelled images: {end of a name: what to do}.
_OTHERS = {
  **dict.fromkeys(
    ('.7z', '.rar', '.zst', '.lz4', '.gz', '.bz2', '.xz'), 'an archive that is to be unpacked first'
  ),
  **dict.fromkeys(
    ('.npz', '.npy', '.mat', '.h5', '.hdf5', '.pkl', '.pickle', '.pt', '.pth'),
    'arrays or objects of a program, which can save them as images in class folders',
  ),
  **dict.fromkeys(
    ('.lmdb', '.mdb', '.rec', '.beton', '.db'),
    "another library's file, which its own reader can save as images in class folders",
  ),
  **dict.fromkeys(('.xlsx', '.xls', '.ods'), 'a table that is to be saved as .csv'),
}
_FOLDERS_LOOKED_AT = 10
_RECORDS = re.compile(r'.*(\.tfrecords?|-\d{5}-of-\d{5})(\.gz)?')


def _hint(path: Path) -> str:
  """What a source of no format seems to be; '' where nothing tells."""
  names = sorted(filter(files.is_visible, os.listdir(path))) if path.is_dir() else [path.name]
  if not names:
    return 'it is empty'
  if records := [name for name in names if _RECORDS.fullmatch(name.lower())]:
    return (
      f'{files.printable(records[0])} has the name of TFRecords: slim needs no conversion of those '
      'with image/encoded and image/class/label'
    )
  image = next((name for name in names if sources.IMAGE_SUFFIX.search(name)), None)
  if image:
    return f'{files.printable(image)} is in no class folder and on no list'
  if path.is_dir():
    return _hint_of_folders(files.subfolders(path)[:_FOLDERS_LOOKED_AT])
  other = next((what for end, what in _OTHERS.items() if path.name.lower().endswith(end)), None)
  return f'it seems to be {other}' if other else ''


def _hint_of_folders(folders: Sequence[Path]) -> str:
  """What folders in a folder of no format tell."""
  for folder in folders:
    names = sorted(filter(files.is_visible, os.listdir(folder)))
    present = [name for name in (tfds.FEATURES, tfds.INFO) if name in names]
    if len(present) == 1:
      return f'{folder} has {present[0]} alone: {tfds.EXPECTED}'
    others = [name for name in names if not name.lower().endswith(sources.NO_IMAGES)]
    if file := next((folder / name for name in others if (folder / name).is_file()), None):
      shown = files.readable(f'{folder.name}/{file.name}')
      return (
        f'{shown} has no name of an image: --dataset_name=image_folder takes files of any name '
        'that are images'
      )
  return ''


def recognize(source: str | None) -> tuple[Format, str]:
  """The format of a source, and why.

  Raises:
    ValueError: it is of no format, or there is no source; lists the formats.
    OSError: it does not exist.
  """
  paths = sources.expand(source, 'images with labels')
  if of_several := evaluation_sets.several(paths[0]) if len(paths) == 1 else {}:
    names = files.some(sorted({entry.name for entry in of_several.values()}), 10)
    raise ValueError(f'{source} holds several evaluation sets: give one of {names}')
  for candidate in FORMATS:
    if reason := candidate.recognize(paths):
      return candidate, reason
  for name, recognize_name in _BY_NAME.items():
    if reason := recognize_name(paths):
      return next(candidate for candidate in FORMATS if candidate.name == name), reason
  valid = '; '.join(f'{candidate.name}: {candidate.what}' for candidate in FORMATS)
  hint = _hint(paths[0])
  raise ValueError(f'{source} is of no known format{hint and f" ({hint})"}; valid are {valid}')


def make_plan(source: str | None, options: conversion.Options, work_dir: Path) -> conversion.Plan:
  """The plan of a source whose format nobody said; one line says what it was recognized as."""
  candidate, reason = recognize(source)
  line = f'{source} is recognized as {candidate.name}: {reason}'
  logging.info('%s', line)
  try:
    plan = candidate.plan(source, options, work_dir)
  except ValueError as error:
    if lists := _lists_beside(candidate, source):
      flags = '--source=LIST reads one, --label_column names the column of labels'
      raise ValueError(f'{error}; there are lists too, {files.some(lists)}: {flags}') from error
    raise
  notes = (*plan.notes, *_notes_of_others(candidate, source))
  return dataclasses.replace(plan, recognized=line, notes=notes)


def _notes_of_others(candidate: Format, source: str | None) -> Iterator[str]:
  """Says it where a folder has class folders too, which its format does not read."""
  if candidate.name not in _OF_FILES or not source or not os.path.isdir(source):
    return
  if image := image_folder.image_in_folders(Path(source)):
    yield (
      f'{source} has folders of images too, such as {image}, which are not read: '
      '--dataset_name=image_folder reads them alone'
    )


def _lists_beside(candidate: Format, source: str | None) -> list[str]:
  """Lists in a folder that was taken for one of class folders, and in those of its splits."""
  if candidate.name != 'image_folder' or not source or not os.path.isdir(source):
    return []
  folder = Path(source)
  splits = [each for each in files.subfolders(folder) if folder_layout.split_of(each.name)]
  lists = dict.fromkeys(manifest.find_lists([folder, *splits]))
  return [files.readable(path.relative_to(folder).as_posix()) for path in lists]


convert = functools.partial(conversion.convert, make_plan)
