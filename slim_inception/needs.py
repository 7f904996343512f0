"""What weights need: the images that they were trained on, and the padding of their library.

The config.json of a run says it. Of others `nets.catalogue` does: a file that it does not know by
name is taken for the first one of its library. A wrong guess can only be somebody else's run, whose
images nobody has written down.
"""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from absl import logging

from slim_inception.nets import catalogue, checkpoint_files, nets_factory
from slim_inception.nets.convert import formats, keras_applications, slim_files, torch_family
from slim_inception.preprocessing import preprocessing_factory

# {module that reads the weights: whose they can be, `Checkpoint.by`}
_LIBRARIES = {
  slim_files: ('TF-Slim',),
  keras_applications: ('Keras',),
  torch_family: ('torchvision', 'timm'),
}


class Needs(NamedTuple):
  """What weights need.

  Attributes:
    path: the file, or the prefix of the checkpoint.
    whose: 'X was trained with' or 'Y takes', before the name of the preprocessing.
    preprocessing_name: of the images.
    image_size: their side in pixels.
    padding: as of the flag; None: slim's.
    released: what weights are taken for; '' for those of a run, and where nothing is known.
  """

  path: str
  whose: str
  preprocessing_name: str
  image_size: int
  padding: str | None
  released: str = ''

  def check(self, preprocessing_name: str) -> None:
    """Warns of another preprocessing."""
    chosen, right = map(
      preprocessing_factory.canonical_name, (preprocessing_name, self.preprocessing_name)
    )
    if chosen != right:
      logging.warning('--preprocessing_name=%s, but %s %s', chosen, self.whose, right)

  def describe(self) -> str:
    """A line on weights that are taken for released ones."""
    name, size = self.preprocessing_name, self.image_size
    padding = f', padding of {self.padding}' if self.padding else ''
    images = f'preprocessing {name}, {size} x {size} pixels'
    return f'{self.path} is taken for {self.released}: {images}{padding}'


def of_weights(path: str, model_name: str, run: Mapping[str, Any]) -> Needs:
  """What the weights in a file need; nothing of them is read.

  Args:
    path: as `formats.locate` gives it; what is not there yet will be a checkpoint.
    model_name: the net.
    run: the content of the config.json beside them; {} without one.

  Raises:
    ValueError: it is of no known format.
  """
  net = nets_factory.get_net(model_name)
  if run.get('model_name'):
    return Needs(
      path,
      f'{os.path.dirname(path) or "."} was trained with',
      run.get('preprocessing_name') or net.preprocessing,
      run.get('eval_image_size') or run.get('run', {}).get('image_size') or net.default_image_size,
      run.get('padding') if run['model_name'] == model_name else None,
    )
  is_there = os.path.exists(path) or os.path.exists(path + checkpoint_files.INDEX)
  if is_there and (of_library := formats.views(path, model_name)):
    name = 'a net of facenet'
    return Needs(path, f'{name} takes', *of_library, None, name)
  family = formats.SOURCES[formats.recognise(path) if is_there else 'checkpoint'].family
  padding = getattr(family, 'PADDINGS', {}).get(model_name)
  if family is torch_family and model_name in torch_family.COUNTING_PADDING:
    padding = 'torch'
  known = catalogue.find(model_name, path, _LIBRARIES[family])
  if known is None:
    images = net.preprocessing, net.default_image_size
    return Needs(path, f'{model_name} takes', *images, padding)
  name = f'{known.name} of {known.by}'
  return Needs(path, f'{name} takes', known.preprocessing, known.image_size, padding, name)
