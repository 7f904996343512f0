"""ImageNet's sisters in the files of TensorFlow Datasets (`make_sets.py`) and Hugging Face."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import (
  conversion,
  dataset_factory,
  evaluation_sets,
  formats,
  imagenet,
  packed_sets,
  records,
  shard_job,
)

from tests.datasets.odd_images import commented, encode
from tests.datasets.test_webdataset import write_tar

PREPARED = Path(__file__).parents[1] / 'data' / 'sisters'
SYNSETS = list(imagenet.synsets())
WNIDS = 'n01498041', 'n01531178'  # 6 and 11 of 0 to 999; 0 and 1 of ImageNet-A's 200
LABELS = tuple(1 + SYNSETS.index(wnid) for wnid in WNIDS)


class Planned(NamedTuple):
  """What a source is taken for: the set, what is said, and labels and image of each file name."""

  name: str
  recognized: str
  notes: tuple[str, ...]
  labels: dict[str, tuple[int, ...]]
  images: dict[str, bytes]


def planned(source, work_dir, **options):
  plan = formats.make_plan(str(source), conversion.Options(**options), work_dir)
  ((split, items),) = plan.splits.items()
  assert (split, plan.label_offset, plan.labels) == ('validation', 1, imagenet.labels())
  assert plan.multi_label == evaluation_sets.SETS[plan.name].several
  labels = {item.filename: shard_job.labels_of(item) for item in items}
  images = {item.filename: item.source.read() for item in items}
  return Planned(plan.name, plan.recognized, plan.notes, labels, images)


def prepared(name):
  """{file name: labels} of a fixture, 0-based, by TensorFlow's own classes."""
  examples = [
    tf.train.Example.FromString(serialized.numpy()).features.feature
    for path in (PREPARED / name).glob('**/*.tfrecord-*')
    for serialized in tf.data.TFRecordDataset(str(path))
  ]
  key = 'real_label' if name == 'imagenet2012_real' else 'label'
  return {
    features['file_name'].bytes_list.value[0].decode(): tuple(features[key].int64_list.value)
    for features in examples
  }


# TensorFlow Datasets


@pytest.mark.parametrize(
  ('folder', 'name', 'identity'),
  [
    ('imagenet_a', 'imagenet_a', 'imagenet_a'),
    ('imagenet_r/0.2.0', 'imagenet_r', 'imagenet_r'),
    ('imagenet_sketch', 'imagenet_sketch', 'imagenet_sketch'),
    ('imagenet_v2/matched-frequency', 'imagenet_v2', 'imagenet_v2/matched-frequency'),
    ('imagenet2012_real', 'imagenet_real', 'imagenet2012_real'),
  ],
)
def test_prepared_sets(tmp_path, folder, name, identity):
  """Its labels are among ImageNet's 1,000 in all of them."""
  plan = planned(PREPARED / folder, tmp_path)
  assert plan.name == name
  assert plan.recognized.endswith(f'as {name}: {identity} of TensorFlow Datasets')
  assert len(plan.notes) == 1 and ' images, not ' in plan.notes[0]
  of_set = prepared(folder.partition('/')[0])
  assert len(of_set) >= 2
  assert {name.partition('/')[2].rpartition('/')[2]: own for name, own in plan.labels.items()} == {
    name.rpartition('/')[2]: tuple(1 + label for label in own) for name, own in of_set.items()
  }


def test_prepared_corruptions(tmp_path):
  """A folder of several configurations is one set, and one of them a part of it."""
  plan = planned(PREPARED / 'imagenet2012_corrupted', tmp_path)
  assert plan.name == 'imagenet_c'
  assert {evaluation_sets.corruption_of(name) for name in plan.labels} == {('fog', 1), ('snow', 5)}
  assert sorted(plan.labels.values()) == sorted((label,) for label in LABELS * 2)
  assert 'imagenet2012_corrupted/fog_1, imagenet2012_corrupted/snow_5' in plan.recognized
  plan = planned(PREPARED / 'imagenet2012_corrupted' / 'fog_1', tmp_path)
  assert {evaluation_sets.corruption_of(name) for name in plan.labels} == {('fog', 1)}


def test_prepared_sets_of_other_names_are_what_they_were(tmp_path):
  assert formats.recognize(str(PREPARED.parent / 'tfds' / 'pets'))[0].name == 'tfds'
  with pytest.raises(
    ValueError, match='sets: give one of imagenet2012_corrupted, .*, imagenet_v2$'
  ):
    planned(PREPARED, tmp_path)


