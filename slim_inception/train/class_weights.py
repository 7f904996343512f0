"""Weights of the classes in the loss: --class_weights."""

import collections
import math
from collections.abc import Sequence

from slim_inception.datasets import dataset_factory, dataset_info
from slim_inception.train.config import BALANCED, DataConfig, LossConfig


def load(config: LossConfig, data: DataConfig) -> list[float] | None:
  """One weight for each class of the head; None without --class_weights.

  Raises:
    ValueError: the file is not made of lines `class name or label:weight`, or `balanced` has no
      counts to go by.
    OSError: the file or the data set cannot be read.
  """
  if config.class_weights is None:
    return None
  if config.class_weights == BALANCED:
    return _balanced(data)[data.labels_offset :]
  dataset = dataset_factory.get_dataset(
    data.dataset_name, data.dataset_split_name, data.records_dir
  )
  names = [dataset.labels_to_names.get(label, str(label)) for label in range(dataset.num_classes)]
  with open(config.class_weights, encoding='utf-8') as file:
    return parse(file.read(), config.class_weights, names)[data.labels_offset :]


def _balanced(data: DataConfig) -> list[float]:
  info = dataset_info.read_info(data.records_dir)
  if info is None:
    raise ValueError(
      f'--class_weights=balanced counts labels by {dataset_info.INFO_FILE}, which '
      f'{data.records_dir} has not: give a file of lines class name or label:weight'
    )
  if data.dataset_split_name not in info.splits:
    raise ValueError(
      f'--class_weights=balanced: {data.records_dir} has no split '
      f'{data.dataset_split_name}; it has {", ".join(sorted(info.splits))}'
    )
  return inverse_frequencies(info.splits[data.dataset_split_name].label_counts)


def inverse_frequencies(counts: Sequence[int]) -> list[float]:
  """Weights whose mean over the images is 1; classes without images (a background) have 1."""
  present = sum(count > 0 for count in counts)
  return [sum(counts) / (present * count) if count else 1.0 for count in counts]


def parse(text: str, path: str, names: Sequence[str]) -> list[float]:
  """The weights that lines `class name or label:weight` give; 1 for classes not named.

  Args:
    text: of the file; empty lines are passed over.
    path: of the file, for messages.
    names: of the labels 0, 1, ... in the records; a name goes before a number.

  Raises:
    ValueError: no such class, a class twice, or a weight that is no finite number of at least 0.
  """
  shared = {name for name, count in collections.Counter(names).items() if count > 1}
  labels = {str(label): label for label in range(len(names))}
  labels |= {name: label for label, name in enumerate(names)}
  weights: dict[int, float] = {}
  for number, line in enumerate(text.splitlines(), 1):
    if not line.strip():
      continue
    place = f'--class_weights: {path} line {number}'
    name, colon, value = (part.strip() for part in line.rpartition(':'))
    if not colon or name not in labels:
      raise ValueError(
        f'{place}: {line.strip()!r} is no class:weight; classes are labels 0..{len(names) - 1} or '
        f'names: {", ".join(names[:5])}, ...'
      )
    if name in shared:  # ImageNet has two kinds of crane
      raise ValueError(f'{place}: more than one class is called {name}: give its label')
    if labels[name] in weights:
      raise ValueError(f'{place}: {name} comes a second time')
    weights[labels[name]] = _weight(value, place)
  return [weights.get(label, 1.0) for label in range(len(names))]


def _weight(value: str, place: str) -> float:
  try:
    weight = float(value)
  except ValueError:
    weight = math.nan
  if not 0 <= weight < math.inf:
    raise ValueError(f'{place}: the weight {value!r} must be a number of at least 0')
  return weight
