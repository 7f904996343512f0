"""What slim-inception calibrate has found out of a checkpoint, in a file beside it."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from slim_inception import files
from slim_inception.constants import CALIBRATION_SUFFIX
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate.calibration import Abstention
from slim_inception.evaluate.conformal import Sets
from slim_inception.evaluate.views import ViewSpec
from slim_inception.nets import checkpoint_files


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of probabilities as the net has them, and as they are with the temperature.

  Attributes:
    before, after: the figure, of images that the temperature was not fitted on.
    before_interval, after_interval: of 95 %; () for one that has none.
  """

  before: float
  after: float
  before_interval: tuple[float, ...] = ()
  after_interval: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class Calibration:
  """The content of the file.

  Attributes:
    checkpoint: its name, without folder.
    checkpoint_id: see `checkpoint_files.identity`.
    weights: 'ema' or 'plain'.
    views: what the net saw of an image, see `describe_views`.
    dataset_name: of the images.
    dataset_split_name: of the images.
    dataset_dir: where they were, as an absolute path.
    dataset_hash: of its dataset.json; None where there was none.
    num_classes: labels are 0 .. num_classes - 1.
    fitted_images: how many the temperature was fitted on.
    measured_images: how many others the figures and thresholds are of.
    temperature: that divides the logits.
    expected_calibration_error: on the latter images, in [0, 1].
    negative_log_likelihood: on the latter images, in nats.
    sets: None where none were asked for.
    abstention: None where none was asked for.
  """

  checkpoint: str
  checkpoint_id: str
  weights: str
  views: dict[str, Any]
  dataset_name: str
  dataset_split_name: str
  dataset_dir: str
  dataset_hash: str | None
  num_classes: int
  fitted_images: int
  measured_images: int
  temperature: float
  expected_calibration_error: Figure
  negative_log_likelihood: Figure
  sets: Sets | None = None
  abstention: Abstention | None = None

  def is_of(self, dataset: Dataset, dataset_dir: str) -> bool:
    """Whether images of a split were fitted on: the same split of the same records."""
    if self.dataset_split_name != dataset.split_name:
      return False
    if self.dataset_hash and dataset.info_hash:
      return self.dataset_hash == dataset.info_hash
    return self.dataset_dir == os.path.realpath(dataset_dir)

  def sets_of_outputs(self, labels_offset: int) -> Sets | None:
    """`sets` for outputs of a net, the first of which has the label `labels_offset`."""
    if self.sets is None or len(self.sets.thresholds) == 1:
      return self.sets
    return dataclasses.replace(self.sets, thresholds=self.sets.thresholds[labels_offset:])

  def labels_in_set(self, probabilities: np.ndarray) -> list[int] | None:
    """The labels of an image's set, the most probable first; None where no sets are made.

    Args:
      probabilities: [num_classes], scaled by the temperature.
    """
    if self.sets is None:
      return None
    in_set = self.sets.of(probabilities[np.newaxis])[0]
    return [label for label in np.argsort(-probabilities, kind='stable').tolist() if in_set[label]]

  def abstains(self, probabilities: np.ndarray) -> bool | None:
    """Whether an image is not classified; None where that was not asked for; see above."""
    if self.abstention is None:
      return None
    return bool(probabilities.max() < self.abstention.threshold)

  def describe(self) -> str:
    """What it is of: '180 images of validation'."""
    return f'{self.fitted_images + self.measured_images} images of {self.dataset_split_name}'


def path_of(prefix: str) -> str:
  """The file beside a checkpoint, or beside weights of another library."""
  return prefix.rstrip('/') + CALIBRATION_SUFFIX


def describe_views(spec: ViewSpec, average: str) -> dict[str, Any]:
  """What the probabilities of a net depend on besides its weights."""
  views = {'preprocessing': spec.preprocessing.name, 'image_size': spec.image_size}
  views |= {'crops': spec.crops, 'resize': spec.resize, 'interpolation': spec.interpolation}
  # One view is its own average.
  return views | {
    'crop_fraction': spec.crop_fraction,
    'scales': [*spec.scales],
    'average': 'probabilities' if spec.num_views == 1 else average,
  }


def write(prefix: str, content: Calibration) -> str:
  """Writes the file, whole or not at all; returns its path."""
  path = path_of(prefix)
  files.write_json(path, dataclasses.asdict(content))
  return path


def find(
  prefix: str, weights: str, views: Mapping[str, Any], required: bool = False
) -> Calibration | None:
  """The calibration of a checkpoint; None where there is none that fits, which is said.

  Args:
    prefix: of the checkpoint.
    weights: which of it were taken, 'ema' or 'plain'.
    views: see `describe_views`.
    required: whether it is an error if there is none.

  Raises:
    ValueError: the file is damaged, or there is none that fits and one is required.
  """
  path = path_of(prefix)
  stored = files.read_json(path, Calibration)
  if stored is None:
    problem = f'{prefix} has no calibration'
  else:
    problem = _mismatch(stored, path, prefix, weights, views)
  if not problem:
    return stored
  advice = 'slim-inception calibrate makes it'
  if required:
    raise ValueError(f'{problem}: {advice}')
  if stored:
    logging.warning('%s, and is not used: %s anew', problem, advice)
  return None


def _mismatch(
  stored: Calibration, path: str, prefix: str, weights: str, views: Mapping[str, Any]
) -> str:
  """Why a calibration is not that of a net; '' where it is."""
  if stored.checkpoint_id != checkpoint_files.identity(prefix):
    return f'{path} is of another checkpoint of this name'
  for name, now in {'weights': weights, **views}.items():
    before = {'weights': stored.weights, **stored.views}.get(name)
    if before != now:
      return f'{path} is for {name} {before}, not {now}'
  return ''
