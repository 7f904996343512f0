"""One shard of a conversion: the function that every runner calls, here or on another machine."""

import collections
import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from . import files, imagenet_boxes, images, records, shards
from .sources import Source


class Item(NamedTuple):
  """One image to be converted."""

  filename: str  # what the record and the report call it
  label: int | tuple[int, ...]  # class number as stored, or several of a data set of such
  source: Source  # where its bytes are


def labels_of(item: Item) -> tuple[int, ...]:
  """The labels of an image, one or several."""
  return item.label if isinstance(item.label, tuple) else (item.label,)


@dataclasses.dataclass(frozen=True)
class ShardJob:
  """Everything that the shard depends on; the same job writes the same bytes anywhere."""

  path: str
  report_path: str  # where the report stands, the shard stands
  items: list[Item]  # in order
  classes: Mapping[int, tuple[str, str]]  # label -> text and synset ('' where there are none)
  boxes: Mapping[str, bytes]  # file name without extension -> packed boxes
  as_slim: bool  # see `images.read_image`
  skip_bad: bool  # list images that cannot be used, and go on
  store_size: images.StoreSize | None = None

  @property
  def name(self) -> str:
    """Of the shard."""
    return os.path.basename(self.path)


@dataclasses.dataclass(frozen=True)
class ShardReport:
  """A written shard, and what became of its items."""

  shard: shards.Shard
  label_counts: dict[int, int]
  skipped: list[dict[str, str]]  # {'file', 'reason'}
  changed: list[dict[str, str]]  # {'file', 'change'}
  num_resized: int = 0  # to --store_size; they may be nearly all, and are not listed


class StoppedError(Exception):
  """Another shard failed, or the user interrupted."""


def write_one_shard(job: ShardJob, is_stopped: Callable[[], bool] = lambda: False) -> ShardReport:
  """Writes a shard and its report, each whole or not at all.

  Raises:
    ValueError: an image cannot be used and `skip_bad` is not set.
    OSError: something cannot be read or written.
    StoppedError: `is_stopped` said so.
  """
  label_counts: collections.Counter[int] = collections.Counter()
  skipped: list[dict[str, str]] = []
  changed: list[dict[str, str]] = []
  num_resized = 0

  def examples() -> Iterator[list[bytes]]:
    nonlocal num_resized
    for item in job.items:
      if is_stopped():
        raise StoppedError
      try:
        if item.source.size > images.MAX_BYTES:
          raise images.BadImageError(images.TOO_LARGE)
        content = item.source.read()
        image = images.read_image(content, as_slim=job.as_slim, store_size=job.store_size)
      except images.BadImageError as error:
        if not job.skip_bad:
          raise ValueError(f'{item.filename}: {error} (--on_bad_image=fail)') from None
        skipped.append({'file': item.filename, 'reason': str(error)})
        continue
      if image.change:
        changed.append({'file': item.filename, 'change': image.change})
      num_resized += image.is_resized
      label_counts.update(labels_of(item))
      yield _example(item, image, job)

  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Pillow's, on broken EXIF and the like
    shard = shards.write_shard(job.path, examples())
  report = ShardReport(shard, dict(label_counts), skipped, changed, num_resized)
  files.write_json(job.report_path, dataclasses.asdict(report))
  return report


def _example(item: Item, image: images.CheckedImage, job: ShardJob) -> list[bytes]:
  text: str | tuple[str, ...]
  synset: str | tuple[str, ...]
  if isinstance(item.label, tuple):
    text, synset = (tuple(job.classes[label][part] for label in item.label) for part in (0, 1))
    synset = synset if any(synset) else ()
  else:
    text, synset = job.classes[item.label]
  facts = image._asdict()
  del facts['change'], facts['is_resized']
  return records.encode_example(
    **facts,
    label=item.label,
    text=text,
    synset=synset or None,
    filename=item.filename,
    boxes=imagenet_boxes.unpack(job.boxes.get(stem(item.filename), b'')),
  )


def stem(filename: str) -> str:
  """File name without its extension: what annotations and lists call an image."""
  return filename.rsplit('.', 1)[0]


def finished(job: ShardJob) -> ShardReport | None:
  """The report of a shard that an earlier run finished; None where it has to be written."""
  try:
    report = files.read_json(job.report_path, ShardReport)
    if report and os.path.getsize(job.path) != report.shard.num_bytes:
      return None
  except (OSError, ValueError):
    return None
  return None if report and report.skipped and not job.skip_bad else report
