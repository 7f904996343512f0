"""Every registered net through everything that is made of a net, at a tiny size."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import geometry, nets_factory, slim, summary

from slim_inception.classify import activation_maps
from slim_inception.draw import layout, svg
from slim_inception.evaluate import dense
from slim_inception.export import onnx
from tests import golden, tiny

pytestmark = pytest.mark.integration

tf1 = tf.compat.v1

CLASSES = 5
# Thin where the net has an argument for it: what is tested is how layers hang together.
THIN = {'depth_multiplier': 0.125, 'min_depth': 8}
FAST = ('inception_v2', 'resnet_v1_50')
# `tiny.NAME` is registered by the tests.
NAMES = [name for name in nets_factory.NETS if name != tiny.NAME]
PARAMETERS = [
  name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES
]


def size_of(net):
  """Pixels a side that leave 2 x 2 features."""
  smallest = geometry.smallest_input(net.body)
  return next(s for s in range(smallest, 200) if geometry.output_size(net.body, s) == 2)


@pytest.fixture(scope='module', params=PARAMETERS)
def net(request):
  return nets_factory.get_net(request.param)


@pytest.fixture(scope='module')
def model(net):
  """The net with golden weights, without auxiliary head."""
  arguments = net.select(**THIN, create_aux_logits=False)
  model = nets_factory.create_model(net.name, CLASSES, image_size=size_of(net), **arguments)
  for name, variable in model.variables_by_name.items():
    variable.assign(golden.weights(name, variable.shape.as_list()))
  return model


@pytest.fixture(scope='module')
def images(net):
  return golden.images(4, size_of(net), size_of(net))


def test_a_graph_has_the_variables_and_outputs_of_the_model(net, model, images):
  own = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
  with tf.Graph().as_default(), tf1.Session() as session:
    with slim.arg_scope(net.arg_scope()):
      logits, end_points = net.network_fn(
        tf.constant(images),
        num_classes=CLASSES,
        is_training=False,
        **net.select(**THIN, create_aux_logits=False),
      )
    variables = tf1.global_variables()
    assert [v.op.name for v in variables] == list(model.variables_by_name)
    session.run(
      [v.initializer for v in variables],
      {v.initializer.inputs[1]: own[v.op.name] for v in variables},
    )
    values, others = session.run((logits, end_points))
  expected, names = model(images)
  assert list(others) == list(names)
  assert golden.relative_error(values, expected.numpy()) < 1e-4
  assert values.shape == (len(images), CLASSES)


def test_the_registry_names_its_layers(net, model):
  names = list(model.variables_by_name)
  assert net.first_weights == next(n for n in names if n.endswith('weights'))
  assert names[-2:] == [f'{net.logits_scope}/weights', f'{net.logits_scope}/biases']
  assert all(names[-1].startswith(scope) for scope in net.head_scopes[:1])
  heads = [name for name in names if name.startswith(net.head_scopes)]
  assert heads == names[-len(heads) :]


def test_every_variable_learns_and_every_average_moves(model, images):
  copied = nets_factory.create_model(
    model.name, CLASSES, image_size=model.image_size, **model_arguments(model)
  )
  before = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
  for name, variable in copied.variables_by_name.items():
    variable.assign(before[name])
  labels = np.arange(len(images)) % CLASSES

  def loss_of():
    logits, _ = copied(images, training=True, dropout_seed=tf.constant([1, 2]))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

  with tf.GradientTape() as tape:
    loss = loss_of() + copied.regularization_loss()
  gradients = tape.gradient(loss, copied.trainable_variables)
  assert all(g is not None and np.isfinite(g.numpy()).all() for g in gradients)
  assert any(np.abs(g.numpy()).max() > 0 for g in gradients)
  after = {name: variable.numpy() for name, variable in copied.variables_by_name.items()}
  moved = {name for name in before if not np.array_equal(before[name], after[name])}
  assert moved == {name for name in before if '/moving_' in name}


def model_arguments(model):
  return nets_factory.get_net(model.name).select(**THIN, create_aux_logits=False)


def test_the_summary_counts_what_is_built(net):
  """Of the whole net: `summarize` has no argument for the least depth."""
  described = summary.summarize(net.name, size_of(net), CLASSES)
  arguments = net.select(create_aux_logits=False)
  with tf.Graph().as_default(), slim.arg_scope(net.arg_scope()):
    _, end_points = net.network_fn(
      tf.zeros((1, size_of(net), size_of(net), 3)),
      num_classes=CLASSES,
      is_training=False,
      **arguments,
    )
    trained = sum(v.shape.num_elements() for v in tf1.trainable_variables())
  auxiliary = described.auxiliary.parameters if described.auxiliary else 0
  assert described.parameters - auxiliary == trained
  shapes = {name: (1, *shape) for name, shape in summary.end_points(described).items()}
  assert {name: shapes[name] for name in end_points} == {
    name: tuple(tensor.shape) for name, tensor in end_points.items()
  }
  drawn = svg.render(layout.draw_net(described, net.name, compressed=False))
  scopes = [layer.scope for block in described.blocks for layer in block.layers]
  assert scopes and all(f'<title>{scope}: ' in drawn for scope in scopes)


def test_batch_norm_folds_into_the_weights(model, images):
  folded = model.fold_batch_norm()
  assert len(folded.variables) < len(model.variables)
  assert golden.relative_error(folded(images)[0].numpy(), model(images)[0].numpy()) < 1e-3


def test_features_at_all_strides(net, model):
  arguments = {name: value for name, value in THIN.items() if takes(net, name)}
  pyramid = nets_factory.create_model(net.name, features_only=True, **arguments)
  for name, variable in pyramid.variables_by_name.items():
    variable.assign(model.variables_by_name[name])
  images = golden.images(1, 96, 128)
  features = pyramid(images)
  assert list(features) == [2, 4, 8, 16, 32]
  for stride, values in features.items():
    assert values.shape[3] == pyramid.channels[stride]
    assert 0 <= 96 / stride - values.shape[1] < 5  # VALID padding loses a few
    assert np.isfinite(values.numpy()).all()
  deepest = model.end_points(images)
  if net.features in deepest:
    np.testing.assert_allclose(features[32], deepest[net.features], rtol=1e-4, atol=1e-4)
  dilated = nets_factory.create_model(
    net.name, features_only=True, output_stride=16, strides=(16,), **arguments
  )
  assert dilated(images)[16].shape[1] > features[32].shape[1]


def takes(net, argument):
  try:
    net.vary(**{argument: THIN[argument]})
  except TypeError:
    return False
  return True


def test_checkpoints_both_ways(net, model, images, tmp_path):
  model.save(str(tmp_path / 'model.ckpt'))
  read = nets_factory.create_model(
    net.name, weights=tmp_path / 'model.ckpt', image_size=size_of(net), **model_arguments(model)
  )
  assert read(images)[0].shape == (len(images), CLASSES)
  np.testing.assert_allclose(read(images)[0], model(images)[0], rtol=1e-4, atol=1e-4)


def test_dense_evaluation_and_maps_are_the_logits(net, model, images):
  logits = model(images)[0].numpy()
  places = dense.dense_logits(model, net, images).numpy()
  assert places.shape == (len(images), 1, 1, CLASSES)
  assert golden.relative_error(places[:, 0, 0], logits) < 1e-4
  larger = golden.images(1, size_of(net) + 32, size_of(net) + 64)
  assert dense.dense_logits(model, net, larger).shape == (1, 2, 3, CLASSES)
  _, parts = activation_maps.logits_and_maps(model, net, images)
  summed = parts['maps'].numpy().mean((1, 2)) + parts['biases'].numpy()
  assert golden.relative_error(summed, logits) < 1e-4


def test_a_grey_net_is_built(net):
  model = nets_factory.create_model(
    net.name, CLASSES, image_size=size_of(net), input_channels=1,
    **net.select(**THIN, create_aux_logits=False),
  )  # fmt: skip
  assert model.variables_by_name[net.first_weights].shape[2] == 1
  assert model(golden.images(1, size_of(net), size_of(net))[..., :1])[0].shape == (1, CLASSES)


def test_the_folded_net_as_onnx(model, images):
  runtime = pytest.importorskip('onnxruntime')
  folded, size = model.fold_batch_norm(), model.image_size
  spec = tf.TensorSpec((None, size, size, 3))
  traced = tf.function(lambda images: tf.nn.softmax(folded(images)[0]), autograph=False)
  session = runtime.InferenceSession(
    onnx.convert(traced.get_concrete_function(spec)).SerializeToString()
  )
  (outputs,) = session.run(None, {session.get_inputs()[0].name: images})
  np.testing.assert_allclose(outputs, tf.nn.softmax(model(images)[0]), atol=1e-4)
