"""Ten years of code call the nets by these arguments, some by position."""

import inspect

import pytest
from slim_inception.nets import inception

# slim's of 2019, with what is no number or text by its name.
NET = 'inputs, num_classes=1001, is_training=True, dropout_keep_prob=0.8, reuse=None, '
DECAYS = 'weight_decay=4e-05, batch_norm_decay=0.9997, batch_norm_epsilon=0.001, '
REST = "activation_fn=relu, batch_norm_updates_collections='update_ops', batch_norm_scale=False"
SIGNATURES = {
  'inception_v1': 'inputs, num_classes=1000, is_training=True, dropout_keep_prob=0.8, '
  "prediction_fn=softmax, spatial_squeeze=True, reuse=None, scope='InceptionV1', "
  'global_pool=False',
  'inception_v1_base': "inputs, final_endpoint='Mixed_5c', include_root_block=True, "
  "scope='InceptionV1'",
  'inception_v2': 'inputs, num_classes=1000, is_training=True, dropout_keep_prob=0.8, '
  'min_depth=16, depth_multiplier=1.0, prediction_fn=softmax, spatial_squeeze=True, reuse=None, '
  "scope='InceptionV2', global_pool=False",
  'inception_v2_base': "inputs, final_endpoint='Mixed_5c', min_depth=16, depth_multiplier=1.0, "
  "use_separable_conv=True, data_format='NHWC', include_root_block=True, scope=None",
  'inception_v3': 'inputs, num_classes=1000, is_training=True, dropout_keep_prob=0.8, '
  'min_depth=16, depth_multiplier=1.0, prediction_fn=softmax, spatial_squeeze=True, reuse=None, '
  "create_aux_logits=True, scope='InceptionV3', global_pool=False",
  'inception_v4': f"{NET}scope='InceptionV4', create_aux_logits=True",
  'inception_resnet_v2': (
    f"{NET}scope='InceptionResnetV2', create_aux_logits=True, activation_fn=relu"
  ),
  'inception_v3_base': (
    "inputs, final_endpoint='Mixed_7c', min_depth=16, depth_multiplier=1.0, scope=None"
  ),
  'inception_v4_base': "inputs, final_endpoint='Mixed_7d', scope=None",
  'inception_resnet_v2_base': "inputs, final_endpoint='Conv2d_7b_1x1', output_stride=16, "
  'align_feature_maps=False, scope=None, activation_fn=relu',
  **dict.fromkeys(
    tuple(f'inception_v{i}_arg_scope' for i in (1, 2, 3, 4)),
    DECAYS.replace('batch_norm_decay', 'use_batch_norm=True, batch_norm_decay') + REST,
  ),
  'inception_resnet_v2_arg_scope': DECAYS + REST,
  # facenet's, in slim's order
  'inception_resnet_v1': f"{NET}scope='InceptionResnetV1', create_aux_logits=True",
  'inception_resnet_v1_arg_scope': DECAYS.replace('0.9997', '0.995') + REST,
}


@pytest.mark.parametrize('name', SIGNATURES)
def test_arguments_and_defaults_are_slims(name):
  """More may follow."""
  arguments = []
  for argument in inspect.signature(getattr(inception, name)).parameters.values():
    default = getattr(argument.default, '__name__', repr(argument.default))
    arguments.append(
      argument.name if argument.default is argument.empty else f'{argument.name}={default}'
    )
  assert ', '.join(arguments).startswith(SIGNATURES[name])
