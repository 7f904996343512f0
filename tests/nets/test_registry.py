"""Nets are complete, and one of another family needs `register` alone."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import (
  geometry,
  inception,
  inception_utils,
  layers,
  nets_factory,
  slim,
  summary,
)
from slim_inception.nets.blocks import Residual, avg_pool, chain, conv, row
from slim_inception.nets.build import net_scope, residual_variant, run_body
from slim_inception.nets.heads import SOFTMAX, Head, cell
from slim_inception.nets.net import Net
from slim_inception.preprocessing import preprocessing_factory

from slim_inception.draw import layout, svg
from slim_inception.evaluate import dense
from tests import golden, tiny

DOCS = pathlib.Path(__file__).parent.parent.parent / 'docs'


def missing(net: Net) -> list[str]:
  """What a net still needs, and where."""
  page = (DOCS / 'nets.md').read_text('utf-8')
  functions = [net.name, f'{net.name}_base', f'{net.name}_arg_scope']
  is_inception = net.name.startswith('inception')
  checks = {
    f'{", ".join(functions)} in nets/inception.py': (
      not is_inception or all(hasattr(inception, f) for f in functions)
    ),
    'a paper (Net.paper)': net.paper is not None,
    f'a known preprocessing: {net.preprocessing!r} is not in preprocessing_factory': (
      net.preprocessing in preprocessing_factory.PREPROCESSING
    ),
    'an image size that its body takes': (
      net.default_image_size >= geometry.smallest_input(net.body)
    ),
    'a layer of the logits among those of its head (Head.weights)': any(
      net.head.logits_path in paths for paths in net.head.weights.values()
    ),
    'a golden (tests/data/golden, tests/golden.py)': (
      # No nets of slim's: tests/nets/test_convert_torch.py and test_inception_v3_2015.py have them.
      net.name.startswith(('resnet_v1_5_', 'inception_v3_2015'))
      or (net.name in golden.ALL and (golden.DATA / f'{net.name}.json').exists())
    ),
    f'a drawing: slim-inception show {net.name} --output=docs/img/{net.name}.svg': (
      (DOCS / 'img' / f'{net.name}.svg').exists()
    ),
    f'a place for it in docs/nets.md: ![...](img/{net.name}.svg)': f'(img/{net.name}.svg)' in page,
    'its row of `slim-inception list --markdown` in docs/nets.md': f'| {net.name} | ' in page,
  }
  return [what for what, is_there in checks.items() if not is_there]


@pytest.mark.parametrize('name', [name for name in nets_factory.NETS if name != tiny.NAME])
def test_every_registered_net_is_complete(name):
  lacking = missing(nets_factory.get_net(name))
  assert not lacking, f'{name} lacks:\n  ' + '\n  '.join(lacking)


def test_what_a_net_lacks_is_named():
  lacking = '\n'.join(missing(nets_factory.get_net(tiny.NAME)))
  for what in ('a paper', 'a golden', '--output=docs/img/inception_tiny.svg', 'nets/inception.py'):
    assert what in lacking
  assert 'image size' not in lacking and 'logits' not in lacking


def test_names_are_given_once():
  net = nets_factory.get_net(tiny.NAME)
  assert nets_factory.register(net) is net
  with pytest.raises(ValueError, match="There is a net 'inception_tiny' already"):
    nets_factory.register(dataclasses.replace(net, num_classes=10))


# A net of another family: residual, its own scopes, head, preprocessing and arguments.


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanHead(Head):
  """The mean of all places, and logits by a 1 x 1 convolution beside the body."""

  @property
  def logits_path(self):
    return 'logits'

  def units(self, height, width, num_classes):
    cells = [
      (avg_pool((height or 1, width or 1), padding='VALID', name='pool5'), 'global_pool'),
      (conv(num_classes, 1, name='logits'), 'last'),
      (cell(SOFTMAX, 'predictions'), 'predictions'),
    ]
    return tuple(chain(layer.name, [layer], end_point) for layer, end_point in cells)

  def build(self, net, end_points, num_classes):
    _, (logits,), (predictions,) = (unit.cells for unit in self.units(None, None, num_classes or 0))
    net = end_points['global_pool'] = tf.reduce_mean(net, (1, 2), keepdims=True, name='pool5')
    if num_classes:
      net = layers.conv2d(
        net, num_classes, 1, activation_fn=None, normalizer_fn=None, scope=logits.scope
      )
      net = end_points['last'] = tf.squeeze(net, (1, 2))
      end_points['predictions'] = tf.nn.softmax(net, name=predictions.scope)
    return net, end_points


BODY = (
  row('root', conv(8, 3, stride=2, padding='SAME')),
  row('block1/unit_1', Residual(([conv(4, 1), conv(4, 3)],), scale=1.0), end_point=None),
  row('down', ([conv(8, 3, stride=2)], [conv(4, 1), conv(8, 3, stride=2)])),
  row('block2/unit_1', Residual(([conv(4, 1), conv(4, 3)],), scale=0.5)),
)
HEAD = MeanHead()


def tiny_resnet(
  inputs, num_classes=5, is_training=True, reuse=None, scope='tiny_resnet', activation_fn=tf.nn.relu
):
  with net_scope(inputs, scope, 'tiny_resnet', reuse=reuse, is_training=is_training):
    return HEAD.build(*run_body(inputs, BODY, None, residual_variant(activation_fn)), num_classes)


@pytest.fixture
def resnet():
  net = Net(
    'tiny_resnet',
    'tiny_resnet',
    BODY,
    HEAD,
    inception_utils.inception_arg_scope,
    tiny_resnet,
    default_image_size=24,
    num_classes=5,
    preprocessing='vgg',
    make_variant=residual_variant,
  )
  yield nets_factory.register(net)
  for registry in (nets_factory.NETS, nets_factory.networks_map, nets_factory.arg_scopes_map):
    del registry[net.name]


def test_slims_dictionaries_have_a_registered_net(resnet):
  assert nets_factory.networks_map['tiny_resnet'] is tiny_resnet
  assert nets_factory.arg_scopes_map['tiny_resnet'] is resnet.arg_scope
  assert nets_factory.get_net('tiny_resnet').preprocessing == 'vgg'
  assert nets_factory.nets_with('activation_fn')[-1] == 'tiny_resnet'
  assert resnet.arguments == {'activation_fn'}
  assert resnet.select(create_aux_logits=False, dropout_keep_prob=0.5) == {}
  assert resnet.head_scopes == ('tiny_resnet/logits',)
  assert resnet.logits_scope == 'tiny_resnet/logits'
  assert resnet.first_weights == 'tiny_resnet/root/weights'


def test_geometry_of_a_registered_net(resnet):
  smallest = geometry.smallest_input(resnet.body)
  assert (smallest, geometry.output_size(resnet.body, smallest)) == (5, 1)
  assert geometry.output_size(resnet.body, 24) == 5
  levels = geometry.levels(resnet.body)
  assert {stride: level.row for stride, level in levels.items()} == {2: 1, 4: 3}


def test_a_registered_net_is_described_as_it_is_built(resnet):
  with tf.Graph().as_default() as graph:
    with slim.arg_scope(resnet.arg_scope()):
      _, end_points = tiny_resnet(tf.zeros((1, 24, 24, 3)), is_training=False)
    trained = {v.op.name: v.shape.num_elements() for v in tf.compat.v1.trainable_variables()}
    described = summary.summarize('tiny_resnet', num_classes=5)
    scopes = [layer.scope for block in described.blocks for layer in block.layers]
    assert all(graph.get_operation_by_name(f'{scope}/weights') for scope in weights_of(resnet))
  assert described.parameters == sum(trained.values())
  shapes = {name: shape[-1] for name, shape in summary.end_points(described).items()}
  assert shapes == {name: tensor.shape[-1] for name, tensor in end_points.items()}
  assert 'tiny_resnet/block2/unit_1/Branch_0/Conv2d_0b_3x3' in scopes
  drawn = svg.render(layout.draw_net(described, 'Tiny', compressed=False))
  assert all(f'<title>{scope}: ' in drawn for scope in scopes)


def weights_of(net):
  return [f'{net.scope}/{path}' for paths in net.weighted.values() for path in paths]


def test_models_of_a_registered_net(resnet, tmp_path):
  model = nets_factory.create_model('tiny_resnet')
  weights = {name for name in model.variables_by_name if name.endswith('/weights')}
  assert weights == {f'{scope}/weights' for scope in weights_of(resnet)}
  for side in (24, 31):
    images = golden.images(2, side, side)
    logits, end_points = model(images)
    assert logits.shape == (2, 5)
    np.testing.assert_allclose(model.fold_batch_norm()(images)[0], logits, rtol=1e-3, atol=1e-4)
    assert list(model.end_points(images)) == [
      n for n in end_points if n[:4] not in ('last', 'pred')
    ]
  model.save(str(tmp_path / 'model.ckpt'))
  other = nets_factory.create_model('tiny_resnet', weights=tmp_path / 'model.ckpt')
  np.testing.assert_allclose(other(images)[0], logits, rtol=1e-5, atol=1e-5)
  places = dense.dense_logits(model, resnet, golden.images(1, 24, 24))
  np.testing.assert_allclose(
    places[:, 0, 0], model(golden.images(1, 24, 24))[0], rtol=1e-4, atol=1e-5
  )


def test_features_of_a_registered_net(resnet):
  pyramid = nets_factory.create_model('tiny_resnet', features_only=True, activation_fn=tf.nn.relu6)
  features = pyramid(golden.images(1, 24, 24))
  assert {stride: tuple(f.shape) for stride, f in features.items()} == {
    2: (1, 12, 12, 8),
    4: (1, 5, 5, 16),
  }
