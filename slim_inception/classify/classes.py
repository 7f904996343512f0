"""The names of a net's outputs, where no records are at hand to tell them."""

import contextlib
from collections.abc import Mapping
from typing import Any

from absl import logging

from slim_inception import provenance
from slim_inception.datasets import dataset_factory, imagenet, joined, label_files
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import label_spaces
from slim_inception.evaluate.config import Member, Runs
from slim_inception.evaluate.stored_weights import open_weights
from slim_inception.provenance import TrainedOn

_IMAGENET = 'imagenet'
_IMAGENET_OUTPUTS = (imagenet.NUM_CLASSES - 1, imagenet.NUM_CLASSES)  # without background, and with


def find(labels_path: str | None, runs: Runs, member: Member, prefix: str) -> Dataset:
  """The classes of an ensemble.

  They are those of `--labels`; else those that the runs were trained on; else, for older runs, of
  their records; else ImageNet's, where the first net has as many outputs and its run says of no
  other data set; else numbers.

  Args:
    labels_path: `--labels`, or None.
    runs: of the checkpoints.
    member: the first net.
    prefix: of its checkpoint.

  Raises:
    OSError, ValueError: `--labels` cannot be read, a checkpoint is damaged, or the runs have
      different classes.
  """
  if labels_path:
    named = dataset_factory.with_names(labels_path, label_files.read_labels(labels_path))
    _check_number(named, open_weights(prefix, member.model_name).num_outputs, member)
    return named
  known = {
    folder: dataset
    for folder, run, trained_on in zip(runs.folders, runs.configs, runs.trained_on, strict=True)
    if (dataset := _of_run(run, trained_on))
  }
  if known:
    first, *others = known
    for other in others:
      if _names(known[other]) != _names(known[first]):
        raise ValueError(
          f'{first} and {other} are of different classes: --labels=FILE names those of both'
        )
    return known[first]
  outputs = open_weights(prefix, member.model_name).num_outputs or 0
  name = next((run['dataset_name'] for run in runs.configs if run.get('dataset_name')), _IMAGENET)
  if name == _IMAGENET and outputs in _IMAGENET_OUTPUTS:
    return dataset_factory.with_names(_IMAGENET, dict(enumerate(imagenet.labels())))
  text = '%s: nothing here names the %d classes, so they are numbers; --labels=FILE names them'
  logging.info(text, prefix, outputs)
  offset = member.labels_offset or 0
  return dataset_factory.without_records('classes', outputs + offset, {}, max(offset, 0))


def _check_number(named: Dataset, outputs: int | None, member: Member) -> None:
  """Raises ValueError where there are names for another number of outputs than a net has."""
  if outputs is None:
    return
  offset = member.labels_offset
  if offset is None:
    with contextlib.suppress(ValueError):
      offset = label_spaces.find_offset(outputs, named)
  if offset is None or named.num_classes - offset != outputs:
    last, names = max(named.labels_to_names), len(named.labels_to_names)
    more = f', of classes up to {last}' if last != names - 1 else ''
    more += f', with --labels_offset={offset}' if offset else ''
    raise ValueError(
      f'--labels={named.name}: {names} names for {outputs} outputs{more}; --labels_offset says '
      'which output is which (output = label - offset)'
    )


def _of_run(run: Mapping[str, Any], trained_on: TrainedOn | None) -> Dataset | None:
  """The classes that a run says it was trained on, or else those that its records have today."""
  name = run.get('dataset_name')
  folder = next(iter(joined.folders(run.get('dataset_dir'))), None)
  if trained_on is None or not trained_on.labels:
    return dataset_factory.classes_of(name, folder)
  labels = trained_on.labels
  with contextlib.suppress(OSError, ValueError):  # the records are not needed
    if today := dataset_factory.classes_of(name, folder):
      provenance.warn_of_other_names(trained_on, labels, today)
  return dataset_factory.without_records(name or '', len(labels), labels, trained_on.label_offset)


def _names(dataset: Dataset) -> tuple[dict[int, str], tuple[int, int]]:
  return dataset.labels_to_names, dataset.label_range
