"""Values that flags allow; --help lists them without TensorFlow, whose import takes seconds."""

import sys

from slim_inception.nets import names

CROPS = ('1', '10', '12', '144', 'dense')  # views of an image
EXPLAIN_METHODS = ('cam', 'grad_cam', 'grad_cam_plus_plus', 'occlusion')  # heat maps
LOSSES = ('bce', 'sigmoid', 'softmax')
PROBABILITIES = ('sigmoid', 'softmax')  # what makes them of logits: of several labels, of one
POLICIES = ('augmix', 'three_augment', 'trivial_augment')  # of distortion
RESIZES = ('slim', 'aspect')  # of a single view
PADDINGS = ('keras', 'slim', 'torch')  # whose
PRECISIONS = ('bfloat16', 'float16', 'float32')
# Whether moving averages of the weights are taken rather than these; None: if there are any.
USE_EMA = {'auto': None, 'true': True, 'false': False}


def net_names() -> tuple[str, ...]:
  """Names of the registered nets."""
  # Others than the package's own are there only where a program has registered them.
  registry = sys.modules.get('slim_inception.nets.registry')
  return tuple(registry.NETS) if registry else names.NAMES


def dataset_names() -> tuple[str, ...]:
  """Names of the registered data sets."""
  from slim_inception.datasets import dataset_factory

  return tuple(dataset_factory.DATASETS)


def probabilities_of(loss: str) -> str:
  """Of `PROBABILITIES`, that of nets trained with a loss; nets of bce choose one class."""
  return loss if loss in PROBABILITIES else 'softmax'


def check_preprocessing(names: str | tuple[str, ...]) -> None:
  """A `flags.field` check: a registered preprocessing, or slim's name of one, or several.

  Raises:
    ValueError: there is none of such a name.
  """
  if 'tensorflow' not in sys.modules:
    return  # which ones there are needs its import: `flags.parse` checks twice
  from slim_inception.preprocessing import preprocessing_factory

  for name in (names,) if isinstance(names, str) else names:
    preprocessing_factory.canonical_name(name)


# Flags of the first release that were called otherwise, and their names of today.
_RENAMED = {
  'calibrate_batches': '--batch_norm_batches',
  'member_weights': '--ensemble_weights',
  'pictures': '--num_example_images',
  'weights': '--use_ema=auto, true or false',
}


def renamed(*names: str) -> dict[str, str]:
  """{flag that is no more: what takes its place} for `flags.define`."""
  return {name: f'its name is {_RENAMED[name]} now' for name in names}
