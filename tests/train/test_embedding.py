"""Training a net whose logits are made of an embedding, from weights that have one."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.nets.build import net_scope, residual_variant, run_body
from slim_inception.nets.convert import conversion, torch_family

from slim_inception.classify import sources
from slim_inception.embed.config import resolve as resolve_embed
from slim_inception.embed.embedder import Embedder
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.stored_weights import images_for
from slim_inception.train import start, trainer
from slim_inception.train.augmentation import make_augmentation
from tests import golden, records, tiny
from tests.train import processes, steps

pytestmark = pytest.mark.integration

NAME, SCOPE, WIDTH = 'faces_tiny', 'FacesTiny', 6
HEAD = dataclasses.replace(tiny.HEAD, auxiliary=None, bottleneck='Bottleneck')


def faces_tiny(
  inputs,
  num_classes=1001,
  is_training=True,
  dropout_keep_prob=0.8,
  reuse=None,
  scope=SCOPE,
  bottleneck_layer_size=None,
):
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training):
    net, end_points = run_body(inputs, tiny.BODY, variant=residual_variant(None))
    return HEAD.build(
      net, end_points, num_classes, is_training, dropout_keep_prob, False, bottleneck_layer_size
    )


@pytest.fixture(scope='module', autouse=True)
def net():
  """The registry knows it in this module alone."""
  own = dataclasses.replace(
    nets_factory.get_net(tiny.NAME), name=NAME, scope=SCOPE, head=HEAD, network_fn=faces_tiny
  )
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(nets_factory.NETS, NAME, own)
    yield own


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """A checkpoint of seven classes with an embedding."""
  model = nets_factory.create_model(NAME, 7, bottleneck_layer_size=WIDTH)
  for name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(name, variable.shape.as_list()))
  path = tmp_path_factory.mktemp('weights') / 'faces.ckpt'
  model.save(path)
  return path


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=8, split='validation')


def config(train_dir, data, **flags):
  values = {'model_name': NAME, 'recipe': 'slim', 'max_number_of_steps': 2, 'batch_size': 12}
  return processes.config(train_dir, data, **values, **flags)


@pytest.fixture(scope='module')
def run(data, weights, tmp_path_factory):
  train_dir = tmp_path_factory.mktemp('run')
  trainer.train(config(train_dir, data, checkpoint_path=str(weights), learning_rate=1e-4))
  return train_dir


def test_a_run_has_the_embedding_of_its_weights(run, weights):
  name = f'{SCOPE}/Bottleneck/weights'
  assert json.loads((run / 'config.json').read_text())['bottleneck_layer_size'] == WIDTH
  shapes = checkpoints.shapes(run / 'model.ckpt-2')
  assert shapes[name][-1] == shapes[f'{SCOPE}/Logits/Logits/weights'][0] == WIDTH
  before, after = (
    checkpoints.read(path, [name])[name].numpy() for path in (weights, run / 'model.ckpt-2')
  )
  assert 0 < np.abs(after - before).max() < 0.01


def test_a_run_is_evaluated_and_embeds_with_it(run, data, tmp_path):
  request = resolve_eval({'checkpoint_path': str(run)})
  outcome = Evaluation(request).evaluate([str(run / 'model.ckpt-2')])
  assert outcome.predictions.probabilities.shape[0] == 8

  (tmp_path / 'a.jpg').write_bytes(records.image(0, 0))
  request = resolve_embed({'checkpoint_path': str(run), 'output': 'a.npy'})
  ((_, error, embedding),) = Embedder(request).embed(
    sources.expand([str(tmp_path / 'a.jpg')], None)
  )
  assert not error
  model = nets_factory.create_model(NAME, None, weights=run / 'model.ckpt-2')
  spec = request.ensemble.members[0].spec
  view = spec.preprocessing.eval_image((tmp_path / 'a.jpg').read_bytes(), 32, 32)
  expected = model(view[np.newaxis])[0].numpy()[0]
  assert expected.shape == (WIDTH,)
  np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_a_run_goes_on_with_it(run, data, caplog):
  with pytest.raises(ValueError, match='holds a run with bottleneck_layer_size 6, not 5: choose'):
    trainer.train(config(run, data, bottleneck_layer_size=5))
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(run, data))
  assert any(line.startswith('Nothing to do: ') for line in caplog.messages)


# The loss of its norm

NORM = {'embedding_norm_weight': 0.1, 'bottleneck_layer_size': WIDTH, 'dropout_keep_prob': 1.0}


def norm_config(**flags):
  return tiny.config(**{'model_name': NAME, 'optimizer': 'sgd', **NORM, **flags})


def norm_of(embedding, p=1):
  return np.linalg.norm(np.abs(embedding) + 1e-4, ord=p, axis=1).mean()


def test_a_step_goes_down_the_norm():
  """What the weight adds to a step is that many times the gradient of the norm."""
  state, step = steps.make(norm_config())
  _, without = steps.make(norm_config(embedding_norm_weight=0))
  before = steps.arrays(state.named_variables())
  images, _ = make_augmentation(norm_config()).apply(steps.batch(), None)
  weights = state.model.variables_by_name[f'{SCOPE}/Bottleneck/weights']
  with tf.GradientTape() as tape:
    _, end_points = state.model(images, training=True)
    norm = tf.reduce_mean(tf.reduce_sum(tf.abs(end_points['Bottleneck']), 1))
  gradient = tape.gradient(norm, weights)
  assert end_points['Bottleneck'].shape == (4, WIDTH)
  after = []
  for each in (step, without):
    for name, variable in each._state.named_variables().items():
      variable.assign(before[name])
    results = steps.run(each, steps.batch(), rate=1.0)
    after.append(each._state.model.variables_by_name[weights.name[:-2]].numpy())
    terms = results['cross_entropy'] + results['regularization_loss']
    terms += 0.1 * results.get('embedding_norm', 0)
    assert results['loss'] == pytest.approx(terms, rel=1e-5)
    assert ('embedding_norm' in results) == (each is step)
  assert results['cross_entropy'] > 0 and np.abs(gradient).max() > 0.01
  np.testing.assert_allclose(after[0] - after[1], -0.1 * gradient, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
  'flags',
  [
    {'accumulate_steps': 2, 'recompute': True},
    {'embedding_norm_p': 2, 'precision': 'bfloat16'},
    pytest.param({'precision': 'float16'}, marks=pytest.mark.slow),
    pytest.param({'jit_compile': True}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_the_norm_is_the_mean_over_all_images(mirrored, flags):
  """Of replicas and passes, which all have the same four images: batch norm is theirs."""
  settings = norm_config(**flags)
  strategy = None if 'jit_compile' in flags else mirrored
  state, step = steps.make(settings, strategy)
  repeats = flags.get('accumulate_steps', 1)
  value = {name: tf.concat([part] * repeats, 0) for name, part in steps.batch().items()}
  images, _ = make_augmentation(settings).apply(steps.batch(), None)
  model = nets_factory.create_model(NAME, 3, bottleneck_layer_size=WIDTH, dropout_keep_prob=1.0)
  for name, variable in model.variables_by_name.items():
    variable.assign(state.model.variables_by_name[name].read_value())
  _, end_points = model(images, training=True)
  assert end_points['Bottleneck'].dtype == tf.float32
  expected = norm_of(end_points['Bottleneck'].numpy(), settings.loss.embedding_norm_p)
  results = steps.run(step, steps.mirror(mirrored, value) if strategy else value)
  tolerance = 1e-4 if images.dtype == tf.float32 else 0.02
  assert results['embedding_norm'] == pytest.approx(expected, rel=tolerance)


def test_teachers_do_not_take_of_the_norm(tmp_path):
  tiny.random_net(3, seed=0).save(tmp_path / 'teacher.ckpt')
  own = {'teacher': str(tmp_path / 'teacher.ckpt'), 'teacher_model_name': tiny.NAME}
  own |= {'teacher_preprocessing_name': 'inception', 'teacher_image_size': 32}
  labels = Dataset('x', 'train', (), 100, 3, {}, (0, 2))
  _, step = steps.make(norm_config(**own, distill_weight=0.75), dataset=labels)
  found = steps.run(step, steps.batch(), rate=0.0)
  expected = 0.25 * found['cross_entropy'] + 0.75 * found['distillation_loss']
  expected += 0.1 * found['embedding_norm'] + found['regularization_loss']
  assert found['loss'] == pytest.approx(expected, rel=1e-5) and found['embedding_norm'] > 0


def test_a_run_says_it(data, tmp_path):
  for flags in ({}, {'bottleneck_layer_size': 0}):
    with pytest.raises(ValueError, match='--embedding_norm_weight=0.1 needs an embedding: give'):
      trainer.train(config(tmp_path, data, embedding_norm_weight=0.1, **flags))
  flags = {'embedding_norm_weight': 0.1, 'bottleneck_layer_size': WIDTH, 'log_every_n_steps': 1}
  trainer.train(config(tmp_path, data, **flags))
  lines = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
  assert [line['step'] for line in lines] == [1, 2]
  assert all(line['embedding_norm'] > 0 for line in lines)


def test_the_flag_and_excluded_scopes_win(weights, data, tmp_path):
  resolved = functools.partial(start.with_embedding, latest=None)
  own = {'checkpoint_path': str(weights)}
  assert resolved(config(tmp_path, data, **own)).model.bottleneck_layer_size == WIDTH
  for flags, size in (
    ({'bottleneck_layer_size': 0}, 0),
    ({'bottleneck_layer_size': 9}, 9),
    ({'checkpoint_exclude_scopes': f'{SCOPE}/Bottleneck'}, None),
    ({'checkpoint_exclude_scopes': SCOPE}, None),
    ({'checkpoint_path': None}, None),
  ):
    assert resolved(config(tmp_path, data, **{**own, **flags})).model.bottleneck_layer_size == size
  with pytest.raises(ValueError, match='--bottleneck_layer_size is for .*; inception_v4 has none'):
    processes.config(tmp_path, data, model_name='inception_v4', bottleneck_layer_size=9)


@pytest.mark.slow
def test_from_facenet_pytorchs_file(data, tmp_path):
  """It becomes the weights for the run's images."""
  pytest.importorskip('safetensors', reason='safetensors is not installed')
  name, first = 'inception_resnet_v1', 'Conv2d_1a_3x3'
  model = nets_factory.create_model(name, 9, image_size=80, bottleneck_layer_size=512)
  for variable_name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(variable_name, variable.shape.as_list()))
  model.save(tmp_path / 'faces.ckpt')
  layers = conversion.read(tmp_path / 'faces.ckpt', name).layers
  path = tmp_path / 'faces.safetensors'
  torch_family.write_safetensors(path, torch_family.tensors(layers, name))
  for preprocessing, factor in (
    ('inception', 127.5 / 128),
    ('facenet', 1),
    ('facenet_whitened', 1),
  ):
    weights = conversion.read(path, name, **images_for(preprocessing)).layers[first].weights
    np.testing.assert_allclose(weights, factor * layers[first].weights, rtol=1e-6)

  flags = {'model_name': name, 'train_image_size': 80, 'checkpoint_path': str(path)}
  flags |= {'recipe': 'slim', 'learning_rate': 0.0, 'max_number_of_steps': 1, 'batch_size': 2}
  trainer.train(processes.config(tmp_path / 'run', data, **flags))
  stored = tmp_path / 'run' / 'model.ckpt-1'
  assert checkpoints.shapes(stored)['InceptionResnetV1/Logits/Logits/weights'] == [512, 3]
  for scope, factor in ((first, 127.5 / 128), ('Bottleneck', 1)):
    key = f'InceptionResnetV1/{scope}/weights'
    expected = factor * layers[scope].weights
    np.testing.assert_allclose(checkpoints.read(stored, [key])[key], expected, rtol=1e-6)
