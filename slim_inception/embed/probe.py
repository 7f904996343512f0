"""What the features of a net are good for: a linear classifier and k-nearest neighbours on them."""

import functools
import hashlib
import json
import os
import time
import zipfile
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from slim_inception import files
from slim_inception.cluster import make_strategy
from slim_inception.datasets import source_records
from slim_inception.datasets.dataset_factory import Dataset, get_dataset
from slim_inception.datasets.progress_bar import ProgressBar, waiting
from slim_inception.embed import linear, neighbors
from slim_inception.embed.embedder import embeddings
from slim_inception.embed.probe_config import ProbeRequest
from slim_inception.evaluate import examples
from slim_inception.evaluate.metrics import accuracies, wilson_interval
from slim_inception.evaluate.predictor import Ensemble
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input import record_order
from slim_inception.nets import checkpoint_files
from slim_inception.nets.convert import formats

_FOLDS = 5  # of which one is held out to choose the strength of the L2 loss


class Features(NamedTuple):
  """Of the images of a split that can be decoded, in the order of the records.

  Attributes:
    values: [N, width] float32, of several nets side by side.
    labels: [N] int32.
  """

  values: np.ndarray
  labels: np.ndarray


class Extractor:
  """The nets, which are made when features are not at hand.

  Args:
    request: which, and how they look at images.
  """

  def __init__(self, request: ProbeRequest):
    self._request = request
    self._prefixes = [formats.locate(m.checkpoint_path) for m in request.ensemble.members]
    self._ensemble: Ensemble | None = None

  def extract(self, dataset: Dataset) -> Features:
    """The features of a split: computed, or as they lie in --features_dir.

    Raises:
      ValueError, OSError: the records or a checkpoint are not as they should be.
    """
    folder = self._request.config.heads.features_dir
    if folder is None:
      return self._compute(dataset)
    path = os.path.join(folder, f'{self.key(dataset)}.npz')
    kept = _read(path)
    if kept is not None:
      logging.info('The features of %s are those of %s', dataset.split_name, path)
      return kept
    features = self._compute(dataset)
    os.makedirs(folder, exist_ok=True)
    with (
      files.naming_full_disk(path),
      files.atomic_path(path) as temporary,
      open(temporary, 'wb') as file,
    ):
      np.savez(file, values=features.values, labels=features.labels)
    return features

  def key(self, dataset: Dataset) -> str:
    """A name that is another one where the weights, the views or the records are others."""
    nets = [
      [
        checkpoint_files.identity(prefix),
        member.model_name,
        repr(member.spec),
        member.spec.preprocessing.name,
        repr(sorted(member.net_arguments.items())),
        member.use_ema,
      ]
      for prefix, member in zip(self._prefixes, self._request.ensemble.members, strict=True)
    ]
    shards = [(os.path.basename(p), os.stat(p).st_size, os.stat(p).st_mtime_ns)
              for p in sorted(dataset.paths)]  # fmt: skip
    precision = self._request.ensemble.compute.precision
    parts = [nets, self._request.config.heads.end_point, precision, dataset.info_hash, shards]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    return f'{dataset.name}-{dataset.split_name}-{digest}'

  def _compute(self, dataset: Dataset) -> Features:
    ensemble = self._loaded()
    values, labels = [], []
    records = examples.read(dataset, range(dataset.num_samples))
    total = ensemble.num_views(dataset.num_samples)
    try:
      with ProgressBar(f'Features of {dataset.split_name}', total, 'views') as bar:
        for scored in ensemble.score(records, report=bar.update):
          values.append(np.concatenate(scored.means).astype(np.float32))
          labels.append(int(scored.tags['label']))
    except input_pipeline.READ_ERRORS as error:
      raise input_pipeline.read_error(dataset, 0, error) from error
    if not values:
      raise ValueError(f'No image of {dataset.name} {dataset.split_name} could be decoded')
    return Features(np.stack(values), np.array(labels, np.int32))

  def _loaded(self) -> Ensemble:
    if self._ensemble is None:
      end_point = self._request.config.heads.end_point
      self._ensemble = Ensemble(
        self._request.ensemble,
        None,
        make_strategy(1, False),
        logits_fn=functools.partial(embeddings, end_point=end_point),
      )
      self._ensemble.load(self._prefixes)
      logging.info('Features are computed on %s', self._ensemble.devices)
    return self._ensemble


