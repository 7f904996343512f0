"""Safetensors in several files, as `save_pretrained` and `save_torch_model` write them."""

import json
import os

import numpy as np
import pytest
from slim_inception.nets.convert import formats, torch_family

numpy_files = pytest.importorskip('safetensors.numpy')


@pytest.fixture
def folder(tmp_path):
  """Two files and their index, as huggingface_hub's `save_torch_state_dict` names them."""
  rng = np.random.default_rng(0)
  arrays = {f'layer{n}.weight': rng.normal(size=(n + 1, 3)).astype(np.float32) for n in range(5)}
  weight_map = {}
  for number in (1, 2):
    name = f'model-{number:05d}-of-00002.safetensors'
    part = dict(list(arrays.items())[:3] if number == 1 else list(arrays.items())[3:])
    numpy_files.save_file(part, tmp_path / name)
    weight_map |= dict.fromkeys(part, name)
  size = sum(array.nbytes for array in arrays.values())
  index = {'metadata': {'total_size': size}, 'weight_map': weight_map}
  (tmp_path / 'model.safetensors.index.json').write_text(json.dumps(index, indent=2))
  numpy_files.save_file(arrays, tmp_path / 'whole.weights')
  return tmp_path


def read(path):
  located = formats.locate(path)
  source = formats.SOURCES[formats.recognise(located)]
  return located, source.read(located, 'inception_v3', None)


@pytest.mark.parametrize(
  'name', ['', 'model.safetensors.index.json', 'model-00002-of-00002.safetensors']
)
def test_several_files_are_one(folder, name):
  """Whatever of them is named."""
  path, stored = read(folder / name)
  assert path == str(folder / 'model.safetensors.index.json')
  expected = torch_family.read_safetensors(str(folder / 'whole.weights'))
  assert stored.arrays.keys() == expected.arrays.keys()
  for key, value in expected.arrays.items():
    np.testing.assert_array_equal(stored.arrays[key], value)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda index: index.pop('weight_map'), 'is damaged: KeyError'),
    (lambda index: index['weight_map'].update({'a': '../x.safetensors'}), 'is damaged: ValueErr'),
    (lambda index: index['weight_map'].update({'a': 'x.safetensors'}), 'names x.safetensors, whic'),
    (
      lambda index: index['weight_map'].update({'a': 'model-00001-of-00002.safetensors'}),
      'says that model-00001-of-00002.safetensors has a, which it has not',
    ),
  ],
)
def test_damage_is_named(folder, change, message):
  path = folder / 'model.safetensors.index.json'
  index = json.loads(path.read_text())
  change(index)
  path.write_text(json.dumps(index))
  with pytest.raises(ValueError, match=message):
    read(path)


def test_a_file_that_is_cut_is_named(folder):
  os.truncate(folder / 'model-00002-of-00002.safetensors', 100)
  with pytest.raises(ValueError, match='model-00002-of-00002.safetensors is damaged'):
    read(folder)
