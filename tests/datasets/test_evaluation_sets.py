"""ImageNet's sisters in their published layouts: what they are recognized as, and their labels."""

import io
import json
import pathlib
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.datasets import (
  conversion,
  dataset_factory,
  dataset_info,
  evaluation_sets,
  formats,
  imagenet,
  records,
)

from tests.datasets.odd_images import commented, encode, read_records

SYNSETS = list(imagenet.synsets())
TIMM = 'timm.data'


def write(root, *names):
  """Images of these names, no two of them equal."""
  for name in names:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(commented(name))
  return root


def archive(folder, name):
  """A tar of a folder, beside it."""
  path = folder.parent / name
  with tarfile.open(path, 'w:gz' if name.endswith('gz') else 'w') as tar:
    tar.add(folder, folder.name)
  return path


def convert(source, out, **options):
  result = formats.convert(str(source), out, conversion.Options(**options))
  of_split = {r['filename'].decode(): int(r['label']) for r in read_records(out, 'validation')}
  return result.info, of_split


# Numbers that are sorted otherwise as text.
V2 = tuple(f'{number}/{number:04x}.jpeg' for number in (0, 1, 2, 10, 100, 999))


@pytest.mark.parametrize(
  ('stem', 'name'),
  [
    ('imagenetv2-matched-frequency', 'imagenet_v2'),
    ('imagenetv2-threshold0.7', 'imagenet_v2_threshold'),
    ('imagenetv2-top-images', 'imagenet_v2_top_images'),
  ],
)
def test_folders_of_v2_are_indices_into_the_synsets(tmp_path, stem, name):
  """Who sorts them as text takes 2 for the class after 1, 10, 100 and 199."""
  root = write(tmp_path / f'{stem}-format-val', *V2)
  tar = archive(root, f'{stem}.tar.gz')
  info, of_folder = convert(root, tmp_path / 'folder')
  of_tar_info, of_tar = convert(tar, tmp_path / 'tar')
  assert info.name == of_tar_info.name == name
  assert info.num_classes == 1001
  assert list(info.splits) == ['validation']
  assert of_folder == of_tar
  assert set(of_folder.values()) == {1, 2, 3, 11, 101, 1000}
  for filename in V2:
    number = int(filename.split('/')[0])
    assert of_folder[filename] == 1 + number
    assert info.labels[1 + number] == imagenet.synsets()[SYNSETS[number]]
  report = json.loads((tmp_path / 'tar' / 'conversion_report.json').read_text())
  assert any('has 10,000 images, not 6' in note for note in report['notes'])
  assert report['recognized'].startswith(f'{tar} is recognized as {name}: the name {stem}')


@pytest.mark.parametrize(
  ('numbers', 'names', 'labels'),
  [
    ((0, 1, 998), None, (1, 2, 999)),
    ((1, 2, 1000), None, (1, 2, 1000)),
    ((1, 999), None, 'the folders 1 to 999 of .* may count from 0 or from 1 .*: --labels=FILE'),
    ((1, 999), tuple(imagenet.synsets()), (2, 1000)),
    ((1, 999), ('', *imagenet.synsets()), (1, 999)),
    ((0, 999, 1000), None, 'the folders 0 to 1000 of .* are more than the 1,000 classes: --lab'),
    ((1, 999), ('n01440764', 'n01443537'), 'order.json has no synset of ImageNet for 999'),
  ],
)
def test_folders_of_v2_that_others_have_numbered(tmp_path, numbers, names, labels):
  """Also those of a part of the classes."""
  root = write(tmp_path / 'imagenetv2-top-images', *(f'{number}/0.jpeg' for number in numbers))
  options = {}
  if names:
    options['labels'] = str(tmp_path / 'order.json')
    (tmp_path / 'order.json').write_text(json.dumps([name or 'background' for name in names]))
  if isinstance(labels, str):
    with pytest.raises(ValueError, match=labels):
      convert(root, tmp_path / 'out', **options)
    return
  _, of_folder = convert(root, tmp_path / 'out', **options)
  assert of_folder == {f'{n}/0.jpeg': label for n, label in zip(numbers, labels, strict=True)}
  report = (tmp_path / 'out' / 'conversion_report.json').read_text()
  assert ('taken as numbered from 1, since there is a 1000' in report) == (numbers[-1] == 1000)


@pytest.mark.parametrize(
  ('folder', 'name'),
  [
    ('imagenet-a', 'imagenet_a'),
    ('imagenet-r', 'imagenet_r'),
    ('imagenet-o', 'imagenet_o'),
    ('sketch', 'imagenet_sketch'),
    ('ImageNet-Sketch', 'imagenet_sketch'),
  ],
)
def test_folders_of_synsets(tmp_path, folder, name):
  wnids = SYNSETS[1], SYNSETS[999]
  root = write(tmp_path / folder, *(f'{wnid}/{i}.jpg' for wnid in wnids for i in range(2)))
  (root / 'README.txt').write_text('n01443537 goldfish')
  write(root, 'n99999999/0.jpg')
  info, of_folder = convert(root, tmp_path / 'folder')
  assert (info.name, info.label_offset) == (name, 1)
  assert of_folder == {
    f'{wnid}/{i}.jpg': label for wnid, label in zip(wnids, (2, 1000), strict=True) for i in range(2)
  }
  dataset = dataset_factory.get_dataset(name, 'validation', tmp_path / 'folder')
  assert dataset.num_classes == 1001
  report = json.loads((tmp_path / 'folder' / 'conversion_report.json').read_text())
  assert '1 images of folders that are no class of the set are left out: n99999999' in str(report)
  assert formats.recognize(str(archive(root, f'{folder}.tar')))[0].name == name


