"""The names of a net's outputs, where no records are at hand to tell them."""

from absl import logging

from slim_inception.classify.config import ClassifyRequest
from slim_inception.datasets import dataset_factory, imagenet, label_files
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import label_spaces
from slim_inception.evaluate.config import Member
from slim_inception.evaluate.stored_weights import open_weights

_IMAGENET = 'imagenet'
_IMAGENET_OUTPUTS = (imagenet.NUM_CLASSES - 1, imagenet.NUM_CLASSES)  # without background, and with


def find(request: ClassifyRequest, prefix: str) -> Dataset:
  """The classes of an ensemble.

  They are those of `--labels`; else of the runs' records; else ImageNet's, where the first net has
  as many outputs and its run says of no other data set; else numbers.

  Args:
    request: what and how.
    prefix: of the first net's checkpoint.

  Raises:
    OSError, ValueError: `--labels` cannot be read, a checkpoint is damaged, or the runs have
      different classes.
  """
  runs, member = request.runs, request.ensemble.members[0]
  if labels_path := request.config.classes.labels:
    named = dataset_factory.with_names(labels_path, label_files.read_labels(labels_path))
    _check_number(named, open_weights(prefix, member.model_name).num_outputs, member)
    return named
  known = {
    folder: dataset
    for folder, run in zip(runs.folders, runs.configs, strict=True)
    if (dataset := dataset_factory.classes_of(run.get('dataset_name'), run.get('dataset_dir')))
  }
  if known:
    first, *others = known
    for other in others:
      if known[other] != known[first]:
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
  if outputs is None or member.labels_offset is not None:
    return
  try:
    label_spaces.find_offset(outputs, named)
  except ValueError as error:
    last, names = max(named.labels_to_names), len(named.labels_to_names)
    more = f', of classes up to {last}' if last != names - 1 else ''
    raise ValueError(
      f'--labels={named.name}: {names} names for {outputs} outputs{more}; --labels_offset says '
      'which output is which (output = label - offset)'
    ) from error
