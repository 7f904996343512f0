"""What others have published of the nets: papers with their figures, checkpoints with theirs.

Numbers are the sources' own, to their digits; None is what a source does not say. Papers stand in
the nets' files; what follows from their tables is in `nets.summary`.
"""

from collections.abc import Collection
from typing import NamedTuple

from . import registry


class Checkpoint(NamedTuple):
  """Weights that somebody released."""

  net: str
  name: str
  by: str
  top_1: float | None  # accuracy in %, one crop, 50,000 images of ImageNet's validation set
  top_5: float | None
  outputs: int  # 1001: with the background as class 0; 512: an embedding
  image_size: int
  images: str  # what the net was evaluated on
  remark: str
  source: str
  preprocessing: str = 'inception'  # that makes such images, where `nets.convert` reads the weights


_SLIM = '[-1, 1], central crop 0.875, bilinear'
_SLIMS_README = 'tensorflow/models, research/slim/README.md, Pre-trained Models'
_KERAS = '[-1, 1]'
_KERAS_PAGE = 'keras.io/api/applications'
_TIMM = '[-1, 1], central crop {}, bicubic'
_TIMM_PAGE = 'huggingface/pytorch-image-models, results/results-imagenet.csv; the configuration'
_FACENET = '(x - 127.5) / 128 of 0..255, aligned faces'
_FACENET_PAGE = 'davidsandberg/facenet, README.md, Pre-trained models'
_FACENET_PYTORCH_PAGE = 'timesler/facenet-pytorch, README.md, Pretrained models'
_WHITENED = 'less the mean of their image, over its deviation, aligned faces'
_DEEPFACE_PAGE = 'serengil/deepface, models/facial_recognition/pytorch/Facenet.py, tf/Facenet.py'
# Anybody trains their nets on anything: their checkpoints are known by name alone.
_OF_FACES = 'facenet', 'facenet-pytorch', 'deepface', 'keras-facenet'


_SLIM_VGG = "0..255 less ImageNet's mean, short side 256, centre, bilinear"
_CAFFE = "BGR of 0..255 less ImageNet's mean"
_TORCHVISION = "ImageNet's mean and deviation, short side {}, centre, bilinear"
_TORCHVISIONS_PAGE = 'pytorch.org/vision, {}'
_ADVERSARIAL_README = 'tensorflow/models, research/adv_imagenet_models/README.md, Available models'


def _adversarial(net: str, name: str, remark: str) -> Checkpoint:
  return Checkpoint(net, name, 'TF-Slim', None, None, 1001, 299, _SLIM, remark, _ADVERSARIAL_README)


def _slims_resnet(layers: int, top_1: float, top_5: float, *, version: int) -> Checkpoint:
  net = f'resnet_v{version}_{layers}'
  name = f'{net}_2017_04_14' if version == 2 else f'{net}_2016_08_28'
  outputs, size, images = (1001, 299, _SLIM) if version == 2 else (1000, 224, _SLIM_VGG)
  preprocessing = 'inception' if version == 2 else 'vgg'
  return Checkpoint(
    net, name, 'TF-Slim', top_1, top_5, outputs, size, images, '', _SLIMS_README, preprocessing
  )


def _keras_resnet(net: str, name: str, top_1: float, top_5: float) -> Checkpoint:
  images = _KERAS if name.endswith('V2') else _CAFFE
  remark = 'pads by zeros before the first pooling'
  preprocessing = 'inception' if name.endswith('V2') else 'vgg'
  return Checkpoint(
    net, name, 'Keras', top_1, top_5, 1000, 224, images, remark, _KERAS_PAGE, preprocessing
  )


def _torchvision(
  net: str, name: str, top_1: float, top_5: float, short_side: int, weights: str, remark: str = ''
) -> Checkpoint:
  images = _TORCHVISION.format(short_side)
  source = _TORCHVISIONS_PAGE.format(weights)
  # googlenet itself makes [-1, 1] of them (transform_input).
  preprocessing = 'inception' if net == 'inception_v1' else 'torch'
  return Checkpoint(
    net, name, 'torchvision', top_1, top_5, 1000, 224, images, remark, source, preprocessing
  )


def _timm(name: str, top_1: float, top_5: float, images: str, remark: str = '') -> Checkpoint:
  net = name.partition('.')[0]
  return Checkpoint(net, name, 'timm', top_1, top_5, 1000, 299, images, remark, _TIMM_PAGE)


