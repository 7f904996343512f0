"""The nets that come with the package, by name, for who needs no more of them: no TensorFlow."""

NAMES = ('inception_v3', 'inception_v4', 'inception_resnet_v1', 'inception_resnet_v2')