def test_a_folder_of_another_name_is_what_it_was(tmp_path):
  """Its name alone tells the sets of synsets apart."""
  root = write(tmp_path / 'birds', *(f'{wnid}/0.jpg' for wnid in SYNSETS[:2]))
  assert formats.recognize(str(root))[0].name == 'image_folder'
  drawings = write(tmp_path / 'sketch', 'cats/0.jpg', 'dogs/0.jpg')
  assert formats.recognize(str(drawings))[0].name == 'image_folder'


def test_corruptions_and_severities(tmp_path):
  names = [f'{kind}/{SYNSETS[3]}/ILSVRC2012_val_00000001.JPEG' for kind in ('fog/1', 'fog/5')]
  root = write(tmp_path / 'imagenet-c', *names)
  weather = archive(root, 'weather.tar')
  info, of_folder = convert(root, tmp_path / 'folder')
  (tmp_path / 'tars').mkdir()
  weather.rename(tmp_path / 'tars' / 'weather.tar')
  _, of_tars = convert(tmp_path / 'tars', tmp_path / 'out')
  assert info.name == 'imagenet_c'
  assert sorted(of_folder) == sorted(of_tars) == names
  assert [evaluation_sets.corruption_of(name) for name in names] == [('fog', 1), ('fog', 5)]
  assert set(of_tars.values()) == {4}
  notes = evaluation_sets.missing(evaluation_sets.SETS['imagenet_c'], names)
  assert notes[0] == 'ImageNet-C has 50,000 images of fog 1, not 1'
  assert notes[-1].startswith('ImageNet-C without gaussian_noise 1, gaussian_noise 2, ')


def objectnet(root):
  """Its layout; images with a red border of two pixels."""
  pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
  framed = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
  framed[[0, 1, -2, -1]] = framed[:, [0, 1, -2, -1]] = (255, 0, 0)
  for folder in ('pen', 'alarm_clock', 'sofa'):
    (root / 'images' / folder).mkdir(parents=True)
    (root / 'images' / folder / f'{folder}.png').write_bytes(encode('PNG', pixels=framed))
  return pixels


def test_objectnet(tmp_path):
  root = tmp_path / 'objectnet-1.0'
  pixels = objectnet(root)
  result = formats.convert(str(root), tmp_path / 'out')
  assert result.info.name == 'objectnet'
  assert result.info.multi_label
  content = {}
  for path in sorted((tmp_path / 'out').glob('validation-*')):
    for record in tf.data.TFRecordDataset(str(path)):
      parsed = records.parse_example(record, multi_label=True)
      name = parsed['filename'].numpy().decode()
      content[name] = parsed['label'].numpy().tolist(), parsed['encoded'].numpy()
  classes = list(imagenet.synsets().values())
  of_pen = ['ballpoint, ballpoint pen, ballpen, Biro', 'fountain pen', 'quill, quill pen']
  assert sorted(content) == ['alarm_clock/alarm_clock.png', 'pen/pen.png']  # a sofa is no class
  labels, encoded = content['pen/pen.png']
  assert labels == sorted(1 + classes.index(text) for text in of_pen)
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(encoded))), pixels)
  inside = formats.recognize(str(root))[1]
  assert inside.startswith('the name objectnet-1.0 and the image ')


def test_errors(tmp_path):
  empty = write(tmp_path / 'imagenet-a', 'cats/0.jpg')
  convert_a = dataset_factory.DATASETS['imagenet_a'].convert
  with pytest.raises(ValueError, match='no images of ImageNet-A in .*; 1 images of folders that'):
    convert_a(str(empty), tmp_path / 'out')
  with pytest.raises(ValueError, match='ImageNet-A is not for training: leave out --validation_fr'):
    convert_a(str(empty), tmp_path / 'out', conversion.Options(validation_fraction=0.1))
  assert dataset_info.read_info(tmp_path / 'out') is None


@pytest.mark.parametrize('name', ['imagenet_a', 'imagenet_r'])
def test_lists_are_those_of_timm(name):
  folder = pytest.importorskip(TIMM).__file__
  lines = (pathlib.Path(folder).parent / '_info' / f'{name}_indices.txt').read_text().split()
  assert [label - 1 for label in evaluation_sets.subset(name)] == list(map(int, lines))


def test_numbers_of_classes():
  """ObjectNet has 113 objects that are classes of ImageNet, as its authors say."""
  assert len({each.folder for each in evaluation_sets.objects()}) == 113
  for name in evaluation_sets.SUBSETS:
    labels = evaluation_sets.subset(name)
    assert len(set(labels)) == (125 if name == 'objectnet' else 200)
    assert list(labels) == sorted(labels)
    assert 1 <= labels[0] < labels[-1] <= 1000
