"""One start of a run of `experiments.elastic`: it trains, and writes down the records of each step.

  python -m experiments.elastic_worker FLAGS.json RECORDS.jsonl

A line of RECORDS.jsonl is there before its step is taken, so whoever kills this process knows how
far it was.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from slim_inception.cluster import make_cluster
from slim_inception.input import pipeline as input_pipeline
from slim_inception.input.pipeline import Batch
from slim_inception.input.training_batches import TrainingBatches
from slim_inception.train import config as train_config
from slim_inception.train import loop, run_input, trainer
from slim_inception.train.config import Config


@dataclasses.dataclass(frozen=True)
class Recorded(TrainingBatches):
  """Batches, and a line in a file for each.

  Attributes:
    path: of the file.
    step: that the first batch is for, from 0.
  """

  path: str = ''
  step: int = 0

  def start_at(self, record_index: int) -> Iterator[Batch]:
    """See `TrainingBatches`."""
    replicas = self.cluster.strategy.num_replicas_in_sync
    with open(self.path, 'a', encoding='utf-8') as file:
      for step, batch in enumerate(super().start_at(record_index), self.step):
        parts = self.cluster.strategy.experimental_local_results(batch['record_index'])
        indices = sorted(np.concatenate([part.numpy() for part in parts]).tolist())
        line = {'step': step + 1, 'replicas': replicas, 'record_indices': indices}
        file.write(json.dumps(line) + '\n')
        file.flush()
        yield batch


def train(config: Config, path: str) -> None:
  """Trains to the end, from where the run is.

  Args:
    config: the flags.
    path: of the file that gets a line for each step.

  Raises:
    ValueError, OSError: as `trainer.train`.
  """
  if config.run.deterministic:
    tf.random.set_seed(config.run.seed)
    tf.config.experimental.enable_op_determinism()
  cluster = make_cluster(config.devices.num_clones, config.devices.clone_on_cpu)
  dataset = run_input.open_dataset(config.data)
  num_classes = input_pipeline.check_labels(dataset, config.data.labels_offset)
  run = trainer.make_run(config, dataset, num_classes, cluster, None)
  if run is None:
    return
  own = run.at(run.plan.stages[0])  # the only one: all images have one size
  parts: dict[str, Any] = {
    field.name: getattr(own.batches, field.name) for field in dataclasses.fields(own.batches)
  }
  batches = Recorded(**parts, path=path, step=run.plan.start.step)
  recorded = dataclasses.replace(own, batches=batches)
  loop.train(dataclasses.replace(run, at=lambda stage: recorded))


def main(argv: list[str]) -> None:
  flags_path, path = argv
  with open(flags_path, encoding='utf-8') as file:
    train(train_config.resolve(json.load(file)), path)


if __name__ == '__main__':
  main(sys.argv[1:])
