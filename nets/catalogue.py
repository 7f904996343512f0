"""What others have published of the nets: papers with their figures, checkpoints with theirs.

Numbers are the sources' own, to their digits; None is what a source does not say. Papers stand in
the nets' files; what follows from their tables is in `nets.summary`.
"""

from typing import Any, NamedTuple

from . import nets_factory, summary
from .net import Errors, Net
from .summary import columns


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


def as_json() -> dict[str, Any]:
  """Nets with what they cost and their papers, and checkpoints; each with its source."""
  return {
    'nets': [_net_as_json(net) for net in nets_factory.NETS.values()],
    'checkpoints': [checkpoint._asdict() for checkpoint in CHECKPOINTS],
  }


def _net_as_json(entry: Net) -> dict[str, Any]:
  net = summary.summarize(entry.name)
  paper = entry.paper._asdict() if entry.paper else None
  if paper:
    paper |= {key: value._asdict() for key, value in paper.items() if isinstance(value, Errors)}
  return {
    'name': entry.name,
    'image_size': net.image_size,
    'parameters': net.parameters,
    'parameters_of_auxiliary_head': net.auxiliary.parameters if net.auxiliary else 0,
    'multiply_adds': net.multiply_adds,
    'paper': paper,
  }


def as_text() -> list[str]:
  """Two tables, of the nets and of the checkpoints."""
  return [
    'Nets: parameters with and without the auxiliary head, for 1001 classes; G: billions of',
    "multiply-adds for one image; the paper's errors in % on ImageNet's validation set, top-1 /",
    'top-5 (one crop: 48,238 images, else 50,000)',
    '',
    *columns(net_rows(), right=(1, 2, 3, 4)),
    '',
    "Checkpoints: accuracy in % on ImageNet's validation set, one crop, as published",
    '',
    *columns(checkpoint_rows(), right=(3, 4, 5, 6)),
  ]


def as_markdown() -> list[str]:
  """The two tables for a page."""
  return [*_markdown(net_rows()), '', *_markdown(checkpoint_rows())]


def net_rows() -> list[tuple[str, ...]]:
  """The head and a row for each net."""
  rows: list[tuple[str, ...]] = [
    ('net', 'size', 'parameters', 'without', 'G', 'paper', 'one crop', '12 crops', '144 crops')
  ]
  for name, entry in nets_factory.NETS.items():
    net = summary.summarize(name)
    without = net.parameters - (net.auxiliary.parameters if net.auxiliary else 0)
    paper = entry.paper
    errors = [paper.one_crop, paper.crops_12, paper.crops_144] if paper else []
    rows.append(
      (
        name,
        str(net.image_size),
        f'{net.parameters:,}',
        f'{without:,}',
        f'{net.multiply_adds / 1e9:.2f}',
        paper.reference if paper else '',
        *([f'{top_1} / {top_5}' for top_1, top_5 in errors] or [''] * 3),
      )
    )
  return rows


def checkpoint_rows() -> list[tuple[str, ...]]:
  """The head and a row for each checkpoint."""
  head = ('checkpoint', 'net', 'by', 'top-1', 'top-5', 'outputs', 'size', 'images', 'remark')
  return [
    head,
    *(
      (
        c.name,
        c.net,
        c.by,
        _shown(c.top_1),
        _shown(c.top_5),
        str(c.outputs),
        str(c.image_size),
        c.images,
        c.remark,
      )
      for c in CHECKPOINTS
    ),
  ]


def _shown(value: float | None) -> str:
  return '' if value is None else max(f'{value:g}', f'{value:.1f}', key=len)


def _markdown(rows: list[tuple[str, ...]]) -> list[str]:
  head, *rest = rows
  return ['| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *rest)]
