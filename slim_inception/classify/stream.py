"""Images from anywhere through nets: read ahead by threads, in their order, those that fail too."""

import collections
import concurrent.futures
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol, TypeVar

import tensorflow as tf

from slim_inception.classify.image_files import Prepared, prepare
from slim_inception.classify.sources import Source

Record = dict[str, int | bytes]

_NOT_DECODED = 'does not decode: it is damaged or cut short'


class Image(NamedTuple):
  """An image on its way through the nets.

  Attributes:
    record_index: its place among the sources.
    name: as the user knows it.
    error: why the nets do not get it, if they do not.
    thumbnail: PNG; b'' where none is made.
  """

  record_index: int
  name: str
  error: str
  thumbnail: bytes = b''


class Output(Protocol):
  """What nets give of an image."""

  @property
  def record_index(self) -> int:
    """See `Image`."""


_Output = TypeVar('_Output', bound=Output)


def through(
  sources: Iterable[Source],
  run: Callable[[tf.data.Dataset], Iterator[_Output]],
  num_passes: int,
  num_threads: int,
  thumbnail_side: int | None = None,
) -> Iterator[tuple[Image, _Output | None]]:
  """Runs nets on images as they come; no more than a few batches of them are in memory.

  Args:
    sources: the images.
    run: gives the outputs for records of 'record_index' and 'encoded', in their order; of those
      that cannot be decoded it gives none.
    num_passes: how many iterators over the records `run` makes.
    num_threads: read and prepare images.
    thumbnail_side: see `image_files.prepare`.

  Yields:
    Each image with what the nets give, in the order of the sources; with None where it has failed.
  """
  pending: collections.deque[Image] = collections.deque()  # filled by tf.data's thread

  def make_records() -> Iterator[Record]:
    """Records of the images that Pillow can open; all images are added to `pending`."""
    prepared = _prepare_ahead(sources, thumbnail_side, num_threads)
    for index, (name, error, image) in enumerate(prepared):
      pending.append(Image(index, name, error, image.thumbnail if image else b''))
      if image:
        yield {'record_index': index, 'encoded': image.encoded}

  iterators = iter(_tee(make_records(), num_passes))
  dataset = tf.data.Dataset.from_generator(
    lambda: next(iterators),
    output_signature={
      'record_index': tf.TensorSpec([], tf.int64),
      'encoded': tf.TensorSpec([], tf.string),
    },
  )
  for output in run(dataset):
    while pending[0].record_index < output.record_index:
      yield pending.popleft(), None
    yield pending.popleft(), output
  while pending:
    yield pending.popleft(), None


def _prepare(source: Source, thumbnail_side: int | None) -> tuple[str, str, Prepared | None]:
  """Name, why it fails if it does, and what TensorFlow is to decode where it can be had."""
  try:
    prepared = prepare(source.read(), thumbnail_side)
  except (OSError, ValueError) as error:
    return source.name, getattr(error, 'strerror', None) or str(error), None
  return source.name, _NOT_DECODED, prepared


def _prepare_ahead(
  sources: Iterable[Source], thumbnail_side: int | None, num_threads: int
) -> Iterator[tuple[str, str, Prepared | None]]:
  """`_prepare` of all sources, in order, by threads which are at most `num_threads` ahead."""
  pool = concurrent.futures.ThreadPoolExecutor(num_threads)
  waiting: collections.deque[concurrent.futures.Future] = collections.deque()
  try:
    for source in sources:
      waiting.append(pool.submit(_prepare, source, thumbnail_side))
      if len(waiting) > num_threads:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(wait=False, cancel_futures=True)


def _tee(records: Iterator[Record], count: int) -> list[Iterator[Record]]:
  """`itertools.tee` for iterators that different threads empty."""
  lock = threading.Lock()
  queues: list[collections.deque[Record]] = [collections.deque() for _ in range(count)]

  def pull(own: collections.deque[Record]) -> Iterator[Record]:
    while True:
      with lock:
        if not own:
          record = next(records, None)
          if record is None:
            return
          for queue in queues:
            queue.append(record)
        record = own.popleft()
      yield record

  return [pull(queue) for queue in queues]