def _read(path: str) -> Features | None:
  """None where there are none, or no whole ones."""
  try:
    with open(path, 'rb') as file, np.load(file) as arrays:
      values, labels = arrays['values'], arrays['labels']
  except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError):
    return None
  is_sound = values.ndim == 2 and values.dtype == np.float32 and labels.shape == values.shape[:1]
  return Features(values, labels) if is_sound else None


def probe(request: ProbeRequest) -> dict[str, Any]:
  """Fits and measures both classifiers.

  Returns:
    What was probed, and under 'linear' and 'knn' top_1 and top_5 (where there are more than five
    classes), each with its 95 % interval under `_interval`.

  Raises:
    ValueError, OSError: the records or a checkpoint are not as they should be, or scikit-learn is
      not installed.
  """
  linear.scikit_learn()  # says at once that it is not there: features take hours
  chosen = request.config.records
  folder, name = chosen.dataset_dir or '', chosen.dataset_name or ''
  records = source_records.find_or_make(name, folder, chosen.cache_dir)
  name, folder = records.get('dataset_name', name), records.get('dataset_dir', folder)
  train_set, eval_set = (
    record_order.counted(get_dataset(name, split, folder))
    for split in (chosen.train_split_name, chosen.eval_split_name)
  )
  if train_set.multi_label:
    raise ValueError(f'the images of {folder} have any number of labels: a probe needs one each')
  started, extractor = time.monotonic(), Extractor(request)
  train, test = extractor.extract(train_set), extractor.extract(eval_set)
  extracted = time.monotonic()
  figures = measure(train, test, eval_set.num_classes, request)
  ended = time.monotonic()
  return {
    'dataset_name': name,
    'dataset_dir': folder,
    'train_split_name': chosen.train_split_name,
    'eval_split_name': chosen.eval_split_name,
    'num_train_images': len(train.labels),
    'num_images': len(test.labels),
    'num_classes': eval_set.num_classes,
    'num_features': train.values.shape[1],
    'checkpoints': [
      {
        'checkpoint': formats.locate(member.checkpoint_path),
        'model_name': member.model_name,
        'image_size': member.spec.image_size,
        'preprocessing': member.spec.preprocessing.name,
      }
      for member in request.ensemble.members
    ],
    'end_point': request.config.heads.end_point,
    'seconds_of_features': round(extracted - started, 2),
    'seconds_of_heads': round(ended - extracted, 2),
    **figures,
  }


def measure(
  train: Features, test: Features, num_classes: int, request: ProbeRequest
) -> dict[str, Any]:
  """The figures of both classifiers, see `probe`."""
  heads = request.config.heads
  held_out = linear.folds_of(train.labels, _FOLDS, heads.seed) == 0
  with waiting('Fitting linear classifiers'):
    fitted = linear.fit_chosen(train.values, train.labels, num_classes, held_out)
  votes = neighbors.probabilities(
    *train, test.values, num_classes, heads.neighbors, heads.temperature
  )
  return {
    'linear': {
      **_accuracy(fitted.head.probabilities(test.values), test.labels, num_classes),
      'l2': fitted.head.l2,
      'held_out_losses': {f'{l2:g}': loss for l2, loss in fitted.losses.items()},
    },
    'knn': {
      **_accuracy(votes, test.labels, num_classes),
      'k': heads.neighbors,
      'temperature': heads.temperature,
    },
  }


def _accuracy(probabilities: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, Any]:
  """Top-1 and, of more than five classes, top-5, each with its interval."""
  right = np.take_along_axis(probabilities, labels[:, np.newaxis].astype(np.int64), 1)
  columns = np.arange(num_classes)
  ahead = probabilities > right
  ahead |= (probabilities == right) & (columns < labels[:, np.newaxis])  # the first label leads
  ranks = ahead.sum(-1)
  result: dict[str, Any] = {}
  for name in accuracies(num_classes):
    hits = int((ranks < int(name.removeprefix('top_'))).sum())
    result[name] = hits / len(labels)
    result[f'{name}_interval'] = list(wilson_interval(hits, len(labels)))
  return result
