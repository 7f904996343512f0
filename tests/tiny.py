"""A net of test size, made of the family's own cells; the registry knows it during tests.

Runs of the trainer take seconds with it where Inception-v3 takes half a minute to trace.
"""

import tensorflow as tf
from slim_inception.nets import inception_utils, nets_factory
from slim_inception.nets.blocks import Residual, avg_pool, conv, max_pool, row, split
from slim_inception.nets.build import net_scope, residual_variant, run_body
from slim_inception.nets.config import ModelConfig
from slim_inception.nets.heads import AuxiliaryHead, DenseHead
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net

NAME, SCOPE = 'inception_tiny', 'InceptionTiny'
BODY = (
  row('Conv2d_1a_3x3', conv(8, 3, stride=2)),
  row('Mixed_2a', ([conv(8, 1)], [conv(8, 3), split(conv(8, (1, 3)), conv(8, (3, 1)))])),
  row('Block', Residual(([conv(8, 1)], [avg_pool(3)]), scale=0.2)),
  row('Mixed_3a', ([conv(16, 3, stride=2)], [max_pool(3, stride=2)])),
)
HEAD = DenseHead(
  pool='AvgPool_1a',
  dropout='Dropout',
  auxiliary=AuxiliaryHead(
    end_point='Mixed_3a', pool='AvgPool_1a_5x5', conv='Conv2d_2a', logits='Logits'
  ),
)


def inception_tiny(
  inputs,
  num_classes=1001,
  is_training=True,
  dropout_keep_prob=0.8,
  reuse=None,
  scope=SCOPE,
  create_aux_logits=True,
  activation_scale=None,
):
  """Logits and end points, as the nets of the family give them."""
  with net_scope(inputs, scope, SCOPE, reuse=reuse, is_training=is_training):
    net, end_points = run_body(
      inputs, BODY, variant=residual_variant(activation_scale=activation_scale)
    )
    return HEAD.build(
      net, end_points, num_classes, is_training, dropout_keep_prob, create_aux_logits
    )


def model_of(network_fn, arg_scope, image_size, input_channels=3):
  """A model of any function of images and is_training."""

  def with_classes(inputs, num_classes, is_training):
    return network_fn(inputs, is_training=is_training)

  net = Net(
    'any', 'Any', (), HEAD, inception_utils.inception_arg_scope, with_classes, image_size, None
  )
  config = ModelConfig(
    net=net,
    num_classes=None,
    image_size=None,
    input_channels=input_channels,
    features_only=False,
    arg_scope=arg_scope,
    arguments={},
  )
  return Model(config)


def random_net(num_classes, seed):
  """A model whose weights are large enough to tell images apart."""
  tf.random.set_seed(seed)
  model = nets_factory.create_model(NAME, num_classes, create_aux_logits=False)
  for name, variable in model.variables_by_name.items():
    if name.endswith('weights'):
      variable.assign(tf.random.normal(variable.shape, stddev=0.2))
  return model


def register() -> None:
  """Makes the net known."""
  scope = inception_utils.inception_arg_scope
  net = Net(
    NAME,
    SCOPE,
    BODY,
    HEAD,
    scope,
    inception_tiny,
    default_image_size=32,
    make_variant=residual_variant,
  )
  nets_factory.register(net)


def config(**kwargs):
  """The configuration of a step that needs no files: recipe slim, this net."""
  from slim_inception.train.config import resolve  # lists the nets, so it comes after `register`

  where = {'train_dir': 'run', 'dataset_dir': 'data', 'recipe': 'slim'}
  return resolve({**where, 'model_name': NAME, 'preprocessing_name': 'inception', **kwargs})
