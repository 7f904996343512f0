"""Values that flags of several commands allow."""

LOSSES = ('sigmoid', 'softmax')
PRECISIONS = ('bfloat16', 'float16', 'float32')
# Whether moving averages of the weights are taken rather than these; None: if there are any.
USE_EMA = {'auto': None, 'true': True, 'false': False}


def net_names() -> tuple[str, ...]:
  """Names of the registered nets."""
  from slim_inception.nets import nets_factory  # imports TensorFlow, which takes seconds

  return tuple(nets_factory.NETS)


def dataset_names() -> tuple[str, ...]:
  """Names of the registered data sets."""
  from slim_inception.datasets import dataset_factory

  return tuple(dataset_factory.DATASETS)


def check_preprocessing(names: str | tuple[str, ...]) -> None:
  """A `flags.field` check: a registered preprocessing, or slim's name of one, or several.

  Raises:
    ValueError: there is none of such a name.
  """
  from slim_inception.preprocessing import preprocessing_factory  # imports TensorFlow

  for name in (names,) if isinstance(names, str) else names:
    preprocessing_factory.canonical_name(name)