# WebDataset


def webdataset(root, numbers, names=(), extension='jpg', key=str):
  """clip-benchmark's layout: test/0.tar of 0000000.jpg and .cls, and classnames.txt."""
  members = {}
  for i, number in enumerate(numbers):
    members[f's{key(i)}.cls'] = str(number).encode()
    members[f's{key(i)}.{extension}'] = commented(str(i))
  write_tar(root / 'test' / '0.tar', members)
  (root / 'test' / 'nshards.txt').write_text('1')
  if names:
    (root / 'classnames.txt').write_text('\n'.join(names))
  return root


def texts(labels):
  """Names as in CLIP's lists: the first synonym, many of them changed."""
  names = [imagenet.labels()[label].split(',')[0] for label in labels]
  return [name if i % 3 else f'{name} (thing)' for i, name in enumerate(names)]


@pytest.mark.parametrize('name', ['imagenet_a', 'imagenet_r', 'imagenet_o'])
@pytest.mark.parametrize('with_names', [True, False])
def test_numbers_among_200_classes(tmp_path, name, with_names):
  subset = evaluation_sets.subset(name)
  numbers = 0, 3, 7, 199
  names = texts(subset) if with_names else ()
  source = webdataset(tmp_path / f'wds_{name.replace("_", "-")}', numbers, names)
  plan = planned(source, tmp_path)
  assert plan.name == name
  assert sorted(plan.labels.values()) == [(subset[number],) for number in numbers]
  assert formats.recognize(f'{source}/test/0.tar')[0].name == name


@pytest.mark.parametrize(
  ('folder', 'name'),
  [('wds_imagenetv2', 'imagenet_v2'), ('wds_imagenet_sketch', 'imagenet_sketch')],
)
def test_numbers_among_1000_classes(tmp_path, folder, name):
  source = webdataset(tmp_path / folder, (0, 2, 10, 999), texts(range(1, 1001)))
  plan = planned(source, tmp_path)
  assert (plan.name, sorted(plan.labels.values())) == (name, [(1,), (3,), (11,), (1000,)])


@pytest.mark.parametrize('folder', ['wds_imagenetv2', 'wds_imagenet_sketch'])
def test_numbers_of_1000_classes_without_names(tmp_path, folder):
  """A 0 tells those from 0, a 1000 those from 1; --labels where neither is there."""
  for numbers, labels in (((0, 5, 999), (1, 6, 1000)), ((1, 5, 1000), (1, 5, 1000))):
    plan = planned(webdataset(tmp_path / folder, numbers), tmp_path)
    assert sorted(plan.labels.values()) == [(label,) for label in labels]
  source = webdataset(tmp_path / folder, (1, 999))
  with pytest.raises(
    ValueError, match='the labels 1 to 999 of .* may count from 0 or from 1 .* --la'
  ):
    planned(source, tmp_path)
  order = tmp_path / 'order.txt'
  for names, labels in ((SYNSETS, (2, 1000)), (('0', *SYNSETS), (1, 999))):
    order.write_text('\n'.join(names))
    plan = planned(source, tmp_path, labels=str(order))
    assert sorted(plan.labels.values()) == [(label,) for label in labels]
  source = webdataset(tmp_path / folder, (0, 1000))
  with pytest.raises(
    ValueError, match='the labels 0 to 1000 of .* are more than the 1,000 classes'
  ):
    planned(source, tmp_path)


@pytest.mark.parametrize(
  ('numbers', 'labels'),
  [
    ((6, 11, 999), None),  # 999 is no class of ImageNet-A
    ((6, 11), None),  # among the 200 as well as among the 1,000
    ((6, 327, 988), 'ImageNet'),
    ((5, 11), 'subset'),  # 5 of 0 to 999 is no class of ImageNet-A
  ],
)
def test_numbers_without_names_tell_only_sometimes(tmp_path, numbers, labels):
  subset = evaluation_sets.subset('imagenet_a')
  assert {7, 12, 328, 989} <= set(subset) and not {6, 1000} & set(subset)
  source = webdataset(tmp_path / 'imagenet-a', numbers)
  if labels is None:
    with pytest.raises(
      ValueError, match='may be among the 200 classes of ImageNet-A or among all'
    ) as error:
      planned(source, tmp_path)
    assert '--labels=FILE' in str(error.value) and '\n' not in str(error.value)
    order = tmp_path / 'order.txt'
    order.write_text('\n'.join(SYNSETS))
    of_set = planned(source, tmp_path, labels=str(order))
    assert sorted(of_set.labels.values()) == [(1 + number,) for number in numbers]
  else:
    of_set = planned(source, tmp_path)
    to_label = (lambda n: 1 + n) if labels == 'ImageNet' else subset.__getitem__
    assert sorted(of_set.labels.values()) == [(to_label(number),) for number in numbers]


