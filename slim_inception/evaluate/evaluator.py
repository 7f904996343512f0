"""Evaluates one net or an ensemble: every image counts exactly once, by one view or by many."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception.datasets import dataset_factory
from slim_inception.evaluate import answers, collector, examples, metrics
from slim_inception.evaluate.collector import Collector, Found, Image
from slim_inception.evaluate.config import Member, Request, passes
from slim_inception.evaluate.means import Means
from slim_inception.evaluate.metrics import Predictions
from slim_inception.evaluate.scorer import Loaded, Scorer, mean_to_probabilities, of_labels
from slim_inception.evaluate.views import ViewSpec, view_stream
from slim_inception.input import pipeline as input_pipeline
from slim_inception.train.distribution import Team


class Outcome(NamedTuple):
  """What an evaluation found."""

  metrics: dict[str, Any]
  predictions: Predictions  # of the ensemble


class Evaluation:
  """A split and the nets of an ensemble, ready to evaluate checkpoints.

  Args:
    request: what to evaluate and how; the `checkpoint_path`s are not looked at.
    team: the processes and devices that share the images; this process and its first device
      by default.

  Raises:
    ValueError, OSError: a flag or the data is not as it should be.
  """

  def __init__(self, request: Request, team: Team | None = None):
    config, members = request
    self._config = config
    self._team = team or Team(tf.distribute.get_strategy())
    self._num_replicas = self._team.strategy.num_replicas_in_sync // self._team.count
    self.dataset = self._split(config.dataset_split_name)
    input_pipeline.check_labels(self.dataset, _labels_offset(members))
    self._excluded_names = config.exclude_list and answers.read_exclude_list(config.exclude_list)
    self._real_labels = config.real_labels and answers.read_real_labels(
      config.real_labels, self.dataset.num_classes, min(1, self.dataset.label_range[0])
    )
    self._scorers = [Scorer(m, config, self.dataset, self._team.strategy) for m in members]
    shares = np.array([member.share for member in members])
    self._shares = shares / shares.sum()
    # Nets that see the same views share one pass over the images.
    self._passes = passes(request)

  def evaluate(self, prefixes: Sequence[str]) -> Outcome | None:
    """Evaluates a checkpoint of each net.

    Args:
      prefixes: of the checkpoints.

    Returns:
      What was found, by the chief; None by the other workers.

    Raises:
      ValueError, OSError: a checkpoint does not fit, or the data is damaged.
    """
    train_set = self._split('train') if self._config.calibrate_batches else None
    loaded = [s.load(prefix, train_set) for s, prefix in zip(self._scorers, prefixes, strict=True)]
    started = time.monotonic()
    try:
      found = self._predict(loaded)
    except input_pipeline.READ_ERRORS as error:
      offset = _labels_offset([scorer.member for scorer in self._scorers])
      raise input_pipeline.read_error(self.dataset, offset, error) from error
    found = collector.gather(self._team, self._config.eval_dir, found)
    return found and self._outcome(found, loaded, time.monotonic() - started)

  def _predict(self, loaded: Sequence[Loaded]) -> Found:
    collected = [Collector() for _ in loaded]
    ensemble = Collector()
    sums: dict[int, np.ndarray] = {}  # place -> [num_classes]: what earlier passes gave
    last = len(self._passes) - 1
    for number, (spec, indices) in enumerate(self._passes.items()):
      excluded: list[str] = []
      for image, means in self._means(spec, indices, loaded, excluded):
        weighted = self._shares[indices] @ means
        for i, mean in zip(indices, means, strict=True):
          collected[i].add(image, mean_to_probabilities(mean, self._config))
        if last:
          weighted += sums.pop(image.place, 0.0)
        if number < last:
          sums[image.place] = weighted.astype(np.float32)
        elif len(loaded) > 1:
          ensemble.add(image, mean_to_probabilities(weighted, self._config))
    everyone = collected if len(loaded) == 1 else [*collected, ensemble]
    return Found([each.predictions() for each in everyone], excluded)

  def _means(
    self,
    spec: ViewSpec,
    indices: Sequence[int],
    loaded: Sequence[Loaded],
    excluded: list[str],
  ) -> Iterator[tuple[Image, np.ndarray]]:
    """One pass: each image and the mean scores [nets, num_classes] of its views.

    Names of images that are left out are added to `excluded`.
    """
    means = Means()
    seen: dict[int, Image] = {}
    batches = self._view_batches(spec, excluded)
    for tags, parts in self._rounds(batches, spec):
      places = tags['place']
      for i in np.flatnonzero(np.diff(places, prepend=-1)):
        seen[int(places[i])] = _image({name: value[i] for name, value in tags.items()})
      rows = []
      for i in indices:
        scores = self._score(self._scorers[i], parts)[: len(places)]
        rows.append(of_labels(scores, loaded[i], self.dataset.num_classes, self._config))
      for place, mean in means.add(places, np.stack(rows)):
        yield seen.pop(place), mean
    for place, mean in means.finish():
      yield seen.pop(place), mean

  def _rounds(
    self, batches: tf.data.Dataset, spec: ViewSpec
  ) -> Iterator[tuple[dict[str, np.ndarray], list[tf.Tensor]]]:
    """What the replicas do at once: tags of the views, and [n, H, W, C] for each replica.

    The last round is filled up with views that are there already; tags tell how many count.
    """
    replicas = self._num_replicas
    if spec.num_views is None:  # whole images, each of its own size
      rounds = batches.as_numpy_iterator()
      while group := list(itertools.islice(rounds, replicas)):
        parts = [tf.constant(batch.pop('image')) for batch in group]
        tags = {name: np.concatenate([batch[name] for batch in group]) for name in group[0]}
        yield tags, [*parts, *parts[:1] * (replicas - len(parts))]
      return
    for batch in batches:
      images = batch.pop('image')
      rest = -len(images) % replicas
      filled = tf.concat([images, tf.repeat(images[:1], rest, axis=0)], 0) if rest else images
      yield {name: value.numpy() for name, value in batch.items()}, tf.split(filled, replicas)

  def _score(self, scorer: Scorer, parts: Sequence[tf.Tensor]) -> np.ndarray:
    """[n, outputs] of the views of all replicas."""
    strategy = self._team.strategy
    images = parts[0]
    if len(parts) > 1:
      images = strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group % len(parts)]
      )
    scores = strategy.experimental_local_results(scorer.score(images))
    return np.concatenate([part.numpy() for part in scores])

  def _view_batches(self, spec: ViewSpec, excluded: list[str]) -> tf.data.Dataset:
    config, team = self._config, self._team

    def is_wanted(filename: str) -> bool:
      if self._excluded_names.is_excluded([filename])[0]:
        excluded.append(filename)
        return False
      return True

    def decoded(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
      tags = {name: value for name, value in example.items() if name != 'encoded'}
      return {**tags, 'image': spec.preprocessing.decode(example['encoded'])}

    count = min(self.dataset.num_samples, config.max_images or self.dataset.num_samples)
    found = examples.read(
      self.dataset,
      examples.share_of(count, team.index, team.count),
      labels_offset=_labels_offset([scorer.member for scorer in self._scorers]),
      multi_label=config.loss == 'sigmoid',
      is_wanted=is_wanted if self._excluded_names else None,
    )
    batch_size = config.batch_size * self._num_replicas
    return view_stream(found, decoded, spec, batch_size, config.num_preprocessing_threads)

  def _outcome(self, found: Found, loaded: Sequence[Loaded], seconds: float) -> Outcome:
    config, dataset = self._config, self.dataset
    predictions = found.predictions
    num_predicted = len(predictions[-1].places)
    if self._excluded_names:
      note = self._excluded_names.check_used([*predictions[-1].filenames, *found.excluded])
      if note:
        logging.warning('%s', note)
    if not num_predicted:
      raise ValueError(f'No image of {dataset.name} {dataset.split_name} could be decoded')
    if self._real_labels:
      predictions = self._with_real_labels(predictions)
    names = dataset.labels_to_names
    summaries = [metrics.summary(p, dataset.num_classes, names) for p in predictions]
    nets = [
      {
        'checkpoint': of.prefix,
        'model_name': scorer.member.model_name,
        'image_size': scorer.member.image_size,
        'input_channels': scorer.member.input_channels,
        'weights': of.weights,
        'labels_offset': of.labels_offset,
      }
      for scorer, of in zip(self._scorers, loaded, strict=True)
    ]
    what = nets[0]
    if len(nets) > 1:
      what = {
        'members': [
          {**net, 'share': float(share), **summary}
          for net, share, summary in zip(nets, self._shares, summaries, strict=False)
        ]
      }
    read = min(dataset.num_samples, config.max_images or dataset.num_samples)
    return Outcome(
      {
        **summaries[-1],
        'excluded_images': len(found.excluded),
        'unlabelled_images': num_predicted - len(predictions[-1].places),
        'skipped_images': read - len(found.excluded) - num_predicted,
        'images_per_second': round(num_predicted / seconds, 2),
        'dataset_name': dataset.name,
        'dataset_split_name': dataset.split_name,
        'exclude_list': config.exclude_list,
        'real_labels': config.real_labels,
        'max_images': config.max_images,
        **_described(self._scorers[0].spec),
        'average': config.average,
        'calibrate_batches': config.calibrate_batches,
        **what,
      },
      predictions[-1],
    )

  def _with_real_labels(self, predictions: Sequence[Predictions]) -> list[Predictions]:
    """The images that have a right answer, with all that they have."""
    found = self._real_labels.answers(predictions[-1].filenames)
    if found.note:
      logging.warning('%s', found.note)
    return [
      collector.only(dataclasses.replace(of_net, answers=found.labels), found.counted)
      for of_net in predictions
    ]

  def _split(self, name: str) -> dataset_factory.Dataset:
    return dataset_factory.get_dataset(self._config.dataset_name, name, self._config.dataset_dir)


def _described(spec: ViewSpec) -> dict[str, Any]:
  return {
    'crops': spec.crops,
    'crop_scales': list(spec.scales),
    'resize': spec.resize,
    'interpolation': spec.interpolation,
  }


def _labels_offset(members: Sequence[Member]) -> int:
  """The offset that leaves the fewest labels, where it was given."""
  return max((member.labels_offset or 0 for member in members), default=0)


def _image(example: dict[str, Any]) -> Image:
  label = example['label']
  labels = np.flatnonzero(label) if label.ndim else [label]
  filename = example['filename'].decode(errors='surrogateescape')
  return Image(int(example['place']), filename, tuple(int(label) for label in labels))
