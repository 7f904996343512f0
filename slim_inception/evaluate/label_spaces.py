"""Between the labels of a data set and the outputs of a net.

ImageNet has 1000 classes. slim's records number them 1..1000 and its nets have 1001 outputs, the
first for a background that no image shows; other people's records and nets have 0..999. An offset
maps one to the other: output = label - offset.
"""

from collections.abc import Iterator

import numpy as np

from slim_inception import files
from slim_inception.datasets import evaluation_sets, imagenet
from slim_inception.datasets.dataset_factory import Dataset

_IMAGENET_CLASSES = 1000  # without background
_EXPECTED = 'a text file of classes, one a line: numbers from 0, synsets or names'


def find_offset(outputs: int, dataset: Dataset) -> int:
  """The labels' offset for a net of `outputs` outputs.

  Raises:
    ValueError: that many outputs fit no numbering of the labels that is known for certain.
  """
  offset = dataset.num_classes - outputs
  if offset == 0:
    return 0
  if offset == 1 and dataset.label_range[0] > 0:
    return 1  # label 0 is a background that no image has
  if offset == -1 and dataset.num_classes == _IMAGENET_CLASSES:
    return -1  # the net has one
  split = f'{dataset.name} {dataset.split_name}'.strip()
  raise ValueError(
    f'The net has {outputs} outputs, and labels of {split} are '
    f'{dataset.label_range[0]}..{dataset.label_range[1]} of {dataset.num_classes} classes: '
    '--labels_offset must say which output is which (output = label - offset), or the checkpoint '
    'is of other classes'
  )


def check_offset(outputs: int, dataset: Dataset, offset: int) -> None:
  """Raises ValueError where an offset is that of ImageNet's other numbering."""
  asked = dataset.num_classes - offset
  if {outputs, asked} == {_IMAGENET_CLASSES, _IMAGENET_CLASSES + 1}:
    background = 'the first a background' if outputs > _IMAGENET_CLASSES else 'no background'
    raise ValueError(
      f'--labels_offset={offset} asks for {asked} outputs, and the net has {outputs}, '
      f'{background}: --labels_offset={dataset.num_classes - outputs} is right'
    )


def of_labels(outputs: np.ndarray, offset: int, num_classes: int, absent: float) -> np.ndarray:
  """Outputs of a net in the order of the labels.

  Args:
    outputs: [..., num_outputs].
    offset: label - output.
    num_classes: of the data set.
    absent: for labels that the net has no output for.

  Returns:
    [..., num_classes]; outputs that are no label's are left out.
  """
  by_label = np.full((*outputs.shape[:-1], num_classes), absent, outputs.dtype)
  labels = np.arange(outputs.shape[-1]) + offset
  known = (labels >= 0) & (labels < num_classes)
  by_label[..., labels[known]] = outputs[..., known]
  return by_label


# Some of the classes


def read_valid_labels(name_or_path: str, dataset: Dataset) -> np.ndarray:
  """Labels among which alone a net is to choose.

  Args:
    name_or_path: a list of `evaluation_sets.SUBSETS`; or a text file of classes, one a line: their
      numbers, which count from 0 in the order of the classes, a background left out, as timm's
      do; their names; or the synsets of ImageNet's classes.
    dataset: whose labels they are.

  Returns:
    [V] int64, ascending.

  Raises:
    OSError: there is no such file.
    ValueError: it is empty, or a line is no class of the data set.
  """
  flag = f'--valid_labels={name_or_path}'
  synsets = _labels_of_synsets(dataset)
  if name_or_path in evaluation_sets.SUBSETS:
    if not synsets:
      raise ValueError(f"{flag} is for ImageNet's 1,000 classes, not for those of {dataset.name}")
    shift = dataset.num_classes - _IMAGENET_CLASSES - 1
    return np.array(evaluation_sets.subset(name_or_path)) + shift
  try:
    lines = files.read_text(name_or_path).splitlines()
  except FileNotFoundError:
    valid = ', '.join(evaluation_sets.SUBSETS)
    raise FileNotFoundError(f'{flag}: no such file; expected {valid} or {_EXPECTED}') from None
  labels = set(_labels_of_lines(flag, lines, synsets, dataset))
  if not labels:
    raise ValueError(f'{flag} is empty; expected {_EXPECTED}')
  return np.array(sorted(labels))


def _labels_of_synsets(dataset: Dataset) -> dict[str, int]:
  """{} for other classes than ImageNet's."""
  shift = dataset.num_classes - _IMAGENET_CLASSES - 1
  if shift not in (0, -1) or dataset.label_offset != shift + 1:
    return {}
  return {wnid: label + shift for wnid, label in imagenet.labels_by_synset().items()}


def _labels_of_lines(
  flag: str, lines: list[str], synsets: dict[str, int], dataset: Dataset
) -> Iterator[int]:
  first, end = dataset.label_offset, dataset.num_classes
  by_name = {name: label for label, name in dataset.labels_to_names.items()} | synsets
  for number, line in enumerate(map(str.strip, lines), start=1):
    if not line:
      continue
    label = by_name.get(line, int(line) + first if line.isdecimal() else -1)
    if not first <= label < end:
      raise ValueError(f'{flag}, line {number}: {line!r} is no class of {dataset.name}')
    yield label


def restricted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Probabilities of some labels alone, which add up to 1: of one view the softmax of their logits.

  Args:
    probabilities: [..., num_classes].
    labels: [V].

  Returns:
    [..., V].
  """
  chosen = probabilities[..., labels]
  total = chosen.sum(-1, keepdims=True)
  return np.divide(chosen, total, out=np.zeros_like(chosen), where=total > 0)
