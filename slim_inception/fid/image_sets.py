"""What REAL and FAKE stand for: images in files, archives, records or arrays, or statistics."""

import functools
import glob
import hashlib
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from slim_inception import files
from slim_inception.classify import sources
from slim_inception.classify.sources import Source
from slim_inception.datasets import dataset_factory, records, shards
from slim_inception.fid import statistics
from slim_inception.fid.statistics import StoredStatistics

NPZ = '.npz'
_SAMPLES = 'arr_0'  # of images, as guided-diffusion and NumPy itself call what has no name
_DIGEST_BYTES = 16


class ImageSet(NamedTuple):
  """A set of images, yet to be read.

  Attributes:
    name: as the user knows it.
    images: of it; None where there are statistics alone.
    num_images: how many they are; None where only their end tells.
    stored: statistics of a file; where it has images too, these are some of those that the
      statistics are of.
  """

  name: str
  images: Iterable[Source] | None
  num_images: int | None
  stored: StoredStatistics | None = None


def open_set(operand: str) -> ImageSet:
  """The set that an operand stands for.

  Args:
    operand: a .npz of statistics (`mu`, `sigma`) or samples (`arr_0`, uint8 [N, h, w, 3]), or both;
      records: a shard, a pattern that matches shards, or a folder with those of one split; or what
      `classify.sources.expand` takes: a folder, an archive, a pattern, an image.

  Raises:
    OSError: there is no such file.
    ValueError: it is damaged, or a .npz with other arrays; or a folder has several splits.
  """
  if operand.endswith(NPZ):
    return _open_npz(files.local_path(operand))
  if paths := _shards_of(operand):
    return ImageSet(operand, _of_records(paths), _count(paths))
  images, count = sources.listed([operand], sys.stdin.buffer)
  return ImageSet(operand, images, count)


def noting_digests(images: Iterable[Source], digests: dict[bytes, str]) -> Iterator[Source]:
  """The images, whose contents {digest: name} are noted when they are read."""

  def read(source: Source) -> bytes:
    content = source.read()
    digests.setdefault(hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest(), source.name)
    return content

  for source in images:
    yield Source(source.name, functools.partial(read, source))


# .npz


def _open_npz(path: str) -> ImageSet:
  keys = statistics.keys_of(path)
  stored = statistics.read(path) if statistics.has_statistics(keys) else None
  if _SAMPLES in keys:
    with zipfile.ZipFile(path) as archive, archive.open(f'{_SAMPLES}.npy') as file:
      count = _read_header(file, path)[0]
    return ImageSet(path, _of_samples(path), count, stored)
  if stored is None:
    raise ValueError(
      f'{path} has {files.some(sorted(keys))}; expected {_SAMPLES}, images uint8 [N, h, w, 3], or '
      'mu and sigma, the statistics of pytorch-fid and clean-fid'
    )
  return ImageSet(path, None, None, stored)


def _read_header(file: IO[bytes], path: str) -> tuple[int, int, int, int]:
  """[N, h, w, 3] of an array of images, whose numbers come next in the file."""
  try:
    version = np.lib.format.read_magic(file)
    readers = {
      (1, 0): np.lib.format.read_array_header_1_0,
      (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, is_fortran, dtype = readers[version](file)
  except (KeyError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    raise ValueError(f'{path}: {_SAMPLES} is damaged: {str(error).splitlines()[0]}') from error
  if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape or is_fortran:
    raise ValueError(
      f'{path}: {_SAMPLES} is {dtype} {list(shape)}; expected images, uint8 [N, h, w, 3]'
    )
  return shape


def _of_samples(path: str) -> Iterator[Source]:
  """The images of an array one after the other: it need not fit into memory."""
  index = 0
  try:
    with zipfile.ZipFile(path) as archive, archive.open(f'{_SAMPLES}.npy') as file:
      count, *shape = _read_header(file, path)
      for index in range(count):
        content = file.read(int(np.prod(shape)))
        if len(content) < np.prod(shape):
          raise EOFError('the array ends early')
        yield Source(f'{path}: image {index}', functools.partial(_as_bmp, content, tuple(shape)))
  except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
    yield _failing(f'{path}: image {index}', str(error))


def _as_bmp(content: bytes, shape: tuple[int, ...]) -> bytes:
  file = io.BytesIO()
  Image.fromarray(np.frombuffer(content, np.uint8).reshape(shape)).save(file, 'BMP')
  return file.getvalue()


def _failing(name: str, reason: str) -> Source:
  def read() -> bytes:
    raise ValueError(reason)

  return Source(name, read)


# Records


def _shards_of(operand: str) -> list[str]:
  """The shards that an operand means; [] where it means something else."""
  if os.path.isdir(operand):
    if not any(map(shards.is_shard_name, os.listdir(operand))):
      return []
    splits = shards.splits_in(operand)
    if len(splits) > 1:
      raise ValueError(
        f'{operand} has records of {", ".join(splits)}: name those of one, '
        f"'{os.path.join(operand, splits[0])}-*'"
      )
    return shards.find_shards(operand, splits[0])
  paths = [operand] if os.path.exists(operand) else sorted(glob.glob(operand))
  are_shards = all(shards.is_shard_name(os.path.basename(path)) for path in paths)
  return paths if are_shards else []


def _count(paths: list[str]) -> int | None:
  """Records; None where a shard is damaged, which its records will say."""
  try:
    return shards.count_records(paths)
  except ValueError:
    return None


def _of_records(paths: list[str]) -> Iterator[Source]:
  key = dataset_factory.schema_of(paths[0]).encoded
  for path in paths:
    for record in shards.read_shard(path):
      if record.damage:
        yield _failing(record.location, record.damage)
      else:
        yield Source(record.location, functools.partial(_encoded, record.data, key))


def _encoded(serialized: bytes, key: str) -> bytes:
  values = records.decode_features(serialized, [key]).get(key)
  if not values:
    raise ValueError(f'has no {key}')
  return values[0]
