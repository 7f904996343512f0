"""The records of a run, and how they become its batches."""

from slim_inception.cluster import Cluster
from slim_inception.datasets import dataset_factory, joined
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.input import data_service, record_order, sampling
from slim_inception.input.pipeline import InputOptions, Source
from slim_inception.input.training_batches import TrainingBatches
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import BALANCED, DataConfig
from slim_inception.train.plan import Plan, Stage


def open_dataset(data: DataConfig) -> Dataset:
  """The records of a run, counted; of synthetic images there are none."""
  if data.dataset_name == dataset_factory.SYNTHETIC:
    return dataset_factory.synthetic(data.dataset_split_name)
  if data.data_service:
    data_service.connect(data.data_service, data_service.CONNECT_SECS)
  name, split, folders = data.dataset_name, data.dataset_split_name, data.records_dirs
  opened = [dataset_factory.get_dataset(name, split, folder) for folder in folders]
  return joined.join([*map(record_order.counted, opened)], folders)


def make_batches(
  config: Config, plan: Plan, stage: Stage, source: Source, cluster: Cluster
) -> TrainingBatches:
  """The batches of this worker in a stage."""
  options = input_options(config, plan, stage, source, cluster)
  service = config.data.data_service
  return TrainingBatches(source, options, cluster, service, stage.global_batch_size)


def input_options(
  config: Config, plan: Plan, stage: Stage, source: Source, cluster: Cluster
) -> InputOptions:
  """How records become the batches of this worker in a stage."""
  return InputOptions(
    image_size=stage.image_size,
    batch_size=stage.per_replica_batch * stage.accumulate_steps,
    labels_offset=config.data.labels_offset,
    multi_label=config.loss.loss == 'sigmoid',
    seed=config.run.seed,
    shuffle_buffer=shuffle_window(config.data, source.dataset),
    num_readers=config.data.num_readers,
    num_threads=config.data.num_preprocessing_threads,
    worker=cluster.index,
    num_workers=cluster.count,
    replicas=plan.num_replicas // cluster.count,
    repeats=config.augment.repeated_augmentation,
    sampling=sampling_of(config.data),
  )


def sampling_of(data: DataConfig) -> sampling.Sampling:
  """What is drawn of the records."""
  return sampling.Sampling(data.sampling == BALANCED, data.mixture)


def shuffle_window(data: DataConfig, dataset: Dataset) -> int:
  """Records shuffled together: the same for all workers and whenever a run goes on."""
  return record_order.shuffle_window(dataset, data.shuffle_buffer, data.shuffle_buffer_mb * 10**6)
