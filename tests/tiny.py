"""A net of test size, made of the family's own cells; the registry knows it during tests.

Runs of the trainer take seconds with it where Inception-v3 takes half a minute to trace.
"""

import tensorflow as tf
from slim_inception.nets import inception_utils, layers, nets_factory, slim
from slim_inception.nets.inception_blocks import (
  AuxiliaryHead,
  Head,
  Residual,
  avg_pool,
  conv,
  max_pool,
  row,
  run_body,
  split,
)

NAME = 'inception_tiny'
BODY = (
  row('Conv2d_1a_3x3', conv(8, 3, stride=2)),
  row('Mixed_2a', ([conv(8, 1)], [conv(8, 3), split(conv(8, (1, 3)), conv(8, (3, 1)))])),
  row('Block', Residual(([conv(8, 1)], [avg_pool(3)]), scale=0.2)),
  row('Mixed_3a', ([conv(16, 3, stride=2)], [max_pool(3, stride=2)])),
)
HEAD = Head(
  'InceptionTiny',
  pool='AvgPool_1a',
  pooled='',
  dropout='Dropout',
  features='',
  logits='Logits',
  auxiliary=AuxiliaryHead('Mixed_3a', 'AvgPool_1a_5x5', 'Conv2d_2a', 'Logits'),
)


def inception_tiny(
  inputs,
  num_classes=1001,
  is_training=True,
  dropout_keep_prob=0.8,
  reuse=None,
  scope='InceptionTiny',
  create_aux_logits=True,
):
  """Logits and end points, as the nets of the family give them."""
  with (
    tf.compat.v1.variable_scope(scope, 'InceptionTiny', [inputs], reuse=reuse),
    slim.arg_scope([layers.batch_norm, layers.dropout], is_training=is_training),
  ):
    net, end_points = run_body(inputs, BODY)
    if create_aux_logits and inception_utils.has_room_for_auxiliary_head(net, is_training):
      end_points['AuxLogits'] = inception_utils.fully_connected_auxiliary_head(
        net, num_classes, pool='AvgPool_1a_5x5', conv='Conv2d_2a', logits='Logits'
      )
    with tf.compat.v1.variable_scope('Logits'):
      net = inception_utils.global_pool(net, 'AvgPool_1a')
      if not num_classes:
        return net, end_points
      net = layers.flatten(net)
      net = layers.dropout(net, dropout_keep_prob)
      logits = layers.fully_connected(net, num_classes, activation_fn=None, scope='Logits')
  return logits, end_points


def register() -> None:
  """Adds the net to the registry; before `training.config` lists the choices of its flags."""
  nets_factory.NETS[NAME] = nets_factory.Net(
    inception_tiny,
    inception_utils.inception_arg_scope,
    ('InceptionTiny/Logits', 'InceptionTiny/AuxLogits'),
    BODY,
    'InceptionTiny/Logits/Logits',
    HEAD,
    default_image_size=32,
  )


def config(**kwargs):
  """The configuration of a step that needs no files: recipe slim, this net."""
  from slim_inception.train.config import resolve  # lists the nets, so it comes after `register`

  return resolve(
    {
      'train_dir': 'run',
      'dataset_dir': 'data',
      'recipe': 'slim',
      'model_name': NAME,
      'preprocessing_name': 'inception',
      **kwargs,
    }
  )
