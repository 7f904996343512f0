"""A net on ImageNet's validation images and on the sets beside them, in one table.

Every set is read once, and the net is loaded and traced once. What a net chooses among other than
all classes follows from the same outputs: the classes of ImageNet-A, -R, -O and ObjectNet and, of
the validation images, their clean counterparts.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from slim_inception import provenance
from slim_inception.cluster import make_cluster
from slim_inception.datasets import (
  dataset_factory,
  dataset_info,
  evaluation_sets,
  formats,
  imagenet,
  source_records,
)
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.datasets.evaluation_sets import SETS, SUBSETS
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.evaluate import collector, examples, ground_truth, robustness_table
from slim_inception.evaluate.collector import Collector, Image
from slim_inception.evaluate.ground_truth import RealLabels
from slim_inception.evaluate.metrics import Predictions
from slim_inception.evaluate.predictor import Ensemble, Prediction
from slim_inception.evaluate.robustness_config import RobustnessRequest
from slim_inception.evaluate.robustness_table import Row
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input import record_order

_IMAGENET = 'imagenet'
_REAL = 'imagenet_real'
_VALIDATION_TITLE = 'ImageNet validation'
_ALL = ''  # the key of the predictions among all classes
_IMAGES_A_CLASS = 50  # of the validation images
_NUM_CLASSES = imagenet.NUM_CLASSES


class Table(NamedTuple):
  """The results; see `robustness_table.write`."""

  rows: list[Row]
  published: dict[str, dict[str, float]]
  facts: dict[str, Any]
  corruption_errors: dict[str, dict[int, float]]


@dataclasses.dataclass(frozen=True)
class _Set:
  """Records of a set.

  Attributes:
    name: a key of `SETS`, or 'imagenet' for the validation images.
    folder: where the records are.
    dataset: the records.
    choices: {key: labels among which the net chooses}; the background is among none.
  """

  name: str
  folder: str
  dataset: Dataset
  choices: Mapping[str, np.ndarray]

  @property
  def title(self) -> str:
    return _VALIDATION_TITLE if self.name == _IMAGENET else SETS[self.name].title


def evaluate(request: RobustnessRequest) -> Table:
  """Evaluates the nets on all sets.

  Raises:
    ValueError, OSError: a set, a checkpoint or the data is not as it should be.
  """
  config = request.config
  cluster = make_cluster(config.devices.num_clones, config.devices.clone_on_cpu)
  if cluster.count > 1:
    raise ValueError('robustness runs on one worker')
  sets = _open(config.sets.sets, config.sets.cache_dir)
  real_labels = _real_labels(config.sets.real_labels, sets)
  classes = dataset_factory.classes_of(_IMAGENET, None)
  replicas = cluster.strategy.num_replicas_in_sync
  ensemble = Ensemble(request.ensemble, classes, cluster.strategy, replicas)
  ensemble.load(request.prefixes)
  for scorer in ensemble.scorers:
    if known := scorer.member.trained_on:
      first = next(iter(sets.values()))
      offset = scorer.loaded.labels_offset
      provenance.check_evaluated(known, first.dataset, first.folder, offset)
  predicted, failed = _predict_all(ensemble, sets, config.sets.max_images)
  names = [member.model_name for member in request.ensemble.members]
  spec = request.ensemble.members[0].spec
  facts = {
    'nets': ' + '.join(names),
    'checkpoints': [scorer.loaded.prefix for scorer in ensemble.scorers],
    'weights': [scorer.loaded.weights for scorer in ensemble.scorers],
    'image_size': spec.image_size,
    'preprocessing': spec.preprocessing.name,
    'crops': spec.crops,
    'resize': spec.resize,
    'interpolation': spec.interpolation,
    'real_labels': config.sets.real_labels,
    'max_images': config.sets.max_images,
    'sets': {name: each.folder for name, each in sets.items()},
    'failed': failed,
  }
  corrupted = predicted.get('imagenet_c', {}).get(_ALL)
  return Table(
    _rows(predicted, real_labels),
    robustness_table.published(names),
    facts,
    robustness_table.corruption_errors(corrupted) if corrupted else {},
  )


# Sets


def _open(paths: str, cache_dir: str | None) -> dict[str, _Set]:
  """The sets in folders, by name in the order of the table.

  Raises:
    ValueError: a folder holds no set, or two hold the same.
    OSError: a folder or records are missing.
  """
  opened: dict[str, _Set] = {}
  for path in paths.split(','):
    for folder in _folders(Path(path), cache_dir):
      each = _open_records(folder)
      if each.name in opened:
        both = f'{opened[each.name].folder} and {each.folder}'
        raise ValueError(f'--sets: {both} both hold {each.name}: give one')
      opened[each.name] = each
  order = [_IMAGENET, *SETS]
  return {name: opened[name] for name in order if name in opened}


def _folders(path: Path, cache_dir: str | None) -> list[Path]:
  """The folders of records that a path stands for; those of a source are made first."""
  if path.is_dir() and source_records.has_records(path):
    return [path]
  below = _below(path) if path.is_dir() else []
  if below:
    return below
  if of_several := evaluation_sets.several(path):
    entries = sorted(set(of_several.values()))
    return [folder for entry in entries for folder in _folders(entry, cache_dir)]
  kind, _ = formats.recognize(os.fspath(path))
  if kind.name not in (_IMAGENET, *SETS):
    valid = ', '.join([_IMAGENET, *SETS])
    raise ValueError(
      f'--sets: {path} is {kind.name}, not one of {valid}; slim-inception data --dataset_name=NAME '
      'makes records of it'
    )
  split = evaluation_sets.SPLIT if kind.name == _IMAGENET else None
  return [Path(source_records.make(path, cache_dir, split))]


def _below(folder: Path) -> list[Path]:
  """The folders in a folder that hold records of ImageNet or its sisters."""
  below = [path for path in sorted(folder.iterdir()) if path.is_dir()]
  infos = zip(below, map(dataset_info.read_info, below), strict=True)
  return [path for path, info in infos if info and info.name in (_IMAGENET, *SETS)]


def _open_records(folder: Path) -> _Set:
  info = dataset_info.read_info(folder)
  name = info.name if info else _IMAGENET
  if name not in (_IMAGENET, *SETS):
    valid = ', '.join([_IMAGENET, *SETS])
    raise ValueError(f'--sets: {folder} holds {name}, not one of {valid}')
  dataset = dataset_factory.get_dataset(name, evaluation_sets.SPLIT, folder)
  if dataset.num_classes != _NUM_CLASSES:
    raise ValueError(
      f"--sets: {folder} has {dataset.num_classes} classes, not ImageNet's 1,000 with a background"
    )
  choices = {_ALL: np.arange(1, _NUM_CLASSES)}
  if name == _IMAGENET:
    choices |= {each: np.array(evaluation_sets.subset(each)) for each in SUBSETS}
  elif SETS[name].classes:
    choices = {_ALL: np.array(evaluation_sets.subset(SETS[name].classes))}
  # Counted: what is not there would pass for images that were skipped.
  return _Set(name, os.fspath(folder), record_order.counted(dataset), choices)


def _real_labels(path: str | None, sets: Mapping[str, _Set]) -> RealLabels | None:
  if path is None:
    return None
  if _IMAGENET not in sets:
    raise ValueError('--real_labels needs the validation images of ImageNet among --sets')
  if _REAL in sets:
    raise ValueError(
      f'--real_labels and {sets[_REAL].folder} of --sets both have the labels of ReaL: give one'
    )
  return ground_truth.read_real_labels(path, _NUM_CLASSES, label_offset=1)


# Predicting


def _predict_all(
  ensemble: Ensemble, sets: Mapping[str, _Set], max_images: int | None
) -> tuple[dict[str, dict[str, Predictions]], dict[str, str]]:
  """What `_predict` says of each set, and what is wrong with those that cannot be read.

  Others' hours are not lost to a damaged one.

  Raises:
    ValueError, OSError: none can be read.
  """
  predicted: dict[str, dict[str, Predictions]] = {}
  failed: dict[str, str] = {}
  for name, each in sets.items():
    try:
      predicted[name] = _predict(ensemble, each, max_images)
    except (ValueError, OSError) as error:
      if len(failed) + 1 == len(sets):
        raise
      failed[name] = str(error)
      logging.error('%s is left out: %s', each.title, error)
  return predicted, failed


def _predict(ensemble: Ensemble, each: _Set, max_images: int | None) -> dict[str, Predictions]:
  """What the net chooses for all images of a set, by the keys of `choices`."""
  total = min(each.dataset.num_samples, max_images or each.dataset.num_samples)
  records = examples.read(each.dataset, range(total), multi_label=each.dataset.multi_label)
  collectors = {key: Collector(labels=labels) for key, labels in each.choices.items()}
  try:
    with ProgressBar(each.title, ensemble.num_views(total), 'views') as bar:
      for prediction in ensemble.predict(records, report=bar.update):
        image = _image(prediction)
        for of_key in collectors.values():
          of_key.add(image, prediction.probabilities)
  except input_pipeline.READ_ERRORS as error:
    raise input_pipeline.read_error(each.dataset, 0, error) from error
  predictions = {key: of_key.predictions() for key, of_key in collectors.items()}
  count = len(predictions[_ALL].record_indices)
  if not count:
    raise ValueError(f'No image of {each.folder} could be decoded')
  if count < total:
    logging.warning('%d of %d images of %s could not be decoded', total - count, total, each.folder)
  return predictions


def _image(prediction: Prediction) -> Image:
  label = prediction.tags['label']
  labels = np.flatnonzero(label) if label.ndim else [label]
  name = prediction.tags['filename'].decode(errors='surrogateescape')
  return Image(prediction.record_index, name, tuple(map(int, labels)))


# The table


def _rows(
  predicted: Mapping[str, Mapping[str, Predictions]], real_labels: RealLabels | None
) -> list[Row]:
  rows: list[Row] = []
  clean: dict[str, Predictions] = {}
  if validation := predicted.get(_IMAGENET):
    everything, size = validation[_ALL], imagenet.SPLIT_SIZES['validation']
    rows.append(robustness_table.accuracy(_IMAGENET, _VALIDATION_TITLE, everything, size))
    if real_labels:
      rows.append(_real(everything, real_labels))
    clean = {
      name: collector.of_labels(validation[name], np.array(evaluation_sets.subset(name)))
      for name in SUBSETS
    }
  for name, of_set in predicted.items():
    if name == _IMAGENET:
      continue
    kind, predictions = SETS[name], of_set[_ALL]
    counted = predictions.labels[:, 0] >= 0  # ReaL has images of which nobody knew a label
    size = kind.size - int(np.count_nonzero(~counted))
    if name == 'imagenet_c':
      rows += robustness_table.corruptions(name, kind.title, predictions, kind.size)
      for note in evaluation_sets.missing(kind, predictions.filenames):
        logging.warning('%s', note)
    elif kind.is_known:
      if counted.any():
        labelled = collector.only(predictions, counted)
        rows.append(robustness_table.accuracy(name, kind.title, labelled, size))
      else:
        logging.warning('%s is left out: no image has a label', kind.title)
    elif name in clean and len(clean[name].record_indices):
      rows += robustness_table.out_of_distribution(
        name, kind.title, predictions, clean[name], kind.size
      )
    else:
      logging.warning('%s is left out: it needs validation images of ImageNet', kind.title)
    if kind.is_known and name in clean and len(clean[name].record_indices):
      title = f'{_VALIDATION_TITLE}, classes of {kind.title}'
      size = _IMAGES_A_CLASS * len(evaluation_sets.subset(name))
      rows.append(robustness_table.accuracy(f'{name}_clean', title, clean[name], size))
  return rows


def _real(predictions: Predictions, real_labels: RealLabels) -> Row:
  """Of the images of which anybody knew a label."""
  truth = real_labels.ground_truth(predictions.filenames)
  if truth.note:
    logging.warning('%s', truth.note)
  counted = collector.only(dataclasses.replace(predictions, labels=truth.labels), truth.counted)
  if not len(counted.record_indices):
    raise ValueError(f'{real_labels.flag}: no image has a label')
  return robustness_table.accuracy(_REAL, f'{_VALIDATION_TITLE}, ReaL', counted, None)