def test_synsets_in_keys_tell(tmp_path):
  wnids = [SYNSETS[label - 1] for label in evaluation_sets.subset('imagenet_a')]
  source = webdataset(tmp_path / 'imagenet-a', (0, 1), key=lambda i: i)
  members = {}
  for i in (0, 1):
    members |= {f'{wnids[i]}_{i}.cls': str(i).encode(), f'{wnids[i]}_{i}.jpg': commented(str(i))}
  write_tar(source / 'test' / '0.tar', members)
  plan = planned(source, tmp_path)
  assert sorted(plan.labels.values()) == [(label,) for label in LABELS]


def test_names_in_another_order_are_refused(tmp_path):
  names = texts(evaluation_sets.subset('imagenet_r'))
  source = webdataset(tmp_path / 'wds_imagenet-r', (0, 1), [*names[7:], *names[:7]])
  with pytest.raises(ValueError, match='of 200 classes, .* are not known in ImageNet-R: --labels='):
    planned(source, tmp_path)


def test_objects(tmp_path):
  """113 objects in the order of their folders, with and without the red border."""
  objects = sorted(evaluation_sets.objects())
  names = [each.name.lower() for each in objects]
  pixels = np.random.default_rng(0).integers(0, 200, (20, 30, 3)).astype(np.uint8)
  framed = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
  framed[[0, 1, -2, -1]] = framed[:, [0, 1, -2, -1]] = (255, 0, 0)
  source = webdataset(tmp_path / 'wds_objectnet', [], names)
  pen, clock = names.index('pen'), names.index('alarm clock')
  members = {
    '0.cls': str(pen).encode(), '0.png': encode('PNG', pixels=framed),
    '1.cls': str(clock).encode(), '1.png': encode('PNG', pixels=pixels),
  }  # fmt: skip
  write_tar(source / 'test' / '0.tar', members)
  plan = planned(source, tmp_path)
  assert plan.name == 'objectnet'
  assert sorted(plan.labels.values()) == sorted(objects[number].labels for number in (pen, clock))
  for content in plan.images.values():
    np.testing.assert_array_equal(tf.io.decode_png(content), pixels)


def test_all_313_objects(tmp_path):
  """Of which 200 are no classes of ImageNet."""
  names = sorted(
    [*(each.name for each in evaluation_sets.objects()), *map('Thing {}'.format, range(200))]
  )
  numbers = [names.index('Pen'), names.index('Thing 7')]
  source = webdataset(tmp_path / 'objectnet', numbers, names)
  plan = planned(source, tmp_path)
  pen = next(each.labels for each in evaluation_sets.objects() if each.folder == 'pen')
  assert list(plan.labels.values()) == [pen]
  assert '1 images of no class of ImageNet are left out' in plan.notes


# Hugging Face


def parquet(path, columns, class_names=None):
  pyarrow = pytest.importorskip('pyarrow', reason='extra parquet')
  pq = pytest.importorskip('pyarrow.parquet', reason='extra parquet')
  images = [{'bytes': commented(str(i)), 'path': f'{i}.jpg'} for i in range(len(columns[0][1]))]
  table = pyarrow.table({'image': images, **dict(columns)})
  features = {'image': {'_type': 'Image'}}
  if class_names:
    features['label'] = {'_type': 'ClassLabel', 'names': list(class_names)}
  metadata = json.dumps({'info': {'features': features}}).encode()
  path.parent.mkdir(parents=True, exist_ok=True)
  pq.write_table(table.replace_schema_metadata({b'huggingface': metadata}), path)


def synsets_of(name):
  return [SYNSETS[label - 1] for label in evaluation_sets.subset(name)]


