"""Model: nets in TF2, eager, in tf.function, mirrored; thin ones, or the one of test size."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import inception, nets_factory, slim

from tests import golden, tiny

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
