"""The nets that come with the package, by name, for who needs no more of them: no TensorFlow."""

NAMES = (
  'inception_v1',
  'inception_v2',
  'inception_v3',
  'inception_v3_2015',
  'inception_v4',
  'inception_resnet_v1',
  'inception_resnet_v2',
  'resnet_v1_50',
  'resnet_v1_101',
  'resnet_v1_152',
  'resnet_v1_200',
  'resnet_v1_5_50',
  'resnet_v1_5_101',
  'resnet_v1_5_152',
  'resnet_v2_50',
  'resnet_v2_101',
  'resnet_v2_152',
  'resnet_v2_200',
)
