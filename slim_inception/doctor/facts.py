"""What is measured of each image, once, by processes that read it: NumPy and Pillow alone."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from slim_inception.datasets import images, runners
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.datasets.sources import Source

THUMBNAIL = 32  # pixels a side of what pixels are compared by, grey and without its proportions
_WORKING_SIDE = 256  # pixels of the shorter side, at most, that all else is measured at
_TASK = 32  # images that a process takes in one go
_BLOCK = 4096  # images whose hashes are computed at once
_LEAST_IMAGES = 512  # for which processes start
_CUT = 4  # rows of one colour at the lower end are said from this number on

_MEASURES = ('mean', 'contrast', 'sharpness', 'colourfulness', 'cut')
COLUMNS = np.dtype(
  [
    ('digest', 'S16'),
    ('height', np.int32),
    ('width', np.int32),
    *((name, np.float32) for name in _MEASURES),
    ('thumbnail', np.uint8, (THUMBNAIL, THUMBNAIL)),
  ]
)


class Facts(NamedTuple):
  """What is measured of N images.

  Attributes:
    columns: [N] `COLUMNS`: digest, of the file; height, width in pixels, 0 where it does not
      decode; mean and contrast (standard deviation) of grey, 0 .. 255; sharpness, see `_sharpness`,
      at a shorter side of 256 pixels or less; colourfulness, the mean of the largest difference
      between channels, 0 for grey; cut, the share of the rows, from the lower end, that are of one
      colour; thumbnail [32, 32] grey.
    errors: {number: why it cannot be read}.
  """

  columns: np.ndarray
  errors: dict[int, str]

  @property
  def readable(self) -> np.ndarray:
    """[N] bool."""
    return self.columns['height'] > 0


def gather(sources: Sequence[Source], num_processes: int) -> Facts:
  """Reads and measures images.

  Args:
    sources: their files.
    num_processes: that read.

  Raises:
    OSError: a file that was listed cannot be read at all; a process was killed.
  """
  columns = np.zeros(len(sources), COLUMNS)
  errors: dict[int, str] = {}
  tasks = [sources[start : start + _TASK] for start in range(0, len(sources), _TASK)]
  processes = min(num_processes, len(sources) // _LEAST_IMAGES + 1)
  with runners.pool(processes) as pool, ProgressBar('Looking', len(sources), 'images') as bar:
    done = map(_measure_all, tasks) if pool is None else pool.map(_measure_all, tasks)
    start = 0
    for rows, failed in done:
      columns[start : start + len(rows)] = rows
      errors |= {start + number: reason for number, reason in failed.items()}
      start += len(rows)
      bar.update(len(rows))
  return Facts(columns, errors)


def _measure_all(sources: Iterable[Source]) -> tuple[np.ndarray, dict[int, str]]:
  rows, errors = [], {}
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # Pillow's, on broken EXIF and the like
    for number, source in enumerate(sources):
      row = np.zeros((), COLUMNS)
      try:
        if source.size > images.MAX_BYTES:
          raise images.BadImageError(images.TOO_LARGE)
        measure(source.read(), row)
      except images.BadImageError as error:
        errors[number] = str(error)
      rows.append(row)
  return np.stack(rows), errors


def measure(content: bytes, row: np.ndarray) -> None:
  """Measures a file.

  Args:
    content: of the file.
    row: [] `COLUMNS`, gets the facts.

  Raises:
    BadImageError: it is no image, or none that can be read.
  """
  row['digest'] = hashlib.blake2b(content, digest_size=16).digest()
  image = images.decode(content, (2 * _WORKING_SIDE) ** 2)
  height, width = images.size_of(content)
  shorter = min(image.size)
  if shorter > _WORKING_SIDE:
    factor = _WORKING_SIDE / shorter
    size = round(image.width * factor), round(image.height * factor)
    image = image.resize(size, reducing_gap=3.0)
  grey_image = image.convert('L')
  grey = np.asarray(grey_image, np.float32)
  for name, value in zip(_MEASURES, _measures(image, grey), strict=True):
    row[name] = value
  thumbnail = grey_image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
  row['thumbnail'] = np.asarray(thumbnail)
  row['height'], row['width'] = height, width


def _measures(image: Image.Image, grey: np.ndarray) -> Iterator[float]:
  """`_MEASURES` of an image; its grey is [h, w], 0 .. 255."""
  yield float(grey.mean())
  yield float(grey.std())
  yield _sharpness(grey)
  if image.mode == 'L':
    yield 0.0
  else:
    pixels = np.asarray(image, np.int16)
    yield float((pixels.max(-1) - pixels.min(-1)).mean())
  yield _cut_share(np.asarray(image))


def _sharpness(grey: np.ndarray) -> float:
  """The variance of the Laplacian (Pech-Pacheco et al. 2000) over that of the image.

  So that dark images and those of little contrast do not count as blurred.
  """
  variance = float(grey.var())
  if min(grey.shape) < 3 or not variance:
    return 0.0
  middle = grey[1:-1, 1:-1]
  around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
  return float((around - 4 * middle).var()) / variance


def _cut_share(pixels: np.ndarray) -> float:
  """The share of the rows, from the lower end, that are of the very colour of the last pixel.

  Where a JPEG ends early but has an end all the same, decoders make the rest of one colour.
  """
  of_colour = (pixels == pixels[-1, -1]).reshape(len(pixels), -1).all(1)
  rows = len(pixels) if of_colour.all() else int(np.argmin(of_colour[::-1]))
  return rows / len(pixels) if rows >= _CUT else 0.0


def perceptual_hashes(thumbnails: np.ndarray) -> np.ndarray:
  """pHash: the signs of the lowest 8 x 8 coefficients of the cosine transform, but for the mean.

  (Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"; the signs
  themselves rather than which are above the median, so that a mirror image has the same but for
  the sign of every other column.)

  Args:
    thumbnails: [N, 32, 32] grey.

  Returns:
    [N, 63] int8, 1 or -1.
  """
  places = np.arange(THUMBNAIL) + 0.5
  basis = np.cos(np.pi / THUMBNAIL * np.arange(8)[:, np.newaxis] * places).astype(np.float32)
  hashes = np.empty((len(thumbnails), 63), np.int8)
  for start in range(0, len(thumbnails), _BLOCK):
    low = basis @ thumbnails[start : start + _BLOCK].astype(np.float32) @ basis.T
    hashes[start : start + _BLOCK] = np.where(low.reshape(-1, 64)[:, 1:] >= 0, 1, -1)
  return hashes


def mirrored(hashes: np.ndarray) -> np.ndarray:
  """The hashes [N, 63] of the mirror images."""
  signs = np.tile((-1) ** np.arange(8), 8)[1:]
  return hashes * signs.astype(np.int8)
