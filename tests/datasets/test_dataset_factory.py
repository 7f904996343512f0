import os

import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory, dataset_info, imagenet, records, shards
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.evaluate import examples
from slim_inception.input import pipeline as input_pipeline
from tests import records as make_records
from tests.datasets.slim_records import example, flowers_example, write


@pytest.fixture
def flowers(tmp_path):
  """Records as slim's flowers converter leaves them, three a shard."""
  for split, count in (('train', 5), ('validation', 2)):
    for i in range(count):
      name = f'flowers_{split}_{i:05d}-of-{count:05d}.tfrecord'
      write(tmp_path / name, [flowers_example(label) for label in (i % 5, 1, 2)])
  names = ('daisy', 'dandelion', 'roses', 'sunflowers', 'tulips')
  (tmp_path / 'labels.txt').write_text(''.join(f'{i}:{name}\n' for i, name in enumerate(names)))
  return tmp_path


@pytest.fixture
def birds(tmp_path):
  """Our own records: the third training shard has nothing in it."""
  written = {
    (split, i): shards.write_shard(
      tmp_path / shards.shard_name(split, i, count), [[flowers_example(1)]] * (2 - i)
    )
    for split, count in (('train', 3), ('validation', 1))
    for i in range(count)
  }
  splits = {
    'train': dataset_info.Split(3, 3, (0, 3, 0), tuple(written['train', i] for i in range(3))),
    'validation': dataset_info.Split(2, 1, (0, 2, 0), (written['validation', 0],)),
  }
  info = dataset_info.DatasetInfo('image_folder', splits, 3, ('a', 'b', 'c'))
  dataset_info.write_info(tmp_path, info)
  return tmp_path


def test_slims_flowers(flowers):
  dataset = dataset_factory.get_dataset('flowers', 'train', flowers)
  assert [os.path.basename(path) for path in dataset.paths] == [
    f'flowers_train_{i:05d}-of-00005.tfrecord' for i in range(5)
  ]
  assert dataset.num_samples == 15
  assert dataset.num_classes == 5
  assert dataset.labels_to_names[4] == 'tulips'
  assert dataset.label_range == (0, 4)
  assert dataset_factory.get_dataset('flowers', 'validation', flowers).num_samples == 6


def test_ones_own_records_in_slims_flowers_layout(flowers):
  """The usual way to train slim on one's own images; it had fixed counts and 5 classes."""
  (flowers / 'labels.txt').write_text('0:cat\n1:dog\n2:a:b\n')
  dataset = dataset_factory.get_dataset('image_folder', 'train', flowers)
  assert dataset.num_classes == 3
  assert dataset.labels_to_names == {0: 'cat', 1: 'dog', 2: 'a:b'}
  (flowers / 'labels.txt').write_text('0:cat\ndog\n')
  with pytest.raises(ValueError, match=r'labels.txt: line 2 is no index:name, as others are'):
    dataset_factory.get_dataset('flowers', 'train', flowers)
  (flowers / 'labels.txt').unlink()
  assert dataset_factory.get_dataset('flowers', 'train', flowers).num_classes == 5
  with pytest.raises(ValueError, match=r'neither dataset.json nor labels.txt'):
    dataset_factory.get_dataset('image_folder', 'train', flowers)


def test_slims_imagenet_facts(tmp_path):
  for i in range(2):
    write(tmp_path / f'train-{i:05d}-of-00002', [flowers_example(1 + 999 * i)] * 3)
  dataset = dataset_factory.get_dataset('imagenet', 'train', tmp_path)
  assert dataset.num_samples == 6  # what is there, though ImageNet has 1,281,167
  assert dataset.num_classes == 1001
  assert dataset.labels_to_names[0] == 'background'
  assert dataset.labels_to_names[1] == 'tench, Tinca tinca'
  assert dataset.label_range == (1, 1000)


def test_big_sets_of_the_known_size_are_not_walked_through(tmp_path, monkeypatch):
  for i in range(4):
    write(tmp_path / f'train-{i:05d}-of-00004', [flowers_example(1)] * (10 if i else 9))
  entry = dataset_factory.KnownDataset(num_classes=2, split_sizes={'train': 36})
  monkeypatch.setitem(dataset_factory.DATASETS, 'known', entry)

  def count(pattern=None):
    return dataset_factory.get_dataset('known', 'train', tmp_path, pattern).num_samples

  assert count() == 39
  monkeypatch.setattr(dataset_factory, '_COUNT_BYTES', 100)
  assert count() == 36  # believed: the first shard has a quarter of it
  assert count('train-0000[12]*') == 20  # too few for what is known


