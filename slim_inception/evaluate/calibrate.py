"""Calibration of a checkpoint from its flags to the file beside it."""

import os
from typing import NamedTuple

import numpy as np
from absl import logging

from slim_inception import files
from slim_inception.evaluate import calibration, conformal, stored_calibration
from slim_inception.evaluate.calibrate_config import CalibrateRequest
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
  options = request.config.calibration
  (member,) = request.evaluation.ensemble.members
  prefix = formats.locate(member.checkpoint_path)
  files.try_file(stored_calibration.path_of(prefix))
  evaluation = Evaluation(request.evaluation)
  if evaluation.dataset.multi_label:
    raise ValueError(
      f'images of {evaluation.dataset.name} may have several right labels: calibration is for '
      'images of one'
    )
  logging.info('%s', evaluation.describe())
  images, probabilities = evaluation.probabilities([prefix])
  labels = np.array([image.labels[0] for image in images], np.int32)
  scores, (fitted, measured) = Scores(probabilities, labels), halves(len(images))
  if not len(fitted):
    raise ValueError(f'{len(images)} images are too few: half of them give the temperature')
  temperature = calibration.fit_temperature(*scores.take(fitted))
  rest = scores.take(measured)
  scaled = rest._replace(probabilities=calibration.scaled(rest.probabilities, temperature))
  dataset, loaded = evaluation.dataset, evaluation.loaded
  sets = abstention = None
  try:
    if options.coverage is not None:
      sets = conformal.fit(
        options.sets or 'plain',
        options.coverage,
        *scaled,
        lambda label: name_of(dataset.labels_to_names, label),
        range(max(loaded.labels_offset, dataset.label_range[0]), dataset.num_classes),
      )
    if options.max_error is not None:
      abstention = calibration.abstention(
        scaled.probabilities.max(-1), scaled.right, options.max_error
      )
  except ValueError as error:
    raise ValueError(
      f'{error} (the thresholds are of {len(measured)} images, the temperature of {len(fitted)} '
      f'others of the {len(images)} of {dataset.split_name})'
    ) from error
  records = request.evaluation.config.records
  stored = Calibration(
    os.path.basename(prefix),
    checkpoint_files.identity(prefix),
    loaded.weights,
    stored_calibration.describe_views(member.spec, request.evaluation.ensemble.average),
    dataset.name,
    dataset.split_name,
    os.path.realpath(records.dataset_dir),
    dataset.info_hash,
    dataset.num_classes,
    len(fitted),
    len(measured),
    temperature,
    _errors(rest, scaled),
    Figure(
      calibration.negative_log_likelihood(*rest), calibration.negative_log_likelihood(*scaled)
    ),
    sets,
    abstention,
  )
  return stored, stored_calibration.write(prefix, stored)


def _errors(before: Scores, after: Scores) -> Figure:
  (error, interval), (error_after, interval_after) = (
    calibration.calibration_error(each.probabilities.max(-1), each.right)
    for each in (before, after)
  )
  return Figure(error, error_after, tuple(interval), tuple(interval_after))
