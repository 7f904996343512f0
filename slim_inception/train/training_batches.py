"""Where the batches of a run come from: records, a tf.data service that reads them, or noise."""

import dataclasses
import uuid
from collections.abc import Callable, Iterator

import tensorflow as tf

from slim_inception.cluster import Cluster
from slim_inception.datasets import dataset_factory
from slim_inception.input import data_service, synthetic
from slim_inception.input.pipeline import Batch, InputOptions, Source, record_batches


@dataclasses.dataclass(frozen=True)
class TrainingBatches:
  """This worker's batches, from any record on.

  Attributes:
    source: what is read.
    options: how.
    cluster: those who share the batches.
    service: HOST:PORT of the tf.data service that reads; None: this process does.
    global_batch_size: images of a step.
  """

  source: Source
  options: InputOptions
  cluster: Cluster
  service: str | None
  global_batch_size: int

  def start_at(self, record_index: int) -> Iterator[Batch]:
    """The batches from a record on; all workers call it together."""
    start = self.source, self.options, record_index
    if self.source.dataset.name == dataset_factory.SYNTHETIC:
      return self._distribute(lambda: synthetic.noise_batches(*start))
    if self.service is None:
      return self._distribute(lambda: record_batches(*start))
    name = self.cluster.all_gather_json({'job': f'train-{uuid.uuid4()}'})[0]['job']
    job = data_service.Job(self.service, name, self.global_batch_size)
    batches = self._distribute(lambda: data_service.service_batches(*start, job))
    return data_service.Watched(batches, self.service)

  def _distribute(self, make: Callable[[], tf.data.Dataset]) -> Iterator[Batch]:
    return iter(self.cluster.strategy.distribute_datasets_from_function(lambda _: make()))