# fmt: off
CHECKPOINTS: tuple[Checkpoint, ...] = (
  Checkpoint('inception_v1', 'inception_v1_2016_08_28', 'TF-Slim', 69.8, 89.6, 1001, 224, _SLIM,
             '', _SLIMS_README),
  _torchvision('inception_v1', 'googlenet-1378be20', 69.778, 89.53, 256,
               'GoogLeNet_Weights.IMAGENET1K_V1', 'pads as PyTorch; ported from TF-Slim'),
  Checkpoint('inception_v2', 'inception_v2_2016_08_28', 'TF-Slim', 73.9, 91.8, 1001, 224, _SLIM,
             '', _SLIMS_README),
  Checkpoint('inception_v3', 'inception_v3_2016_08_28', 'TF-Slim', 78.0, 93.9, 1001, 299, _SLIM,
             '', _SLIMS_README),
  Checkpoint('inception_v3', 'InceptionV3', 'Keras', 77.9, 93.7, 1000, 299, _KERAS,
             '', _KERAS_PAGE),
  Checkpoint('inception_v3', 'inception_v3_google-0cc3c7bd', 'torchvision', 77.294, 93.45, 1000,
             299, '[-1, 1], short side 342, centre, bilinear',
             'counts the zeros around in average pools',
             'pytorch.org/vision, Inception_V3_Weights.IMAGENET1K_V1'),
  _timm('inception_v3.tf_in1k', 77.866, 93.644, _TIMM.format(0.875), 'ported from TF-Slim'),
  _timm('inception_v3.tv_in1k', 77.472, 93.468, _TIMM.format(0.875), 'ported from torchvision'),
  _timm('inception_v3.tf_adv_in1k', 77.598, 93.726, _TIMM.format(0.875),
        'adversarial training; adv_inception_v3_2017_08_18'),
  _timm('inception_v3.gluon_in1k', 78.806, 94.372,
        "ImageNet's mean and deviation, central crop 0.875, bicubic", 'ported from GluonCV'),
  _adversarial('inception_v3', 'adv_inception_v3_2017_08_18', 'adversarial training'),
  _adversarial('inception_v3', 'ens3_adv_inception_v3_2017_08_18',
               'adversarial training on an ensemble of 3'),
  _adversarial('inception_v3', 'ens4_adv_inception_v3_2017_08_18',
               'adversarial training on an ensemble of 4'),
  Checkpoint('inception_v4', 'inception_v4_2016_09_09', 'TF-Slim', 80.2, 95.2, 1001, 299, _SLIM,
             '', _SLIMS_README),
  _timm('inception_v4.tf_in1k', 80.144, 94.982, _TIMM.format(0.875), 'ported from TF-Slim'),
  Checkpoint('inception_resnet_v1', '20180402-114759', 'facenet', None, None, 512, 160, _FACENET,
             'VGGFace2; 99.65 % on LFW', _FACENET_PAGE, 'facenet'),
  Checkpoint('inception_resnet_v1', '20180408-102900', 'facenet', None, None, 512, 160, _FACENET,
             'CASIA-WebFace; 99.05 % on LFW', _FACENET_PAGE, 'facenet'),
  Checkpoint('inception_resnet_v1', '20180402-114759-vggface2', 'facenet-pytorch', None, None, 512,
             160, _FACENET, 'VGGFace2, 8,631 people; ported from facenet', _FACENET_PYTORCH_PAGE,
             'facenet'),
  Checkpoint('inception_resnet_v1', '20180408-102900-casia-webface', 'facenet-pytorch', None, None,
             512, 160, _FACENET, 'CASIA-WebFace, 10,575 people; ported from facenet',
             _FACENET_PYTORCH_PAGE, 'facenet'),
  Checkpoint('inception_resnet_v1', 'facenet_keras', 'keras-facenet', None, None, 128, 160,
             _WHITENED, 'MS-Celeb-1M; ported from facenet',
             'nyoki-mtl/keras-facenet, README.md', 'facenet_whitened'),
  Checkpoint('inception_resnet_v1', 'facenet_weights', 'deepface', None, None, 128, 160, _WHITENED,
             '.h5 and .pth; ported from facenet', _DEEPFACE_PAGE, 'facenet_whitened'),
  Checkpoint('inception_resnet_v1', 'facenet512_weights', 'deepface', None, None, 512, 160,
             _FACENET, '.h5 and .pth; ported from facenet', _DEEPFACE_PAGE, 'facenet'),
  Checkpoint('inception_resnet_v2', 'inception_resnet_v2_2016_08_30', 'TF-Slim', 80.4, 95.3, 1001,
             299, _SLIM, '', _SLIMS_README),
  Checkpoint('inception_resnet_v2', 'InceptionResNetV2', 'Keras', 80.3, 95.3, 1000, 299, _KERAS,
             '', _KERAS_PAGE),
  _timm('inception_resnet_v2.tf_in1k', 80.434, 95.312, _TIMM.format(0.8975), 'ported from TF-Slim'),
  _timm('inception_resnet_v2.tf_ens_adv_in1k', 79.998, 94.94, _TIMM.format(0.8975),
        'adversarial training; ens_adv_inception_resnet_v2_2017_08_18'),
  _adversarial('inception_resnet_v2', 'adv_inception_resnet_v2_2017_12_18', 'adversarial training'),
  _adversarial('inception_resnet_v2', 'ens_adv_inception_resnet_v2_2017_08_18',
               'adversarial training on an ensemble of 3'),
  _slims_resnet(50, 75.2, 92.2, version=1),
  _keras_resnet('resnet_v1_50', 'ResNet50', 74.9, 92.1),
  _slims_resnet(101, 76.4, 92.9, version=1),
  _keras_resnet('resnet_v1_101', 'ResNet101', 76.4, 92.8),
  _slims_resnet(152, 76.8, 93.2, version=1),
  _keras_resnet('resnet_v1_152', 'ResNet152', 76.6, 93.1),
  _torchvision('resnet_v1_5_50', 'resnet50-0676ba61', 76.13, 92.862, 256,
               'ResNet50_Weights.IMAGENET1K_V1'),
  _torchvision('resnet_v1_5_50', 'resnet50-11ad3fa6', 80.858, 95.434, 232,
               'ResNet50_Weights.IMAGENET1K_V2'),
  _torchvision('resnet_v1_5_101', 'resnet101-63fe2227', 77.374, 93.546, 256,
               'ResNet101_Weights.IMAGENET1K_V1'),
  _torchvision('resnet_v1_5_101', 'resnet101-cd907fc2', 81.886, 95.78, 232,
               'ResNet101_Weights.IMAGENET1K_V2'),
  _torchvision('resnet_v1_5_152', 'resnet152-394f9c45', 78.312, 94.046, 256,
               'ResNet152_Weights.IMAGENET1K_V1'),
  _torchvision('resnet_v1_5_152', 'resnet152-f82ba261', 82.284, 96.002, 232,
               'ResNet152_Weights.IMAGENET1K_V2'),
  _slims_resnet(50, 75.6, 92.8, version=2),
  _keras_resnet('resnet_v2_50', 'ResNet50V2', 76.0, 93.0),
  _slims_resnet(101, 77.0, 93.7, version=2),
  _keras_resnet('resnet_v2_101', 'ResNet101V2', 77.2, 93.8),
  _slims_resnet(152, 77.8, 94.1, version=2),
  _keras_resnet('resnet_v2_152', 'ResNet152V2', 78.0, 94.2),
)
# fmt: on


def find(net: str, path: str, libraries: Collection[str]) -> Checkpoint | None:
  """The released checkpoint that a file is taken for; None where none is known.

  Args:
    net: its name.
    path: of the file or its folder; a name of a checkpoint in it counts, the longest first.
    libraries: whose it can be; of unknown names it is taken for their first of the net. facenet's
      and those made of them are known by name alone.
  """
  candidates = [c for c in CHECKPOINTS if c.net == net and c.by in (*libraries, *_OF_FACES)]
  where = path.replace('\\', '/').split('/')[-2:]
  named = [c for c in candidates if any(c.name in part for part in where)]
  if named:
    return max(named, key=lambda c: len(c.name))
  return next((c for c in candidates if c.by in libraries), None)


def title(name: str) -> str:
  """A net's name for people; its own where it is in no paper."""
  paper = registry.get_net(name).paper
  return paper.title if paper else name
