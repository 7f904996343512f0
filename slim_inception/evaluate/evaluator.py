"""Evaluates one net or an ensemble: every image counts exactly once, by one view or by many."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import provenance
from slim_inception.cluster import Cluster
from slim_inception.datasets import evaluation_sets, exclude_list
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.evaluate import collector, examples, ground_truth, label_spaces, metrics
from slim_inception.evaluate.collector import Collected, Collector, Image
from slim_inception.evaluate.config import Request
from slim_inception.evaluate.metrics import Predictions
from slim_inception.evaluate.predictor import Ensemble, Prediction, Values
from slim_inception.evaluate.scorer import Loaded
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input import record_order


class Outcome(NamedTuple):
  """The results of an evaluation."""

  metrics: dict[str, Any]
  predictions: Predictions  # of the ensemble, of images that have a label
  ranking: metrics.Ranking | None  # of all images, with --loss=sigmoid


class Evaluation:
  """A split and the nets of an ensemble, ready to evaluate checkpoints.

  Args:
    request: what to evaluate and how; the `checkpoint_path`s are not looked at.
    cluster: the processes and devices that share the images; this process and its first device
      by default.

  Raises:
    ValueError, OSError: a flag or the data is not as it should be.
  """

  def __init__(self, request: Request, cluster: Cluster | None = None):
    config = self._config = request.config
    images = config.images
    cluster = self._cluster = cluster or Cluster(tf.distribute.get_strategy())
    # Counted: what is not there would pass for images that were skipped.
    self.dataset = record_order.counted(config.records.split(config.records.dataset_split_name))
    # The offset that leaves the fewest labels, where one was given.
    self._labels_offset = max(member.labels_offset or 0 for member in request.ensemble.members)
    input_pipeline.check_labels(self.dataset, self._labels_offset)
    if self.dataset.name not in evaluation_sets.SETS:  # of whose labels any is right
      input_pipeline.check_loss(self.dataset, config.records.loss)
    self._is_checked = False
    self._exclude_list = self._real_labels = self._valid_labels = None
    if images.exclude_list:
      self._exclude_list = exclude_list.read(images.exclude_list)
    if images.real_labels:
      self._real_labels = ground_truth.read_real_labels(
        images.real_labels, self.dataset.num_classes, min(1, self.dataset.label_range[0])
      )
    if images.valid_labels:
      self._valid_labels = label_spaces.read_valid_labels(images.valid_labels, self.dataset)
    num_replicas = cluster.strategy.num_replicas_in_sync // cluster.count
    self._ensemble = Ensemble(request.ensemble, self.dataset, cluster.strategy, num_replicas)

  def evaluate(self, prefixes: Sequence[str]) -> Outcome | None:
    """Evaluates a checkpoint of each net.

    Args:
      prefixes: of the checkpoints.

    Returns:
      The results, in the chief; None in the other workers.

    Raises:
      ValueError, OSError: a checkpoint does not fit, or the data is damaged.
    """
    records = self._config.records
    train_set = records.split('train') if records.batch_norm_batches else None
    self._ensemble.load(prefixes, train_set)
    self._check_classes()
    self._check_calibration()
    started = time.monotonic()
    try:
      collected = self._predict()
    except input_pipeline.READ_ERRORS as error:
      raise input_pipeline.read_error(self.dataset, self._labels_offset, error) from error
    everything = collector.gather(self._cluster, self._config.results.eval_dir, collected)
    return everything and self._outcome(everything, time.monotonic() - started)

  def probabilities(self, prefixes: Sequence[str]) -> tuple[list[Image], np.ndarray]:
    """All that a checkpoint of each net says of the images, in one process.

    Returns:
      The images that could be decoded, and their [N, num_classes] float32 probabilities.

    Raises:
      ValueError, OSError: a checkpoint does not fit, or the data is damaged.
    """
    self._ensemble.load(prefixes)
    self._check_classes()
    images, rows = [], []
    try:
      for image, prediction in self._predictions({}):
        images.append(image)
        rows.append(prediction.probabilities.astype(np.float32))
    except input_pipeline.READ_ERRORS as error:
      raise input_pipeline.read_error(self.dataset, self._labels_offset, error) from error
    if not images:
      raise self._none_decoded()
    return images, np.stack(rows)

  @property
  def loaded(self) -> Loaded:
    """What the first net works with."""
    return self._ensemble.scorers[0].loaded

  def describe(self) -> str:
    """A line on what is evaluated, and on what."""
    dataset, cluster = self.dataset, self._cluster
    workers = f' of each of {cluster.count} workers' if cluster.count > 1 else ''
    return (
      f'Evaluating on {dataset.name} {dataset.split_name}: {self._num_records} images, '
      f'{dataset.num_classes} classes; on {self._ensemble.devices}{workers}'
    )

  def _check_classes(self) -> None:
    """Once: that outputs stand for the classes that the records have."""
    if not self._is_checked:
      for scorer in self._ensemble.scorers:
        if known := scorer.member.trained_on:
          folder, offset = self._config.records.dataset_dir, scorer.loaded.labels_offset
          provenance.check_evaluated(known, self.dataset, folder, offset)
    self._is_checked = True

  def _check_calibration(self) -> None:
    """That figures are not of the images that the calibration was fitted on."""
    stored, records = self._ensemble.calibration, self._config.records
    if stored is None or not stored.is_of(self.dataset, records.dataset_dir):
      return
    text = (
      f'the calibration of {self.loaded.prefix} was fitted on the split {self.dataset.split_name}, '
      'whose figures would be too good'
    )
    if self._config.nets.calibrated:
      raise ValueError(
        f'{text}: evaluate another split, or take what slim-inception calibrate measured on the '
        'half that it did not fit on'
      )
    logging.info('%s, and is not used', text)
    self._ensemble.calibration = None

  @property
  def _num_records(self) -> int:
    """How many records of the split are evaluated, by all workers."""
    total = self.dataset.num_samples
    return min(total, self._config.images.max_images or total)

  @property
  def _share(self) -> range:
    """The records of this worker."""
    return examples.share_of(self._num_records, self._cluster.index, self._cluster.count)

  def _predict(self) -> Collected:
    excluded: dict[int, str] = {}  # by record index: each pass over the records asks anew
    keep_scores = self._config.records.loss == 'sigmoid'
    stored = self._ensemble.calibration
    # Among some labels alone a set would not have its coverage.
    sets = stored.sets if stored and self._valid_labels is None else None
    ensemble = Collector(keep_scores, self._valid_labels, sets)
    members = [Collector(keep_scores, self._valid_labels) for _ in self._ensemble.scorers]
    for image, prediction in self._predictions(excluded):
      ensemble.add(image, prediction.probabilities)
      for member, probabilities in zip(members, prediction.of_members, strict=True):
        member.add(image, probabilities)
    differs = len(members) > 1 or self._ensemble.calibration
    everyone = [*members, ensemble] if differs else [ensemble]
    return Collected([each.predictions() for each in everyone], list(excluded.values()))

  def _predictions(self, excluded: dict[int, str]) -> Iterator[tuple[Image, Prediction]]:
    """What is said of each of this worker's images; see `_records`."""
    total = self._ensemble.num_views(len(self._share))
    with ProgressBar('Evaluating', total, 'views') as bar:
      for prediction in self._ensemble.predict(self._records(excluded), report=bar.update):
        yield _image(prediction.record_index, prediction.tags), prediction

  def _records(self, excluded: dict[int, str]) -> tf.data.Dataset:
    """This worker's records; what the exclude list leaves out is added to `excluded`."""
    excluding, split = self._exclude_list, self.dataset.split_name

    def keep(record_index: int, filename: str) -> bool:
      if excluding is None or not excluding.is_excluded(filename, split):
        return True
      excluded[record_index] = filename
      return False

    return examples.read(
      self.dataset,
      self._share,
      labels_offset=self._labels_offset,
      multi_label=self._config.records.loss == 'sigmoid' or self.dataset.multi_label,
      keep=keep if excluding else None,
    )

  def _outcome(self, collected: Collected, seconds: float) -> Outcome:
    """The figures of what all workers collected in so many seconds."""
    dataset, predictions = self.dataset, collected.predictions
    num_predicted = len(predictions[-1].record_indices)
    self._check_exclude_list(collected)
    if not num_predicted:
      raise self._none_decoded()
    if self._real_labels:
      predictions = self._with_real_labels(predictions, self._real_labels)
    rankings = [
      None if of_net.scores is None else metrics.ranking(of_net, dataset.num_classes)
      for of_net in predictions
    ]
    if dataset.multi_label:  # images without a label count for rankings alone
      predictions = [collector.only(each, each.labels[:, 0] >= 0) for each in predictions]
    num_labelled = len(predictions[-1].record_indices)
    if self._valid_labels is not None:
      predictions = [collector.of_labels(each, self._valid_labels) for each in predictions]
      if not len(predictions[-1].record_indices):
        valid_labels = self._config.images.valid_labels
        raise ValueError(f'No image is of a class in --valid_labels={valid_labels}')
    num_evaluated = len(predictions[-1].record_indices)
    names = dataset.labels_to_names
    summaries = [
      metrics.summary(of_net, dataset.num_classes, names) | (ranking.summary() if ranking else {})
      for of_net, ranking in zip(predictions, rankings, strict=True)
    ]
    figures = {
      **summaries[-1],
      'excluded_images': len(collected.excluded),
      'unlabelled_images': num_predicted - num_labelled,
      'other_images': num_labelled - num_evaluated,
      'skipped_images': self._num_records - len(collected.excluded) - num_predicted,
      'images_per_second': float(f'{num_predicted / seconds:.6g}'),
      **self._settings(),
      **self._calibration(summaries[0], predictions[-1]),
      **self._nets(summaries),
    }
    return Outcome(figures, predictions[-1], rankings[-1])

  def _check_exclude_list(self, collected: Collected) -> None:
    """Says so where names of the exclude list are of other images."""
    if self._exclude_list:
      filenames = [*collected.predictions[-1].filenames, *collected.excluded]
      note = self._exclude_list.check_used(filenames, self.dataset.split_name)
      if note:
        logging.warning('%s', note)

  def _with_real_labels(
    self, predictions: list[Predictions], real_labels: ground_truth.RealLabels
  ) -> list[Predictions]:
    """The images that have such labels, with these; says so where names do not match."""
    truth = real_labels.ground_truth(predictions[-1].filenames)
    if truth.note:
      logging.warning('%s', truth.note)
    return [
      collector.only(dataclasses.replace(of_net, labels=truth.labels), truth.counted)
      for of_net in predictions
    ]

  def _none_decoded(self) -> ValueError:
    dataset = self.dataset
    return ValueError(f'No image of {dataset.name} {dataset.split_name} could be decoded')

  def _settings(self) -> dict[str, Any]:
    """What `metrics.json` says of the images and how they were looked at."""
    config, spec = self._config, self._ensemble.scorers[0].member.spec
    return {
      'dataset_name': self.dataset.name,
      'dataset_split_name': self.dataset.split_name,
      'exclude_list': config.images.exclude_list,
      'real_labels': config.images.real_labels,
      'valid_labels': config.images.valid_labels,
      'max_images': config.images.max_images,
      'crops': spec.crops,
      'crop_scales': list(spec.scales) if spec.resize == 'aspect' else [],
      'resize': spec.resize,
      'interpolation': spec.interpolation,
      'average': config.views.average,
      'batch_norm_batches': config.records.batch_norm_batches,
    }

  def _calibration(
    self, uncalibrated: Mapping[str, Any], predictions: Predictions
  ) -> dict[str, Any]:
    """What `metrics.json` says of the calibration; {} without."""
    stored, dataset = self._ensemble.calibration, self.dataset
    if stored is None:
      return {}
    names = ('expected_calibration_error', 'calibration_bins')
    before = {f'uncalibrated_{name}': uncalibrated[name] for name in names}
    figures = {'temperature': stored.temperature, 'calibrated_on': stored.describe(), **before}
    if stored.sets and (of_sets := metrics.set_figures(predictions, dataset.num_classes)):
      asked = stored.sets.coverage
      figures |= {'sets': stored.sets.kind, 'coverage': asked, **of_sets}
      _, high = cast(list[float], of_sets['set_coverage_interval'])
      if high < asked:
        logging.warning(
          'sets are for a coverage of %.4g, and have the right label of %.4g of the images of %s: '
          'these differ from the %s',
          asked,
          of_sets['set_coverage'],
          dataset.split_name,
          stored.describe(),
        )
    if stored.abstention and self._valid_labels is None:
      figures |= {'max_error': stored.abstention.max_error}
      figures |= metrics.abstention_figures(predictions, stored.abstention.threshold)
    return figures

  def _nets(self, summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """What `metrics.json` says of the net, or of the members of an ensemble."""
    nets = [
      {
        'checkpoint': scorer.loaded.prefix,
        'model_name': scorer.member.model_name,
        'image_size': scorer.member.spec.image_size,
        'input_channels': scorer.member.spec.preprocessing.channels,
        'preprocessing': scorer.member.spec.preprocessing.name,
        'weights': scorer.loaded.weights,
        'labels_offset': scorer.loaded.labels_offset,
      }
      for scorer in self._ensemble.scorers
    ]
    if len(nets) == 1:
      return nets[0]
    members = zip(nets, self._ensemble.shares, summaries[:-1], strict=True)
    return {
      'members': [{**net, 'share': float(share), **summary} for net, share, summary in members]
    }


def _image(record_index: int, tags: Values) -> Image:
  label = tags['label']
  labels = np.flatnonzero(label) if label.ndim else [label]
  filename = tags['filename'].decode(errors='surrogateescape')
  return Image(record_index, filename, tuple(int(label) for label in labels))
