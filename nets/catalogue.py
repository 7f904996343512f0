"""What others have published of the nets: papers with their figures, checkpoints with theirs.

Numbers are the sources' own, to their digits; None is what a source does not say. Papers stand in
the nets' files; what follows from their tables is in `nets.summary`.
"""

from typing import NamedTuple

from . import nets_factory


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


_SLIM = '[-1, 1], central crop 0.875, bilinear'
_SLIMS_README = 'tensorflow/models, research/slim/README.md, Pre-trained Models'
_KERAS = '[-1, 1]'
_KERAS_PAGE = 'keras.io/api/applications'
_TIMM = '[-1, 1], central crop {}, bicubic'
_TIMM_PAGE = 'huggingface/pytorch-image-models, results/results-imagenet.csv; the configuration'
_FACENET = '(x - 127.5) / 128 of 0..255, aligned faces'
_FACENET_PAGE = 'davidsandberg/facenet, README.md, Pre-trained models'


def _timm(name: str, top_1: float, top_5: float, images: str, remark: str = '') -> Checkpoint:
  net = name.partition('.')[0]
  return Checkpoint(net, name, 'timm', top_1, top_5, 1000, 299, images, remark, _TIMM_PAGE)


# fmt: off
CHECKPOINTS: tuple[Checkpoint, ...] = (
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
  Checkpoint('inception_v4', 'inception_v4_2016_09_09', 'TF-Slim', 80.2, 95.2, 1001, 299, _SLIM,
             '', _SLIMS_README),
  _timm('inception_v4.tf_in1k', 80.144, 94.982, _TIMM.format(0.875), 'ported from TF-Slim'),
  Checkpoint('inception_resnet_v1', '20180402-114759', 'facenet', None, None, 512, 160, _FACENET,
             'VGGFace2; 99.65 % on LFW', _FACENET_PAGE),
  Checkpoint('inception_resnet_v1', '20180408-102900', 'facenet', None, None, 512, 160, _FACENET,
             'CASIA-WebFace; 99.05 % on LFW', _FACENET_PAGE),
  Checkpoint('inception_resnet_v2', 'inception_resnet_v2_2016_08_30', 'TF-Slim', 80.4, 95.3, 1001,
             299, _SLIM, '', _SLIMS_README),
  Checkpoint('inception_resnet_v2', 'InceptionResNetV2', 'Keras', 80.3, 95.3, 1000, 299, _KERAS,
             '', _KERAS_PAGE),
  _timm('inception_resnet_v2.tf_in1k', 80.434, 95.312, _TIMM.format(0.8975), 'ported from TF-Slim'),
  _timm('inception_resnet_v2.tf_ens_adv_in1k', 79.998, 94.94, _TIMM.format(0.8975),
        'adversarial training; ens_adv_inception_resnet_v2_2017_08_18'),
)
# fmt: on


def title(name: str) -> str:
  """A net's name for people; its own where it is in no paper."""
  paper = nets_factory.get_net(name).paper
  return paper.title if paper else name
