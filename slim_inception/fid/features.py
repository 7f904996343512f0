"""Images to the features that figures are made of: evaluation's predictor with another output."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.classify import stream
from slim_inception.classify.sources import Source
from slim_inception.cluster import make_strategy
from slim_inception.evaluate.config import ComputeConfig, EnsembleRequest, Member
from slim_inception.evaluate.predictor import Ensemble
from slim_inception.fid.resizing import make_spec
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion, formats
from slim_inception.nets.inception_v3_2015 import NAME
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net

SPATIAL_END_POINT = 'Mixed_6d'  # its first branch is `mixed_6/conv` of the graph
SPATIAL_CHANNELS = 7


class Features(NamedTuple):
  """What the network gives of an image.

  Attributes:
    name: of the image, as the user knows it.
    error: why there are no features; '' if there are.
    pooled: [2048] float32, `pool_3` of the graph.
    spatial: [2023] float32, the first seven channels of `mixed_6/conv`, 17 x 17, as the first
      program of sFID takes them (arXiv:2103.03841, and guided-diffusion's).
  """

  name: str
  error: str = ''
  pooled: np.ndarray | None = None
  spatial: np.ndarray | None = None


class Extractor:
  """The network with its weights loaded.

  Args:
    checkpoint_path: the weights, of any kind that `nets.convert` reads.
    resizing: a key of `resizing.RESIZINGS`.
    compute: batch size, precision and threads.

  Raises:
    ValueError, OSError: the weights are of another net, or cannot be read.
  """

  def __init__(self, checkpoint_path: str, resizing: str, compute: ComputeConfig):
    self._path = formats.locate(checkpoint_path)
    self._num_threads = compute.num_preprocessing_threads or 1
    member = Member(checkpoint_path, NAME, make_spec(resizing))
    request = EnsembleRequest((member,), average='logits', compute=compute)
    self._ensemble = Ensemble(request, None, make_strategy(1, False), logits_fn=_features)
    self._ensemble.load([self._path])

  @property
  def devices(self) -> str:
    """What the network computes on."""
    return self._ensemble.devices

  def read_class_weights(self) -> np.ndarray | None:
    """[2048, classes] weights of the classifier; None where the file has none."""
    layers = conversion.read(self._path, NAME).layers
    logits = layers.get(nets_factory.get_net(NAME).head.logits_path)
    return None if logits is None else logits.weights

  def extract(
    self, images: Iterable[Source], report: Callable[[int], object] = lambda count: None
  ) -> Iterator[Features]:
    """Features of images as they come, in their order; a few batches are in memory.

    Args:
      images: of any size.
      report: gets the number of images whenever some more are done.

    Raises:
      ValueError: features are not finite numbers.
    """
    outputs = stream.through(
      images,
      lambda records: self._ensemble.score(records, task_size=1, report=report),
      self._ensemble.num_passes,
      self._num_threads,
    )
    for image, scored in outputs:
      if scored is None:
        yield Features(image.name, image.error)
      else:
        pooled = scored.means[0].astype(np.float32)
        yield Features(image.name, '', pooled, scored.more[0]['spatial'])


def _features(model: Model, net: Net, images: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
  """A `scorer.LogitsFn`: pooled features in place of logits, and the spatial ones besides."""
  del net
  pooled, end_points = model(images)
  spatial = tf.cast(end_points[SPATIAL_END_POINT][..., :SPATIAL_CHANNELS], tf.float32)
  pooled = tf.reduce_mean(tf.cast(pooled, tf.float32), (1, 2))
  return pooled, {'spatial': tf.reshape(spatial, (tf.shape(spatial)[0], -1))}
