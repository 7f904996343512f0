"""What flowers, CIFAR and MNIST have in common."""

import hashlib

import pytest
from slim_inception.datasets import cifar, dataset_factory, flowers, mnist

from tests.datasets import slim_records


@pytest.mark.parametrize(
  ('name', 'split', 'num_classes'),
  [
    ('cifar10', 'test', 10),
    ('cifar100', 'train', 100),
    ('flowers', 'validation', 5),
    ('mnist', 'train', 10),
  ],
)
def test_slims_own_records_open(tmp_path, name, split, num_classes):
  """slim's names; its records know neither file names nor the names of classes."""
  shard = 'flowers_validation_00000-of-00001.tfrecord'
  path = tmp_path / (shard if name == 'flowers' else f'{name}_{split}.tfrecord')
  slim_records.write(path, [slim_records.flowers_example(label) for label in (0, 4)])
  dataset = dataset_factory.get_dataset(name, split, tmp_path)
  assert (dataset.num_samples, dataset.num_classes) == (2, num_classes)
  (tmp_path / 'labels.txt').write_text(''.join(f'{i}:name {i}\n' for i in range(num_classes)))
  assert dataset_factory.get_dataset(name, split, tmp_path).labels_to_names[1] == 'name 1'


def test_what_is_published():
  archives = [flowers.ARCHIVE, cifar.CIFAR10.archive, cifar.CIFAR100.archive]
  archives += [part for parts in mnist.FILES.values() for part in parts]
  assert len({archive.name for archive in archives}) == len(archives) == 7
  for archive in archives:
    assert archive.url.startswith('http')
    assert len(bytes.fromhex(archive.sha256)) == hashlib.sha256().digest_size
  for name in ('cifar10', 'cifar100', 'flowers', 'mnist'):
    entry = dataset_factory.DATASETS[name]
    assert sum(entry.split_sizes.values()) == {'flowers': 3670, 'mnist': 70_000}.get(name, 60_000)
