"""The evaluation script as processes of their own, one or two that work together."""

import json

import numpy as np
import pytest
from slim_inception.nets import nets_factory

from tests import records, tiny
from tests.train import processes

pytestmark = pytest.mark.integration

COUNT = 23


@pytest.fixture(scope='module')
def flags(tmp_path_factory):
  directory = tmp_path_factory.mktemp('evaluation')
  data = records.write_set(directory / 'data', count=COUNT, split='validation')
  model = nets_factory.create_model(tiny.NAME, 3)
  model.save(str(directory / 'model.ckpt'))
  return {
    'checkpoint_path': directory / 'model.ckpt',
    'model_name': tiny.NAME,
    'preprocessing_name': 'inception',
    'dataset_name': 'image_folder',
    'dataset_dir': data,
    'batch_size': 4,
  }


def results(eval_dir):
  predictions = np.genfromtxt(
    eval_dir / 'predictions.csv', delimiter=',', names=True, dtype=None, encoding='utf-8'
  )
  return json.loads((eval_dir / 'metrics.json').read_text()), predictions


@pytest.mark.slow
def test_two_workers_find_what_one_does(flags, tmp_path):
  ports = processes.free_ports(2)
  workers = [
    processes.command('eval', processes.task(ports, i), eval_dir=tmp_path / 'two', **flags)
    for i in range(2)
  ]
  alone = processes.command('eval', eval_dir=tmp_path / 'one', **flags)
  said = []
  for status, output in processes.finish(*workers, alone):
    assert status == 0, output
    said.append(output)
  speaks = ['Evaluating on image_folder' in output and 'Tracing' in output for output in said]
  assert speaks == [True, False, True]  # of two workers the chief
  assert 'of each of 2 workers' in said[0] and 'of each of' not in said[2]
  together, of_two = results(tmp_path / 'two')
  single, of_one = results(tmp_path / 'one')
  assert together['num_images'] == single['num_images'] == COUNT
  for name in ('top_1', 'top_5'):
    assert together[name] == single[name]
  np.testing.assert_array_equal(of_two['filename'], of_one['filename'])
  np.testing.assert_allclose(of_two['probability_1'], of_one['probability_1'], rtol=1e-4)


def test_bad_input_is_one_line(flags, tmp_path):
  """The flags' own errors have status 2, those of files 1; nothing is written."""
  tries = [
    processes.command('eval', eval_dir=tmp_path / folder, **{**flags, **wrong})
    for folder, wrong in (
      ('a', {'exclude_list': 'missing.txt'}),
      ('b', {'crops': 144, 'crop_scales': '300,310'}),
    )
  ]
  (first, said), (second, also_said) = processes.finish(*tries)
  assert (first, second) == (1, 2)
  assert said.startswith(
    'slim-inception eval: --exclude_list=missing.txt: no such file; expected imagenet_2014'
  )
  assert also_said.startswith(
    'slim-inception eval: --crop_scales=300,310: --crops=144 takes 4, not 2'
  )
  assert (said.count('\n'), also_said.count('\n')) == (1, 1)
  assert list(tmp_path.iterdir()) == []
