"""What is said of nets without building them; test_goldens.py has the four at 299 x 299."""

import math

import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory, slim, summary

from slim_inception.cli import show
from tests import operations, tiny

tf1 = tf.compat.v1


@pytest.mark.parametrize(
  ('name', 'giga', 'mega'),  # timm's tables
  [
    ('inception_v3', 5.73, 23.83),
    ('inception_v4', 12.28, 42.68),
    ('inception_resnet_v2', 13.18, 55.84),
  ],
)
def test_counts_are_the_published_ones(name, giga, mega):
  net = summary.summarize(name, num_classes=1000)
  normalized = [
    layer
    for block in net.body
    for step in (step for branch in block.branches for step in branch)
    for layer in step
    if layer.kind == summary.CONVOLUTION
  ]
  # fvcore, which timm's tables are made with, adds two for each element of a batch norm.
  adds = net.multiply_adds + 2 * sum(math.prod(layer.shape) for layer in normalized)
  assert adds / 1e9 == pytest.approx(giga, abs=0.006)
  # timm's batch norms have a gamma for each filter.
  gammas = sum(layer.shape[2] for layer in normalized)
  parameters = net.parameters - net.auxiliary.parameters + gammas
  assert parameters / 1e6 == pytest.approx(mega, abs=0.006)


@pytest.mark.parametrize(
  ('name', 'size', 'multiplier'),
  [
    ('inception_v3', 107, 0.3),
    ('inception_v3', 346, 0.3),
    ('inception_v4', 107, 0.05),
    ('inception_resnet_v1', 107, 0.3),
    pytest.param('inception_resnet_v2', 107, 1.1, marks=pytest.mark.slow),
  ],
)
def test_a_net_of_another_width_and_size_is_that_of_the_graph(name, size, multiplier):
  registered = nets_factory.get_net(name)
  with tf.Graph().as_default(), slim.arg_scope(registered.arg_scope()):
    _, end_points = registered.network_fn(
      tf1.placeholder(tf.float32, (1, size, size, 3)), 7, depth_multiplier=multiplier
    )
    trained = sum(v.shape.num_elements() for v in tf1.trainable_variables())
  net = summary.summarize(name, size, num_classes=7, depth_multiplier=multiplier)
  expected = {name: tensor.shape.as_list() for name, tensor in end_points.items()}
  assert {name: [1, *shape] for name, shape in summary.end_points(net).items()} == expected
  assert net.parameters == trained


def test_multiply_adds_of_a_training_step_are_those_of_its_graph():
  model = nets_factory.create_model(tiny.NAME)

  @tf.function(autograph=False)
  def gradients(images):
    with tf.GradientTape() as tape:
      logits, end_points = model(images, training=True)
      loss = tf.reduce_sum(logits**2) + tf.reduce_sum(end_points['AuxLogits'] ** 2)
    tf.matmul(logits, logits, transpose_a=True)  # nobody needs it
    return tape.gradient(loss, model.trainable_variables)

  graph = gradients.get_concrete_function(tf.TensorSpec((2, 32, 32, 3))).graph
  net = summary.summarize(tiny.NAME)
  assert operations.multiply_adds(graph) == 2 * net.training_multiply_adds


def test_no_room_for_an_auxiliary_head():
  assert summary.summarize('inception_v4', 106).auxiliary is None
  assert 'AuxLogits' not in summary.end_points(summary.summarize('inception_v4', 106))
  assert summary.summarize('inception_v4', 107).auxiliary is not None


def test_equal_blocks_look_alike_whatever_their_names():
  blocks = {block.scope: block for block in summary.summarize('inception_v3').body}
  assert blocks['Mixed_5c'].looks_like(blocks['Mixed_5d'])  # other names of layers and input
  assert blocks['Mixed_7b'].looks_like(blocks['Mixed_7c'])
  assert not blocks['Mixed_5b'].looks_like(blocks['Mixed_5c'])
  assert not blocks['Mixed_6b'].looks_like(blocks['Mixed_6c'])
  blocks = {block.scope: block for block in summary.summarize('inception_resnet_v2').body}
  assert not blocks['Repeat_2/block8_9'].looks_like(blocks['Block8'])  # another scale


def test_table_of_the_test_size_net():
  net = summary.summarize(tiny.NAME)
  lines = show.table(net)
  assert lines[0] == 'inception_tiny, 32 x 32 pixels, 1001 classes, one image'
  # 15 x 15 places; 1 x 1, 3 x 3, 1 x 3 and 3 x 1 convolutions from 8 filters to 8.
  adds = 225 * 8 * 8 * (1 + 9 + 3 + 3)
  parameters = 8 * (8 * (1 + 9 + 3 + 3) + 4)
  assert ' '.join(lines[4].split()) == f'Mixed_2a Mixed_2a 15 x 15 x 24 {parameters:,} {adds:,}'
  (block,) = [b for b in show.as_json(net)['blocks'] if b['scope'] == 'InceptionTiny/Mixed_2a']
  assert [layer['scope'].split('/')[-1] for layer in block['layers']] == [
    'Conv2d_0a_1x1', 'Conv2d_0a_3x3', 'Conv2d_0b_1x3', 'Conv2d_0c_3x1', 'Mixed_2a',
  ]  # fmt: skip
  assert show.as_json(net)['parameters'] == net.parameters


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('inception_v9',), "Unknown net 'inception_v9'; choose one of inception_v1, "),
    (('inception_v4', 74), 'image_size is 74; the smallest that inception_v4 takes is 75'),
    (('inception_v3', 363), 'image_size is 363, too large for inception_v3: AuxLogits would have '),
    (('inception_v3', 299, 0), 'num_classes is 0; expected at least 1'),
    (('inception_v3', 299, 5, 0.0), 'depth_multiplier is 0.0; it must be greater than zero'),
    (
      ('inception_v1', 299, 5, 0.5),
      'inception_v1 has no depth_multiplier; these nets have: .*inception_v3',
    ),
  ],
)
def test_what_it_refuses(arguments, message):
  with pytest.raises(ValueError, match=message):
    summary.summarize(*arguments)
