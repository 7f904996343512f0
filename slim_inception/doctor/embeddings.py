"""Embeddings of a set of images, in as many numbers as fit into memory."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from slim_inception.classify import sources
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.doctor.listing import Image
from slim_inception.embed.config import EmbedRequest
from slim_inception.embed.embedder import Embedder

WIDTH = 256  # numbers that are kept of an embedding: its principal components
_IN_MEMORY = 1 << 30  # bytes; what is more lies on disk until it is reduced
_BLOCK = 8192  # images


class Embeddings(NamedTuple):
  """Of N images.

  Attributes:
    rows: [N, at most 256] float32, about their mean; 0 of what could not be embedded.
    made: [N] bool.
  """

  rows: np.ndarray
  made: np.ndarray


def embed(images: Sequence[Image], request: EmbedRequest, work_dir: Path) -> Embeddings:
  """Embeds images by the evaluation's predictor, batch by batch.

  Args:
    images: which.
    request: how.
    work_dir: for what does not fit into memory.

  Raises:
    ValueError, OSError: a checkpoint does not fit, or its net gives what is no number.
  """
  embedder = Embedder(request)
  logging.info('Embedding %d image(s) on %s', len(images), embedder.devices)
  opened = (
    sources.Source(image.filename, functools.partial(image.source.read)) for image in images
  )
  rows, made = None, np.zeros(len(images), bool)
  with ProgressBar('Embedding', embedder.num_views(len(images)), 'views') as bar:
    for number, result in enumerate(embedder.embed(opened, bar.update)):
      if result.embedding is None:
        continue
      if rows is None:
        rows = _space((len(images), len(result.embedding)), work_dir)
      rows[number] = result.embedding
      made[number] = True
  if rows is None:
    raise ValueError(f'none of {len(images)} image(s) can be embedded')
  return Embeddings(principal_components(rows, made), made)


def _space(shape: tuple[int, int], work_dir: Path) -> np.ndarray:
  if 4 * shape[0] * shape[1] <= _IN_MEMORY:
    return np.zeros(shape, np.float32)
  return np.lib.format.open_memmap(work_dir / 'embeddings.npy', 'w+', np.float32, shape)


def principal_components(rows: np.ndarray, made: np.ndarray, width: int = WIDTH) -> np.ndarray:
  """The directions in which the embeddings differ most; all of them if they are few.

  Args:
    rows: [N, D].
    made: [N] bool, the rows that count; others become 0.
    width: at most so many.

  Returns:
    [N, min(D, width)] float32, about the mean.
  """
  count, size = int(made.sum()), rows.shape[1]
  blocks = [slice(start, start + _BLOCK) for start in range(0, len(rows), _BLOCK)]
  mean = sum(rows[b][made[b]].sum(0, dtype=np.float64) for b in blocks) / max(1, count)
  if size <= width:
    return np.where(made[:, np.newaxis], rows - mean, 0).astype(np.float32)
  products = np.zeros((size, size))
  for block in blocks:
    centred = rows[block][made[block]] - mean
    products += centred.T @ centred
  _, directions = np.linalg.eigh(products)
  directions = directions[:, ::-1][:, :width]
  reduced = np.zeros((len(rows), width), np.float32)
  for block in blocks:
    reduced[block] = np.where(made[block, np.newaxis], (rows[block] - mean) @ directions, 0)
  return reduced
