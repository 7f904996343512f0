"""Model: nets in TF2, eager, in tf.function, mirrored; thin ones, or the one of test size."""

import copy
import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception, nets_factory, slim

from tests import golden, tiny, zygote

pytestmark = pytest.mark.integration

tf1 = tf.compat.v1


@pytest.fixture(scope='module')
def thin_model():
  return nets_factory.create_model(
    'inception_v3', 5, image_size=107, depth_multiplier=0.1, min_depth=4
  )


def test_model_eager_equals_function_and_graph(thin_model, tmp_path):
  inputs = golden.images(2, 107, 107)
  eager, _ = thin_model(inputs)
  traced, _ = tf.function(thin_model, autograph=False)(inputs)
  np.testing.assert_allclose(eager, traced, rtol=1e-4, atol=1e-5)
  thin_model.save(str(tmp_path / 'model.ckpt'))
  with tf.Graph().as_default(), tf1.Session() as session:
    with slim.arg_scope(inception.inception_v3_arg_scope()):
      logits, _ = inception.inception_v3(
        tf.constant(inputs), 5, is_training=False, depth_multiplier=0.1, min_depth=4
      )
    tf1.train.Saver().restore(session, str(tmp_path / 'model.ckpt'))
    np.testing.assert_allclose(session.run(logits), eager, rtol=1e-4, atol=1e-5)


def test_model_training_moves_the_averages_and_takes_gradients(thin_model):
  inputs = golden.images(4, 107, 107)
  before = thin_model.variables_by_name['InceptionV3/Conv2d_1a_3x3/BatchNorm/moving_mean'].numpy()

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape() as tape:
      logits, end_points = thin_model(inputs, training=True, dropout_seed=tf.constant([0, 1]))
      loss = tf.reduce_sum(logits**2) + tf.reduce_sum(end_points['AuxLogits'] ** 2)
      loss += thin_model.regularization_loss()
    return tape.gradient(loss, thin_model.trainable_variables)

  gradients = step()
  assert all(gradient is not None for gradient in gradients)
  after = thin_model.variables_by_name['InceptionV3/Conv2d_1a_3x3/BatchNorm/moving_mean'].numpy()
  assert np.any(before != after)


def test_model_regularization_loss_is_slims(thin_model):
  expected = sum(
    0.00004 * (v.numpy() ** 2).sum() / 2
    for name, v in thin_model.variables_by_name.items()
    if name.endswith('weights')
  )
  assert thin_model.regularization_loss().numpy() == pytest.approx(expected, rel=1e-4)


def test_model_mirrored_over_two_logical_processors(mirrored):
  with mirrored.scope():
    model = nets_factory.create_model(tiny.NAME, 5)  # the first call makes the variables
  inputs = golden.images(4, 32, 32)

  replica_ids = mirrored.experimental_distribute_values_from_function(
    lambda context: tf.constant(context.replica_id_in_sync_group)
  )

  @tf.function(autograph=False)
  def run(training):
    def replica(replica_id):
      return model(tf.gather(inputs, tf.range(2) + 2 * replica_id), training=training)[0]

    return mirrored.experimental_local_results(mirrored.run(replica, args=(replica_ids,)))

  logits = np.concatenate([part.numpy() for part in run(False)])
  np.testing.assert_allclose(logits, model(inputs)[0], rtol=1e-4, atol=1e-5)
  run(True)
  moving_mean = model.variables_by_name['InceptionTiny/Conv2d_1a_3x3/BatchNorm/moving_mean']
  replicas = [v.numpy() for v in mirrored.experimental_local_results(moving_mean)]
  assert np.any(replicas[0] != replicas[1])  # each replica saw images of its own
  np.testing.assert_allclose(moving_mean.numpy(), np.mean(replicas, 0), rtol=1e-5, atol=1e-7)


def test_model_of_one_size_infers_at_another(thin_model):
  for side in (75, 128):
    logits, end_points = thin_model(golden.images(1, side, side).astype(np.float64))
    assert logits.shape == (1, 5)
    assert logits.dtype == tf.float32
    assert 'AuxLogits' not in end_points
  assert 'AuxLogits' in thin_model(golden.images(1, 107, 107))[1]
  with pytest.raises(ValueError, match='made for 107 x 107 pixels, .* create it with another'):
    thin_model(golden.images(1, 160, 160), training=True)


def test_model_belongs_to_the_strategy_that_it_was_created_under(mirrored):
  with mirrored.scope():
    model = nets_factory.create_model(tiny.NAME, 5)
  for variable in model.trainable_variables[:2]:  # made here, outside the scope
    assert len(mirrored.experimental_local_results(variable)) == 2


def test_arg_scope_of_a_model():
  scope = inception.inception_v3_arg_scope(use_batch_norm=False, weight_decay=0)
  model = nets_factory.create_model(tiny.NAME, 5, arg_scope=scope)
  assert model.regularization_loss().numpy() == 0
  assert not any('BatchNorm' in name for name in model.variables_by_name)


# What holds a model, freezes, saves or trains it with less memory


def tiny_model(**kwargs):
  return nets_factory.create_model(tiny.NAME, 5, **kwargs)