def test_facts_come_from_dataset_json(birds):
  dataset = dataset_factory.get_dataset('image_folder', 'train', birds)
  names = [os.path.basename(path) for path in dataset.paths]
  assert names == ['train-00000-of-00003', 'train-00001-of-00003']
  assert (dataset.num_samples, dataset.num_classes, dataset.label_range) == (3, 3, (1, 1))
  assert dataset.labels_to_names == {0: 'a', 1: 'b', 2: 'c'}
  part = dataset_factory.get_dataset('image_folder', 'train', birds, '%s-00001*')
  assert part.num_samples == 1


def test_damage_is_named_at_the_start(birds):
  path = birds / 'train-00001-of-00003'
  os.truncate(path, path.stat().st_size - 1)
  with pytest.raises(ValueError, match='train-00001-of-00003 has'):
    dataset_factory.get_dataset('image_folder', 'train', birds)


@pytest.mark.parametrize(
  ('name', 'split', 'message'),
  [
    ('bird', 'train', "unknown data set 'bird'; valid: cifar10, cifar100, digits, flowers, hugg"),
    ('digits', 'train', "holds 'image_folder' .*not 'digits'"),
    ('image_folder', 'test', "no split 'test' in .*it has: train, validation"),
  ],
)
def test_wrong_names_are_answered_with_the_valid_ones(birds, name, split, message):
  with pytest.raises(ValueError, match=message):
    dataset_factory.get_dataset(name, split, birds)
  with pytest.raises(FileNotFoundError, match='nowhere'):
    dataset_factory.get_dataset('digits', split, birds / 'nowhere')


@pytest.mark.parametrize('folder', ['', 'imagenet2012', 'imagenet2012/5.1.0'])
def test_imagenet_of_tensorflow_datasets(tmp_path, folder):
  """Its labels begin with 0 and it has no background; the folder may be any of the three."""
  prepared = tmp_path / 'imagenet2012' / '5.1.0'
  prepared.mkdir(parents=True)
  (prepared / 'dataset_info.json').write_text('{}')
  names = [b'n01440764_1.JPEG', b'n15075141_2.JPEG']
  for i, (name, label) in enumerate(zip(names, (0, 999), strict=True)):
    write(
      prepared / f'imagenet2012-train.tfrecord-{i:05d}-of-00002',
      [example(image=b'jpeg', label=label, file__name=name)],
    )
  dataset = dataset_factory.get_dataset('imagenet', 'train', tmp_path / folder)
  assert dataset.num_samples == 2
  assert (dataset.num_classes, dataset.label_range) == (1001, (1, 1000))
  read = [
    records.parse_example(serialized, dataset.schema)
    for serialized in tf.data.TFRecordDataset(list(dataset.paths))
  ]
  assert [record['label'].numpy() for record in read] == [1, 1000]
  assert [record['filename'].numpy() for record in read] == names
  assert read[0]['encoded'].numpy() == b'jpeg'
  assert read[0]['bbox'].shape == (0, 4)
  assert dataset.labels_to_names[1] == 'tench, Tinca tinca'


def test_imagenet_of_tensorflow_datasets_trains_as_it_is(tmp_path):
  for split in ('train', 'validation'):
    write(
      tmp_path / f'imagenet2012-{split}.tfrecord-00000-of-00001',
      [
        example(image=make_records.image(label, label), label=label, file__name=b'a.JPEG')
        for label in range(4)
      ],
    )
  inception = preprocessing_factory.get('inception')
  train = dataset_factory.get_dataset('imagenet', 'train', tmp_path)
  source = input_pipeline.Source(train, inception, Distortion())
  options = input_pipeline.InputOptions(32, 4, shuffle_buffer=1)
  for batch in input_pipeline.record_batches(source, options).take(1):
    assert sorted(batch['label'].numpy()) == [1, 2, 3, 4]
  validation = dataset_factory.get_dataset('imagenet', 'validation', tmp_path)
  evaluated = examples.read(validation, range(4)).as_numpy_iterator()
  assert [example['label'] for example in evaluated] == [1, 2, 3, 4]


def test_synset_list():
  synsets = list(imagenet.synsets())
  assert len(synsets) == 1000
  assert synsets == sorted(synsets)
  assert imagenet.labels()[231] == 'Shetland sheepdog, Shetland sheep dog, Shetland'
  assert (synsets[0], synsets[999]) == ('n01440764', 'n15075141')
