"""What a run took from its data set: the names of its classes, and which records it has seen.

It stands in config.json under 'run', so that a net's answers have the names that it was trained
with, whatever becomes of the data set.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from slim_inception import files
from slim_inception.datasets import dataset_info, joined
from slim_inception.datasets.dataset_factory import Dataset


class TrainedOn(NamedTuple):
  """What is known of the data set of a run.

  Attributes:
    path: of the file that says it.
    dataset_dir: where the records were; of several sets, with commas between them.
    labels: {label: name}; {} where nobody knows them.
    label_offset: the first label that images have: 1 where 0 is a background.
    labels_offset: the label of the net's first output.
    dataset_hashes: of `dataset.json`, one for each that the run has had; () where there was none.
  """

  path: str
  dataset_dir: str
  labels: dict[int, str]
  label_offset: int = 0
  labels_offset: int = 0
  dataset_hashes: tuple[str, ...] = ()

  @property
  def folder(self) -> str:
    """Of the run, or where the checkpoint was copied to."""
    return os.path.dirname(self.path) or '.'

  def labels_with(self, offset: int) -> dict[int, str]:
    """{label: name} where labels are the net's outputs plus an offset."""
    return {label - self.labels_offset + offset: name for label, name in self.labels.items()}


def facts(dataset: Dataset, before: Mapping[str, Any]) -> dict[str, Any]:
  """What config.json is to say under 'run'.

  Args:
    dataset: of the run.
    before: what it says already; {} where a run begins.
  """
  hashes = before.get('dataset_hashes', [])
  new = [each for each in sorted(hashes_of(dataset)) if each not in hashes]
  return {
    'label_offset': dataset.label_offset,
    'labels': list(_named(dataset).values()),
    'dataset_hashes': [*hashes, *new],
  }


def trained_on(path: str, config: Mapping[str, Any]) -> TrainedOn | None:
  """What the config.json at `path`, with this content, says; None: nothing, as those of 0.1.0."""
  run = config.get('run', {})
  if 'labels' not in run:
    return None
  return TrainedOn(
    path,
    config.get('dataset_dir') or '',
    dict(enumerate(run['labels'])),
    run.get('label_offset', 0),
    config.get('labels_offset') or 0,
    tuple(run.get('dataset_hashes', ())),
  )


def check_resumed(known: TrainedOn, dataset: Dataset, dataset_dir: str) -> None:
  """Compares the data set of a run that goes on with what it was; says it where records changed.

  Raises:
    ValueError: it has other classes.
  """
  labels = _named(dataset)
  if known.labels and labels:
    difference = differences(known.labels, labels)
    if len(known.labels) != len(labels):
      difference = f'there were {len(known.labels)} labels and are {len(labels)}'
    elif known.label_offset != dataset.label_offset:
      difference = f'label_offset was {known.label_offset} and is {dataset.label_offset}'
    if difference:
      raise ValueError(_other_classes(known, dataset_dir, difference))
  _warn_of_other_records(known, dataset, dataset_dir)


def check_evaluated(known: TrainedOn, dataset: Dataset, dataset_dir: str, offset: int) -> None:
  """Compares records that a net is evaluated on with those that it was trained on.

  Arguments and errors as `check_classes`.
  """
  check_classes(known, dataset, dataset_dir, offset)
  _warn_of_other_records(known, dataset, dataset_dir)


def check_classes(known: TrainedOn, dataset: Dataset, dataset_dir: str, offset: int) -> None:
  """Compares the classes of a net with those of records that it is to see.

  Records of another folder may have other names for the same classes, which is said.

  Args:
    known: of the net's run.
    dataset: the records.
    dataset_dir: where they are.
    offset: label - output.

  Raises:
    ValueError: the records of the run were replaced by those of other classes, or a class of the
      run has another label.
  """
  labels, now = known.labels_with(offset), dataset.labels_to_names
  if difference := differences(labels, now):
    is_replaced = os.path.realpath(dataset_dir) in map(
      os.path.realpath, joined.folders(known.dataset_dir)
    )
    moved = [name for label, name in now.items() if labels.get(label, name) != name]
    if is_replaced or set(moved) & set(labels.values()):
      raise ValueError(_other_classes(known, dataset_dir, difference))
    text = '%s calls the classes of %s otherwise: %s'
    logging.warning(text, dataset_dir, known.folder, difference)


def names_of_outputs(known: TrainedOn | None, dataset: Dataset, offset: int) -> list[str]:
  """The name of each output of a net: the run's, or else the data set's; or the label's number.

  Args:
    known: of the net's run.
    dataset: that has the labels.
    offset: label - output.
  """
  labels = range(offset, dataset.num_classes)
  of_run = known.labels_with(offset) if known else {}
  if known:
    warn_of_other_names(known, of_run, dataset)
  names = {**dataset.labels_to_names, **of_run}
  return [names.get(label, str(label)) for label in labels]


def warn_of_other_names(known: TrainedOn, labels: Mapping[int, str], dataset: Dataset) -> None:
  """Says it where names of a run, which are taken, are not those that its records have today."""
  if difference := differences(labels, dataset.labels_to_names):
    text = '%s: classes have the names that it was trained with; its records have others now: %s'
    logging.warning(text, known.folder, difference)


def hashes_of(dataset: Dataset) -> set[str]:
  """Of `dataset.json` of the sets that it was joined of; of those that have one."""
  return {part.info_hash for part in joined.parts(dataset) if part.info_hash}


def _named(dataset: Dataset) -> dict[int, str]:
  """{label: name} of all labels; {} where no name is known."""
  names = dataset.labels_to_names
  return {label: names.get(label, str(label)) for label in range(dataset.num_classes) if names}


def differences(before: Mapping[int, str], now: Mapping[int, str]) -> str:
  """How the names {label: name} of labels that both have differ; '' where they do not."""
  return files.some(
    (
      f'label {label} was {name!r} and is {now[label]!r}'
      for label, name in before.items()
      if now.get(label, name) != name
    ),
    2,
  )


def _other_classes(known: TrainedOn, dataset_dir: str, difference: str) -> str:
  return (
    f'{known.folder} was trained on other classes than {dataset_dir} has: {difference}. Give the '
    'records that it was trained on; if classes were only renamed, write the new names into '
    f'run.labels of {known.path}'
  )


def _warn_of_other_records(known: TrainedOn, dataset: Dataset, dataset_dir: str) -> None:
  hashes = set(known.dataset_hashes)
  if hashes and (now := hashes_of(dataset)) and hashes != now:
    path = os.path.join(dataset_dir, dataset_info.INFO_FILE)
    text = '%s is not what %s was trained on (only): %s may have images that it was trained on'
    logging.warning(text, path, known.folder, dataset.split_name)
