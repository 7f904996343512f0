"""What a conversion wrote: its report, and its records as TensorFlow reads them."""

import json
from pathlib import Path
from typing import Any

import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, records


def report(out: Path) -> dict[str, Any]:
  return json.loads((out / conversion.REPORT_FILE).read_text())


def rows_of(out: Path, split: str, dataset_name: str) -> list[tuple[str, bytes, tuple[int, ...]]]:
  """Name, image and labels of each record, in the order of the shards."""
  paths = dataset_factory.get_dataset(dataset_name, split, out).paths
  parsed = tf.data.TFRecordDataset(list(paths)).map(
    lambda record: records.parse_example(record, multi_label=True)
  )
  return [
    (r['filename'].numpy().decode(), r['encoded'].numpy(), tuple(r['label'].numpy().tolist()))
    for r in parsed
  ]
