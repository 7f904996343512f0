"""The factor of residuals: in the nets, and from the flag of a run to its evaluation and export."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.nets import build, nets_factory
from slim_inception.nets.config import ModelConfig

from slim_inception.evaluate import during_training
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.export.config import resolve as resolve_export
from slim_inception.export.export import export
from slim_inception.train import start, trainer
from slim_inception.train.plan import make_plan
from tests import golden, records, tiny
from tests.cli.test_convert import convert
from tests.train import processes

pytestmark = pytest.mark.integration

THIN = {'depth_multiplier': 0.125}


@pytest.mark.parametrize(
  ('name', 'size', 'arguments'),
  [
    (tiny.NAME, 32, {}),
    ('resnet_v1_50', 33, THIN),
    pytest.param('resnet_v1_5_50', 33, THIN, marks=pytest.mark.slow),
    pytest.param('resnet_v2_50', 33, {}, marks=pytest.mark.slow),
    pytest.param('inception_resnet_v1', 75, {}, marks=pytest.mark.slow),
    pytest.param('inception_resnet_v2', 75, {'create_aux_logits': False}, marks=pytest.mark.slow),
  ],
)
def test_it_is_as_if_the_last_layers_of_residuals_had_it(name, size, arguments):
  """The last layer of a residual is linear, so its variables can have the factor instead."""
  net, scale = nets_factory.get_net(name), 0.3
  plain, scaled = (
    nets_factory.create_model(name, 3, image_size=size, **arguments, **more)
    for more in ({}, {'activation_scale': scale})
  )
  for variable, value in plain.variables_by_name.items():
    value.assign(golden.weights(variable, value.shape.as_list()))
    scaled.variables_by_name[variable].assign(value)
  images = golden.images(2, size, size)
  before, expected = plain(images)[0].numpy(), scaled(images)[0].numpy()
  residuals = [unit for unit in net.body if unit.join == 'add']
  assert residuals
  for unit in residuals:
    last = f'{net.scope}/{unit.projection or unit.branches[-1].cells[-1].name}'
    norm = f'{last}/BatchNorm/gamma' in plain.variables_by_name
    leaves = ('BatchNorm/gamma', 'BatchNorm/beta') if norm else ('weights', 'biases')
    for leaf in leaves:
      variable = plain.variables_by_name[f'{last}/{leaf}']
      variable.assign(variable * (scale / unit.scale))
  assert golden.relative_error(plain(images)[0].numpy(), expected) < 1e-4
  assert golden.relative_error(before, expected) > 1e-2


def test_copies_and_json_keep_it():
  model = nets_factory.create_model(tiny.NAME, 3, activation_scale=0.3)
  assert str(model.config).endswith('activation_scale=0.3')
  assert ModelConfig.from_json(model.config.to_json()) == model.config
  assert model.fold_batch_norm().config.arguments['activation_scale'] == 0.3


@pytest.mark.parametrize('scale', [0, -1.0, math.nan, math.inf, True, '0.3'])
def test_impossible_factors(scale):
  with pytest.raises(ValueError, match=f'activation_scale is {scale!r}; it must be a number great'):
    build.residual_variant(activation_scale=scale)


def test_the_nets_that_have_it():
  having = set(nets_factory.nets_with('activation_scale')) - {tiny.NAME}
  residual = {
    name for name, net in nets_factory.NETS.items() if any(u.join == 'add' for u in net.body)
  }
  assert having == residual - {tiny.NAME}
  with pytest.raises(ValueError, match='takes no argument .activation_scale.'):
    nets_factory.create_model('inception_v4', 3, activation_scale=0.3)


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=8, split='validation')


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
  """Of two steps with a factor that is not the net's 0.2."""
  train_dir = tmp_path_factory.mktemp('run')
  own = {'recipe': 'slim', 'activation_scale': 3.0, 'max_number_of_steps': 2, 'batch_size': 12}
  trainer.train(processes.config(train_dir, data, **own))
  return train_dir


def probabilities(run, scale, images):
  """Of the images as the net is given them, by the checkpoint and a factor that is named."""
  arguments = {} if scale is None else {'activation_scale': scale}
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False, **arguments)
  model.restore(run / 'model.ckpt-2')
  return tf.nn.softmax(model(images)[0]).numpy()


def test_a_run_is_evaluated_and_exported_with_its_own(run, data, tmp_path):
  assert json.loads((run / 'config.json').read_text())['activation_scale'] == 3.0
  seen = []
  for scale in (None, 1.0):
    request = resolve_eval({'checkpoint_path': str(run), 'activation_scale': scale})
    assert request.ensemble.members[0].activation_scale == (scale or 3.0)
    outcome = Evaluation(request).evaluate([str(run / 'model.ckpt-2')])
    seen.append(outcome.predictions.probabilities)
  assert np.abs(seen[0] - seen[1]).max() > 1e-3
  export(resolve_export({'checkpoint_path': str(run), 'output': str(tmp_path / 'model')}))
  images = golden.images(2, 32, 32)
  classify = tf.saved_model.load(str(tmp_path / 'model')).signatures['images']
  shown = classify(tf.constant(images))['probabilities'].numpy()
  own, nets = (np.sort(probabilities(run, scale, images))[:, ::-1] for scale in (3.0, None))
  np.testing.assert_allclose(shown, own, atol=1e-4)
  assert np.abs(shown - nets).max() > 1e-2


def test_a_run_evaluates_itself_with_it(run, data, monkeypatch):
  settings = {'activation_scale': 3.0, 'eval_interval_epochs': 1.0}
  monkeypatch.setattr(during_training, 'Evaluation', lambda request: seen.append(request))
  seen = []
  during_training.evaluator_of(processes.config(run, data, **settings))
  assert seen[0].ensemble.members[0].net_arguments == {'activation_scale': 3.0}


def test_a_run_keeps_it_and_another_is_told(run, data, tmp_path, caplog):
  with pytest.raises(ValueError, match=r'holds a run with activation_scale 3.0, not None: choose'):
    trainer.train(processes.config(run, data))
  dataset = dataset_factory.get_dataset('image_folder', 'train', str(data))
  with caplog.at_level('WARNING', 'absl'):
    for scale in (None, 3.0):
      more = {'checkpoint_path': str(run), 'activation_scale': scale}
      config = processes.config(tmp_path, data, **more)
      start.warn_of_differences(config, make_plan(config, 24, 3, 1), dataset)
  assert [line for line in caplog.messages if 'residuals' in line] == [
    f"{run / 'model.ckpt-2'} was trained with --activation_scale=3.0, this run has the net's own "
    'factors of residuals'
  ]


def test_other_libraries_do_not_get_it(tmp_path):
  """They have no argument for it; a checkpoint of slim's names goes with its config.json."""
  name = tiny.NAME
  nets_factory.create_model(name, 3).save(tmp_path / 'model.ckpt')
  settings = {'model_name': name, 'activation_scale': 0.5, 'run': {'num_classes': 3}}
  (tmp_path / 'config.json').write_text(json.dumps(settings))
  with pytest.raises(ValueError, match='is of a run with --activation_scale=0.5: nets of other li'):
    convert(tmp_path / 'model.ckpt', tmp_path / 'a.weights.h5', name)
  lines = convert(tmp_path / 'model.ckpt', tmp_path / 'b.ckpt', name)
  assert 'residuals: trained with --activation_scale=0.5, which is no variable' in lines
