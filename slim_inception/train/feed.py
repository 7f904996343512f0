"""Where the batches of a run come from: records, a tf.data service that reads them, or noise."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from slim_inception.datasets import dataset_factory
from slim_inception.input import data_service, synthetic
from slim_inception.input import pipeline as input_pipeline
from slim_inception.nets import nets_factory
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing
from slim_inception.train.config import Config
from slim_inception.train.distribution import Team
from slim_inception.train.loop import Plan
from slim_inception.train.train_step import Batch


def preprocessing_of(config: Config) -> Preprocessing:
  """The preprocessing of a run: that of the flag, or of the net."""
  name: str = (
    config.augment.preprocessing_name or nets_factory.get_net(config.model.model_name).preprocessing
  )
  return preprocessing_factory.get(name, config.model.input_channels)


def make_feed(
  config: Config,
  plan: Plan,
  dataset: dataset_factory.Dataset,
  preprocessing: Preprocessing,
  distortion: Distortion,
  team: Team,
) -> Callable[[int], Iterator[Batch]]:
  """What gives this worker's batches from a position on; all workers call it together."""
  batches: dict[str, Any] = {
    'image_size': plan.image_size,
    'batch_size': config.batch.batch_size * config.batch.accumulate_steps,
    'labels_offset': config.data.labels_offset,
    'multi_label': config.loss.loss == 'sigmoid',
    'seed': config.run.seed,
    'replicas': plan.num_replicas // team.count,
  }
  reading = {
    'shuffle_buffer': config.data.shuffle_buffer,
    'num_readers': config.data.num_readers,
    'num_threads': config.data.num_preprocessing_threads,
  }
  part = {'worker': team.index, 'num_workers': team.count}

  def distribute(make: Callable[[], tf.data.Dataset]) -> Iterator[Batch]:
    return iter(team.strategy.distribute_datasets_from_function(lambda _: make()))

  def noise(position: int) -> Iterator[Batch]:
    return distribute(
      lambda: synthetic.train_batches(
        dataset, position=position, channels=config.model.input_channels, **batches, **part
      )
    )

  def from_records(position: int) -> Iterator[Batch]:
    return distribute(
      lambda: input_pipeline.train_batches(
        dataset, preprocessing, distortion, position=position, **batches, **reading, **part
      )
    )

  def from_service(position: int) -> Iterator[Batch]:
    # A name that no job has had: one that has begun goes on elsewhere.
    job_name = team.exchange_facts({'job': f'train-{uuid.uuid4()}'})[0]['job']
    found = distribute(
      lambda: data_service.train_batches(
        dataset,
        preprocessing,
        distortion,
        data_service=config.data.data_service,
        job_name=job_name,
        global_batch_size=plan.global_batch_size,
        position=position,
        **batches,
        **reading,
      )
    )
    return data_service.Watched(found, config.data.data_service)

  if config.data.dataset_name == dataset_factory.SYNTHETIC:
    return noise
  if config.data.data_service:
    return from_service
  return from_records
