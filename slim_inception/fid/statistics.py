"""Mean and covariance of features: summed up as they come, and in files of other programs."""

import os
import zipfile
from typing import Any, NamedTuple

import numpy as np

from slim_inception import files
from slim_inception.fid.figures import Statistics

FEATURES, SPATIAL_FEATURES = 2048, 7 * 17 * 17
# Keys of pytorch-fid's and clean-fid's files, and those that guided-diffusion's have besides.
_POOLED, _SPATIAL = ('mu', 'sigma'), ('mu_s', 'sigma_s')


class Moments:
  """Sums up mean and covariance of [n, d] features, in float64, without keeping the features.

  Batches are joined as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
  Computing Sample Variances" (1979), which loses no digits to a large mean.
  """

  def __init__(self) -> None:
    self.count = 0
    self._mean: np.ndarray = np.zeros(())
    self._scatter: np.ndarray = np.zeros(())

  def add(self, features: np.ndarray) -> None:
    """Takes more features, [n, d]."""
    features = np.asarray(features, np.float64)
    mean = features.mean(0)
    centered = features - mean
    count = self.count + len(features)
    step = mean - self._mean
    between = np.outer(step, step) * (self.count * len(features) / count)
    self._scatter = self._scatter + centered.T @ centered + between
    self._mean = self._mean + step * (len(features) / count)
    self.count = count

  @property
  def statistics(self) -> Statistics:
    """Of what was added, two images or more: fewer have no covariance."""
    return Statistics(self._mean, self._scatter / (self.count - 1))


class StoredStatistics(NamedTuple):
  """What a file has."""

  pooled: Statistics
  spatial: Statistics | None


def keys_of(path: str) -> set[str]:
  """The names of the arrays in a .npz.

  Raises:
    ValueError: it is damaged, or no .npz.
  """
  try:
    with zipfile.ZipFile(path) as file:
      return {name.removesuffix('.npy') for name in file.namelist()}
  except zipfile.BadZipFile as error:
    raise ValueError(f'{path} is no .npz of NumPy, or is cut short: {error}') from error


def has_statistics(keys: set[str]) -> bool:
  """Whether a .npz with these arrays has statistics."""
  return keys >= set(_POOLED)


def read(path: str) -> StoredStatistics:
  """Reads `mu` and `sigma` as pytorch-fid and clean-fid write them, and `mu_s` and `sigma_s`.

  Raises:
    OSError: the file cannot be read.
    ValueError: it is damaged, or an array has another shape or is not finite.
  """
  with_spatial = keys_of(path) >= set(_SPATIAL)
  return StoredStatistics(
    _read(path, _POOLED, FEATURES),
    _read(path, _SPATIAL, SPATIAL_FEATURES) if with_spatial else None,
  )


def _read(path: str, keys: tuple[str, str], size: int) -> Statistics:
  try:
    with np.load(path, allow_pickle=False) as file:
      arrays = [file[key] for key in keys]
  except (ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
    raise ValueError(f'{path} is damaged: {str(error).splitlines()[0]}') from error
  for key, array, shape in zip(keys, arrays, ((size,), (size, size)), strict=True):
    if array.dtype.kind != 'f' or array.shape != shape:
      raise ValueError(
        f'{path}: {key} is {array.dtype} {list(array.shape)}; expected floats {list(shape)}, of '
        f'{size} features'
      )
    if not np.isfinite(array).all():
      raise ValueError(f'{path}: {key} has numbers that are not finite')
  return Statistics(*(array.astype(np.float64) for array in arrays))


def write(path: str, pooled: Statistics, spatial: Statistics | None) -> None:
  """Writes what `read` reads; the file is there when all is written.

  Raises:
    OSError: it cannot be written.
  """
  arrays: dict[str, Any] = dict(zip(_POOLED, pooled, strict=True))
  if spatial is not None:
    arrays |= zip(_SPATIAL, spatial, strict=True)
  files.make_folder_of(path)
  with files.atomic_path(os.path.abspath(path)) as temporary, open(temporary, 'wb') as file:
    np.savez(file, **arrays)
