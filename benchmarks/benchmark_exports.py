"""Measures size and accuracy of exported classifiers, for the table of docs/export.md.

  python benchmarks/benchmark_exports.py --dataset_name=digits --dataset_dir=demo/data FOLDER ...

Each FOLDER is an output of slim-inception export, all of one net; labels are those of the split.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from slim_inception.datasets import dataset_factory
from slim_inception.preprocessing import preprocessing_factory

from slim_inception import constants
from slim_inception.evaluate import examples
from slim_inception.export.classifier import Inputs
from slim_inception.export.export import FORMATS


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--dataset_name', required=True)
  parser.add_argument('--dataset_dir', required=True)
  parser.add_argument('--dataset_split_name', default='validation')
  parser.add_argument('folders', nargs='+', type=Path)
  flags = parser.parse_args()
  split = flags.dataset_split_name
  dataset = dataset_factory.get_dataset(flags.dataset_name, split, flags.dataset_dir)
  records = list(examples.read(dataset, range(dataset.num_samples)).as_numpy_iterator())
  truth = [dataset.labels_to_names[int(example['label'])] for example in records]
  files = [example['encoded'] for example in records]
  for folder in flags.folders:
    metadata = json.loads((folder / constants.EXPORT_FILE).read_text())
    size, comparison = metadata['image_size'], metadata['comparison']
    view = preprocessing_factory.get(metadata['preprocessing_name']).eval_image
    views = [view(file, size, size).numpy() for file in files]
    # The last one is, for a SavedModel, the signature that takes arrays.
    best = FORMATS[metadata['format']].read(folder)[-1](Inputs(files, np.stack(views))).best
    stored = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
    print(
      f'{metadata["format"]} {metadata["quantize"]}: {stored / 1e6:.1f} MB, '
      f'top-1 {np.mean([a == b for a, b in zip(best, truth, strict=True)]):.4f}, '
      f'difference {comparison["difference"]:.2g} on {comparison["images"]}'
    )


if __name__ == '__main__':
  main()
