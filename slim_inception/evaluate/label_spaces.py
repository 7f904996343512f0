"""Between the labels of a data set and the outputs of a net.

ImageNet has 1000 classes. slim's records number them 1..1000 and its nets have 1001 outputs, the
first for a background that no image shows; other people's records and nets have 0..999. An offset
maps one to the other: output = label - offset.
"""

import numpy as np

from slim_inception.datasets.dataset_factory import Dataset

_IMAGENET_CLASSES = 1000  # without background


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
