"""Calibration of a checkpoint from its flags to the file beside it."""

import os
from typing import NamedTuple

import numpy as np
from absl import logging

from slim_inception import files
from slim_inception.evaluate import calibration, conformal, stored_calibration
from slim_inception.evaluate.calibrate_config import CalibrateRequest, CalibrationConfig
from slim_inception.evaluate.calibration import Abstention
from slim_inception.evaluate.conformal import Sets
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.metrics import name_of
from slim_inception.evaluate.stored_calibration import Calibration, Figure
from slim_inception.nets import checkpoint_files
from slim_inception.nets.convert import formats

_SEED = 0  # of the halves: the same split has the same


class Scores(NamedTuple):
  """What a net says of the images of a split.

  Attributes:
    probabilities: [N, num_classes] float32.
    labels: [N] int32, the right ones.
  """

  probabilities: np.ndarray
  labels: np.ndarray

  def take(self, images: np.ndarray) -> 'Scores':
    """The images at these positions."""
    return Scores(self.probabilities[images], self.labels[images])

  @property
  def right(self) -> np.ndarray:
    """[N] bool: whether the most probable label is right."""
    return self.probabilities.argmax(-1) == self.labels


def halves(count: int) -> tuple[np.ndarray, np.ndarray]:
  """Positions of the images that a temperature is fitted on, and of those of all figures."""
  order = np.random.default_rng(_SEED).permutation(count)
  return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


def calibrate(request: CalibrateRequest) -> tuple[Calibration, str]:
  """Fits temperature and thresholds, and writes them beside the checkpoint.

  Returns:
    What was written, and the path of the file.

  Raises:
    ValueError, OSError: a flag, the data or the checkpoint is not as it should be, or there are too
      few images for what is asked for.
  """
  (member,) = request.evaluation.ensemble.members
  prefix = formats.locate(member.checkpoint_path)
  files.try_file(stored_calibration.path_of(prefix))
  evaluation = Evaluation(request.evaluation)
  dataset = evaluation.dataset
  if dataset.multi_label:
    raise ValueError(
      f'images of {dataset.name} may have several right labels: calibration is for images of one'
    )
  logging.info('%s', evaluation.describe())
  images, probabilities = evaluation.probabilities([prefix])
  labels = np.array([image.labels[0] for image in images], np.int32)
  scores, (fitted, measured) = Scores(probabilities, labels), halves(len(images))
  if not len(fitted):
    raise ValueError(f'{len(images)} images are too few: half of them give the temperature')
  temperature = calibration.fit_temperature(*scores.take(fitted))
  before = scores.take(measured)
  after = before._replace(probabilities=calibration.scaled(before.probabilities, temperature))
  try:
    sets, abstention = _thresholds(request.config.calibration, evaluation, after)
  except ValueError as error:
    raise ValueError(
      f'{error} (the thresholds are of {len(measured)} images, the temperature of {len(fitted)} '
      f'others of the {len(images)} of {dataset.split_name})'
    ) from error
  stored = Calibration(
    checkpoint=os.path.basename(prefix),
    checkpoint_id=checkpoint_files.identity(prefix),
    weights=evaluation.loaded.weights,
    views=stored_calibration.describe_views(member.spec, request.evaluation.ensemble.average),
    dataset_name=dataset.name,
    dataset_split_name=dataset.split_name,
    dataset_dir=os.path.realpath(request.evaluation.config.records.dataset_dir),
    dataset_hash=dataset.info_hash,
    num_classes=dataset.num_classes,
    fitted_images=len(fitted),
    measured_images=len(measured),
    temperature=temperature,
    expected_calibration_error=_errors(before, after),
    negative_log_likelihood=Figure(
      calibration.negative_log_likelihood(*before), calibration.negative_log_likelihood(*after)
    ),
    sets=sets,
    abstention=abstention,
  )
  return stored, stored_calibration.write(prefix, stored)


def _thresholds(
  options: CalibrationConfig, evaluation: Evaluation, scores: Scores
) -> tuple[Sets | None, Abstention | None]:
  """The thresholds of sets of classes and of abstention, each None where it is not asked for.

  Args:
    options: what is asked for.
    evaluation: with the checkpoint loaded.
    scores: of the images that the temperature was not fitted on, scaled by it.

  Raises:
    ValueError: there are too few images.
  """
  dataset, sets, abstention = evaluation.dataset, None, None
  if options.coverage is not None:
    first = max(evaluation.loaded.labels_offset, dataset.label_range[0])
    sets = conformal.fit(
      options.sets or 'plain',
      options.coverage,
      *scores,
      lambda label: name_of(dataset.labels_to_names, label),
      range(first, dataset.num_classes),
    )
  if options.max_error is not None:
    abstention = calibration.abstention(
      scores.probabilities.max(-1), scores.right, options.max_error
    )
  return sets, abstention


def _errors(before: Scores, after: Scores) -> Figure:
  (error, interval), (error_after, interval_after) = (
    calibration.calibration_error(each.probabilities.max(-1), each.right)
    for each in (before, after)
  )
  return Figure(error, error_after, tuple(interval), tuple(interval_after))
