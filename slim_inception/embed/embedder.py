"""Image files to embeddings: classification's stream of images and the evaluation's predictor."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from slim_inception.classify import stream
from slim_inception.classify.sources import Source
from slim_inception.cluster import make_strategy
from slim_inception.embed.config import EmbedRequest
from slim_inception.evaluate.predictor import Ensemble
from slim_inception.nets.convert import formats
from slim_inception.nets.model import Model
from slim_inception.nets.net import Net


class Result(NamedTuple):
  """What became of an image.

  Attributes:
    name: as the user knows it.
    error: why there is no embedding; '' if there is.
    embedding: [width] float32, of the nets one after the other.
  """

  name: str
  error: str = ''
  embedding: np.ndarray | None = None


class Embedder:
  """An ensemble with its checkpoints loaded.

  Args:
    request: what and how.

  Raises:
    ValueError, OSError: a checkpoint does not fit.
  """

  def __init__(self, request: EmbedRequest):
    chosen, ensemble = request.config.embedding, request.ensemble
    self._normalizes = chosen.normalize
    self._num_threads = ensemble.compute.num_preprocessing_threads or 1
    self._ensemble = Ensemble(
      ensemble,
      None,
      make_strategy(1, False),
      logits_fn=functools.partial(embeddings, end_point=chosen.end_point),
    )
    self._ensemble.load([formats.locate(member.checkpoint_path) for member in ensemble.members])

  @property
  def devices(self) -> str:
    """What the nets compute on."""
    return self._ensemble.devices

  def num_views(self, num_images: int) -> int:
    """How many views of so many images the nets look at, all together."""
    return self._ensemble.num_views(num_images)

  def embed(
    self, sources: Iterable[Source], report: Callable[[int], object] = lambda count: None
  ) -> Iterator[Result]:
    """Embeds images as they come; no more than a few batches of them are in memory.

    Args:
      sources: the images.
      report: see `Ensemble.predict`.

    Yields:
      A result for each source, in the order of these.

    Raises:
      ValueError: the outputs of a net are not finite numbers, or it has no such end point.
    """
    outputs = stream.through(
      sources,
      lambda records: self._ensemble.score(records, task_size=1, report=report),
      self._ensemble.num_passes,
      self._num_threads,
    )
    for image, scored in outputs:
      if scored is None:
        yield Result(image.name, image.error)
      else:
        yield Result(image.name, '', self._joined(scored.means))

  def _joined(self, means: list[np.ndarray]) -> np.ndarray:
    """The embedding of an image, of those of the nets."""
    if self._normalizes:
      factors = np.sqrt(self._ensemble.shares)  # so that scalar products are averages of cosines
      means = [
        factor * mean / max(np.linalg.norm(mean), np.finfo(np.float32).tiny)
        for factor, mean in zip(factors, means, strict=True)
      ]
    return np.concatenate(means).astype(np.float32)


def embeddings(
  model: Model, net: Net, images: tf.Tensor, end_point: str | None = None
) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
  """A `scorer.LogitsFn`: embeddings in place of logits.

  Args:
    model: a net without classifier.
    net: its entry in the registry.
    images: [N, H, W, C] as the net is given them.
    end_point: which; None: what the logits are made of.

  Returns:
    [N, width] float32, and nothing more.

  Raises:
    ValueError: there is no such end point; the message lists them.
  """
  output, end_points = model(images)
  if end_point is not None:
    if end_point not in end_points:
      raise ValueError(
        f'--end_point={end_point}: below its classifier {net.name} has {", ".join(end_points)}'
      )
    output = end_points[end_point]
  output = tf.cast(output, tf.float32)
  return tf.reduce_mean(output, (1, 2)) if output.shape.rank == 4 else output, {}