@pytest.mark.parametrize('root', ['imagenet-a', 'downloaded'])
def test_class_labels_of_200_synsets(tmp_path, root):
  """barkermrl/imagenet-a; its classes tell what it is, whatever its folder is called."""
  path = tmp_path / root / 'data' / 'train-00000-of-00001.parquet'
  parquet(path, [('label', [0, 1])], synsets_of('imagenet_a'))
  plan = planned(tmp_path / root, tmp_path)
  assert plan.name == 'imagenet_a'
  assert sorted(plan.labels.values()) == [(label,) for label in LABELS]


@pytest.mark.parametrize(
  'root', ['imagenet-r', f'datasets--axiong--imagenet-r/snapshots/{"0a" * 20}']
)
def test_a_column_of_synsets(tmp_path, root):
  """axiong/imagenet-r, and the same in the cache of the Hub."""
  path = tmp_path / root / 'test' / 'test-00000-of-00001.parquet'
  parquet(path, [('wnid', list(WNIDS)), ('class_name', ['stingray', 'goldfinch'])])
  plan = planned(tmp_path / root, tmp_path)
  assert plan.name == 'imagenet_r'
  assert sorted(plan.labels.values()) == [(label,) for label in LABELS]


def test_texts_of_1000_classes(tmp_path):
  """songweig/imagenet_sketch, which would pass for ImageNet's own images for training."""
  path = tmp_path / 'imagenet_sketch' / 'default' / 'train' / '0000.parquet'
  parquet(path, [('label', [6, 11])], imagenet.synsets().values())
  plan = planned(tmp_path / 'imagenet_sketch', tmp_path)
  assert plan.name == 'imagenet_sketch'
  assert sorted(plan.labels.values()) == [(label,) for label in LABELS]


def test_splits_are_one_set(tmp_path):
  """vaughankraska/imagenet_sketch has divided the images."""
  root = tmp_path / 'imagenet-sketch'
  for i, split in enumerate(('train', 'validation')):
    parquet(root / 'data' / f'{split}-00000-of-00001.parquet', [('wnid', [WNIDS[i]])])
  assert sorted(planned(root, tmp_path).labels.values()) == [(7,), (12,)]


@pytest.mark.parametrize(
  ('columns', 'options', 'message'),
  [
    ([('label', ['ray', 'finch'])], {}, 'no synsets of ImageNet: finch, ray; --label_column'),
    ([('label', [[6], [6, 11]])], {}, 'has several labels, images of ImageNet-R have one'),
    ([('label', [-1, -1])], {}, 'no images of ImageNet-R in .*2 images without a label are left'),
    ([('label', [6, 11])], {'validation_fraction': 0.1}, 'ImageNet-R is not for training: leave'),
  ],
)
def test_labels_that_are_of_no_use(tmp_path, columns, options, message):
  parquet(tmp_path / 'imagenet-r' / 'test.parquet', columns)
  with pytest.raises(ValueError, match=message):
    planned(tmp_path / 'imagenet-r', tmp_path, **options)


def test_what_has_only_the_name_of_a_set_is_none(tmp_path):
  parquet(tmp_path / 'sketch' / 'train.parquet', [('label', [0, 1])], ['cat', 'dog'])
  assert formats.recognize(str(tmp_path / 'sketch'))[0].name == 'huggingface'
  assert packed_sets.container([tmp_path / 'sketch']) is not None


# Records


@pytest.mark.parametrize('name', ['imagenet2012_real', 'wds_objectnet'])
def test_records_with_several_labels(tmp_path, name):
  """Also of an image that nobody knew a label of."""
  if name == 'wds_objectnet':
    objects = sorted(evaluation_sets.objects())
    source = webdataset(tmp_path / name, range(113), [each.name.lower() for each in objects])
    expected = sorted(each.labels for each in objects)
  else:
    source, expected = PREPARED / name, [(), (7, 12), (12,)]
  formats.convert(str(source), tmp_path / 'out')
  set_name = 'objectnet' if name == 'wds_objectnet' else 'imagenet_real'
  dataset = dataset_factory.get_dataset(set_name, 'validation', tmp_path / 'out')
  assert (dataset.num_classes, dataset.label_offset, dataset.multi_label) == (1001, 1, True)
  parsed = tf.data.TFRecordDataset(list(dataset.paths)).map(
    lambda record: records.parse_example(record, multi_label=True)['label']
  )
  assert sorted(tuple(label.numpy().tolist()) for label in parsed) == expected