def test_a_holder_sees_the_variables_at_once(tmp_path):
  holder = tf.Module()
  holder.model = tiny_model()
  assert {id(v) for v in holder.trainable_variables} == set(
    map(id, holder.model.trainable_variables)
  )
  assert {id(v) for v in holder.variables} == set(map(id, holder.model.variables))
  prefix = tf.train.Checkpoint(holder=holder).write(str(tmp_path / 'checkpoint'))
  value = holder.model.variables[0].numpy()
  holder.model.variables[0].assign(value + 1)
  tf.train.Checkpoint(holder=holder).read(prefix).assert_consumed()
  np.testing.assert_array_equal(holder.model.variables[0], value)


@pytest.mark.parametrize('trace', [lambda f: f, lambda f: tf.function(f, autograph=False)])
def test_a_frozen_model_does_not_train(trace):
  model, images = tiny_model(), golden.images(4, 32, 32)
  model.trainable = False
  assert model.trainable_variables == ()
  assert {id(v) for v in model.non_trainable_variables} == set(map(id, model.variables))
  assert model.regularization_loss().numpy() == 0
  before = [v.numpy() for v in model.variables]
  scale = tf.Variable(1.0)

  def step():
    with tf.GradientTape() as tape:
      logits = model(images * scale, training=True, dropout_seed=tf.constant([0, 1]))[0]
      loss = tf.reduce_sum(logits**2)
    return tape.gradient(loss, [scale, *(v for v in model.variables if v.trainable)])

  of_scale, *others = trace(step)()
  assert of_scale.numpy() != 0  # gradients go through it
  assert others == [None] * len(others)
  for variable, value in zip(model.variables, before, strict=True):
    np.testing.assert_array_equal(variable, value)
  copied = copy.deepcopy(model)
  assert copied.trainable is False
  copied.trainable = True
  assert len(copied.trainable_variables) == sum(v.trainable for v in model.variables)
  assert copied.regularization_loss().numpy() > 0
  with pytest.raises(ValueError, match="trainable is 'no'; it must be True or False"):
    model.trainable = 'no'


def test_a_frozen_model_takes_the_averages_in_training():
  model, images = tiny_model(dropout_keep_prob=1.0), golden.images(4, 32, 32)
  expected = model(images)[0]
  assert np.abs(model(images, training=True)[0] - expected).max() > 1e-3
  expected = model(images)[0]  # the averages have moved
  model.trainable = False
  np.testing.assert_allclose(model(images, training=True)[0], expected, rtol=1e-4, atol=1e-6)


def test_a_saved_model_is_called_with_images_of_any_size(tmp_path):
  model = tiny_model()
  tf.saved_model.save(model, str(tmp_path / 'saved'))
  code = """
import sys
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
signature = loaded.signatures['serving_default']
for number in '01':
  images = tf.constant(np.load(sys.argv[2] + number + '.npy'))
  called, served = loaded(images), signature(images=images)
  for name in called:
    np.testing.assert_array_equal(called[name], served[name])
  np.savez(sys.argv[2] + number + '.npz', **{n: v.numpy() for n, v in called.items()})
"""
  shapes = ((2, 32, 32), (3, 40, 51))
  for number, shape in enumerate(shapes):
    np.save(tmp_path / f'images{number}.npy', golden.images(*shape).astype(np.float32))
  done = zygote.run(str(tmp_path / 'saved'), str(tmp_path / 'images'), code=code)
  assert done.returncode == 0, done.stderr
  for number, shape in enumerate(shapes):
    outputs = np.load(tmp_path / f'images{number}.npz')
    logits, end_points = model(golden.images(*shape))
    np.testing.assert_allclose(outputs['logits'], logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs['predictions'], end_points['Predictions'], rtol=1e-4)


def test_saved_models_of_features(tmp_path):
  images = golden.images(2, 40, 40).astype(np.float32)
  model = nets_factory.create_model(tiny.NAME, None)
  tf.saved_model.save(model, str(tmp_path / 'model'))
  outputs = tf.saved_model.load(str(tmp_path / 'model'))(images)
  np.testing.assert_allclose(outputs['features'], model(images)[0], rtol=1e-4, atol=1e-5)
  pyramid = nets_factory.create_model(tiny.NAME, features_only=True)
  tf.saved_model.save(pyramid, str(tmp_path / 'pyramid'))
  outputs = tf.saved_model.load(str(tmp_path / 'pyramid'))(images)
  assert set(outputs) == {'stride_2', 'stride_4'}
  for stride, features in pyramid(images).items():
    np.testing.assert_allclose(outputs[f'stride_{stride}'], features, rtol=1e-4, atol=1e-5)


def test_a_model_is_gone_with_its_last_reference():
  model = tiny_model()
  model(golden.images(2, 32, 32))
  reference = weakref.ref(model)
  gc.collect()
  gc.disable()
  try:
    del model
    assert reference() is None
  finally:
    gc.enable()


@pytest.mark.parametrize('side', [16, 48])  # no auxiliary head, and one of another size
def test_a_checkpoint_of_another_image_size_says_so(tmp_path, side):
  tiny_net = nets_factory.create_model(tiny.NAME, 3, image_size=side)
  tiny_net.save(tmp_path / 'model.ckpt')
  model = nets_factory.create_model(tiny.NAME, 3)
  message = r'AuxLogits.*image_size that .* trained at \(not 32\), or with create_aux_logits=False'
  with pytest.raises(ValueError, match=message):
    model.restore(tmp_path / 'model.ckpt')
  without = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  assert not without.restore(tmp_path / 'model.ckpt').missing
