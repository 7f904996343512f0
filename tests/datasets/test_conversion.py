"""Real files on disk, converted and read back."""

import hashlib
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from datasets import conversion, dataset_factory, digits, image_folder, imagenet, pictures, records

RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, [3, 4, 3]), np.ones([8, 8, 1])).astype(np.uint8)  # 24 x 32


def encode(file_format, mode='RGB', pixels=PIXELS, **options):
  file = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(file, file_format, **options)
  return file.getvalue()


def lying():
  """A picture that EXIF says to turn by a quarter when shown."""
  exif = Image.Exif()
  exif[0x0112] = 6
  return encode('JPEG', quality=95, exif=exif)


def deep():
  file = io.BytesIO()
  Image.fromarray(np.full([4, 4], 900, np.uint16)).save(file, 'TIFF')
  return file.getvalue()


JPEG, PNG = encode('JPEG'), encode('PNG')
ODD = {  # file name -> content, and what becomes of it: JPEG, PNG, a change, or a reason to skip it
  'plain.jpg': (JPEG, 'JPEG'),
  'plain.png': (PNG, 'PNG'),
  'png under another name.jpg': (PNG, 'PNG'),
  'no_extension': (JPEG, 'JPEG'),
  'UPPER.JPEG': (JPEG, 'JPEG'),
  'progressive.jpg': (encode('JPEG', progressive=True), 'JPEG'),
  'grey.jpg': (encode('JPEG', 'L'), 'JPEG'),
  'palette.png': (encode('PNG', 'P'), 'PNG'),
  'transparent.png': (encode('PNG', 'RGBA'), 'PNG'),
  'cmyk.jpg': (encode('JPEG', 'CMYK'), 'CMYK to RGB'),
  'lying.jpg': (lying(), 'turned upright'),
  'a.gif': (encode('GIF'), 'GIF to JPEG'),
  'a.bmp': (encode('BMP'), 'BMP to JPEG'),
  'a.webp': (encode('WEBP'), 'WEBP to JPEG'),
  'deep.tiff': (deep(), 'TIFF of more than 8 bits'),
  'empty.jpg': (b'', 'empty file'),
  'text.jpg': (b'Not found', 'not a picture'),
  'cut.jpg': (JPEG[:-60], 'does not decode: .*truncated'),
  'cut.png': (PNG[: len(PNG) // 2], 'does not decode'),
}


def read_records(dataset_dir, split):
  dataset = dataset_factory.get_dataset('image_folder', split, dataset_dir)
  parsed = tf.data.TFRecordDataset(list(dataset.paths)).map(records.parse_example)
  return [{key: value.numpy() for key, value in record.items()} for record in parsed]


def tree(root, classes, count=10, content=JPEG):
  for name in classes:
    (root / name).mkdir(parents=True)
    for i in range(count):
      (root / name / f'{i}.jpg').write_bytes(content)
  return root


def digest(folder):
  return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


# Pictures


@pytest.mark.parametrize('name', ODD)
def test_odd_pictures(name):
  content, fate = ODD[name]
  if fate in ('JPEG', 'PNG'):
    picture = pictures.read_picture(content, upright=True)
    assert picture.encoded == content
    assert (picture.image_format, picture.change) == (fate, '')
  elif ' to ' in fate or 'turned' in fate:
    picture = pictures.read_picture(content, upright=True)
    assert (picture.image_format, picture.change) == ('JPEG', fate)
    assert picture.encoded[:2] == b'\xff\xd8'
  else:
    with pytest.raises(pictures.BadPictureError, match=fate):
      pictures.read_picture(content, upright=True)
    return
  decoded = tf.io.decode_image(picture.encoded).numpy()
  assert decoded.shape == (picture.height, picture.width, decoded.shape[2])
  if name != 'palette.png':
    assert decoded.shape[2] == picture.channels


def test_reencoded_pixels_are_those_that_pillow_shows():
  picture = pictures.read_picture(ODD['a.bmp'][0])
  shown = tf.io.decode_image(picture.encoded).numpy().astype(int)
  assert np.abs(shown - PIXELS).mean() < 1


def test_cmyk_becomes_what_tensorflow_sees():
  content = ODD['cmyk.jpg'][0]
  ours = tf.io.decode_image(pictures.read_picture(content).encoded).numpy().astype(int)
  assert np.abs(ours - tf.io.decode_jpeg(content, channels=3).numpy()).mean() < 6


def test_turned_upright_on_request_only():
  assert pictures.read_picture(lying()).encoded == lying()
  picture = pictures.read_picture(lying(), upright=True)
  assert (picture.height, picture.width) == (32, 24)
  shown = tf.io.decode_image(picture.encoded).numpy().astype(int)
  assert np.abs(shown - np.rot90(PIXELS, -1)).mean() < 20
  assert pictures.read_picture(picture.encoded, upright=True).change == ''


# Image folders


def test_odd_files_are_skipped_counted_and_listed(tmp_path):
  root = tree(tmp_path / 'meine Bilder', ['Äpfel', 'pears'], count=3)
  for name, (content, _) in ODD.items():
    (root / 'Äpfel' / name).write_bytes(content)
  (root / 'Äpfel' / '.DS_Store').write_bytes(b'x')
  (root / 'pears' / 'deeper').mkdir()
  (root / 'pears' / 'deeper' / 'nested.jpg').write_bytes(JPEG)
  (root / 'readme.txt').write_text('not in a class')
  out = tmp_path / 'out'
  result = image_folder.convert(str(root), out)

  skipped = {'deep.tiff', 'empty.jpg', 'text.jpg', 'cut.jpg', 'cut.png'}
  report = json.loads((out / 'conversion_report.json').read_text('utf-8'))
  assert {entry['file'] for entry in report['skipped']} == {f'Äpfel/{name}' for name in skipped}
  assert report['num_skipped'] == len(skipped) == len(result.skipped)
  assert {entry['file']: entry['change'] for entry in report['changed']} == {
    f'Äpfel/{name}': fate for name, (_, fate) in ODD.items() if ' to ' in fate or 'turned' in fate
  }
  read = read_records(out, 'train') + read_records(out, 'validation')
  expected = {f'Äpfel/{name}' for name in ODD.keys() - skipped} | {'pears/deeper/nested.jpg'}
  expected |= {f'{name}/{i}.jpg' for name in ('Äpfel', 'pears') for i in range(3)}
  assert {record['filename'].decode() for record in read} == expected
  assert result.info.labels == ('pears', 'Äpfel')
  for record in read:
    assert record['label'] == record['filename'].decode().startswith('Ä')


def test_same_source_and_seed_give_the_same_bytes(tmp_path):
  root = tree(tmp_path / 'root', 'abc')
  outs = [tmp_path / str(i) for i in range(3)]
  for out, seed in zip(outs, (5, 5, 6), strict=True):
    image_folder.convert(str(root), out, conversion.Options(seed=seed, train_shards=2))
  first, again, other = map(digest, outs)
  assert first == again
  assert sorted(first) == [
    'conversion_report.json',
    'dataset.json',
    'train-00000-of-00002',
    'train-00001-of-00002',
    'validation-00000-of-00001',
  ]
  assert first['train-00000-of-00002'] != other['train-00000-of-00002']
  info = records.read_info(outs[0])
  assert {
    shard.name: shard.sha256 for shard in info.splits['train'].shards
  }.items() <= first.items()


def test_a_share_of_every_class_is_held_out(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=20)
  tree(root, ['small'], count=2)
  tree(root, ['single'], count=1)
  info = image_folder.convert(
    str(root), tmp_path / 'out', conversion.Options(validation_fraction=0.25)
  ).info
  assert info.labels == ('a', 'b', 'single', 'small')
  assert info.splits['train'].label_counts == (15, 15, 1, 1)
  assert info.splits['validation'].label_counts == (5, 5, 0, 1)
  names = [
    {record['filename'] for record in read_records(tmp_path / 'out', split)}
    for split in ('train', 'validation')
  ]
  assert len(names[0] | names[1]) == 43
  assert not names[0] & names[1]


def test_records_are_shuffled(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=30)
  image_folder.convert(str(root), tmp_path / 'out', conversion.Options(train_shards=1))
  labels = [record['label'] for record in read_records(tmp_path / 'out', 'train')]
  assert 10 < np.count_nonzero(np.diff(labels)) < 45


def test_nothing_held_out(tmp_path):
  root = tree(tmp_path / 'root', 'ab', count=2)
  options = conversion.Options(validation_fraction=0)
  info = image_folder.convert(str(root), tmp_path / 'out', options).info
  assert list(info.splits) == ['train']


@pytest.mark.parametrize('folder', ['validation', 'val'])
def test_own_validation_pictures(tmp_path, folder):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab', count=3)
  tree(root / folder, 'ab', count=1)
  tree(root / 'test', 'xyz', count=1)  # not asked for
  info = image_folder.convert(str(root), root / 'records').info
  assert {name: split.num_images for name, split in info.splits.items()} == {
    'train': 6,
    'validation': 2,
  }
  with pytest.raises(ValueError, match=f'own {folder}/ folder: leave out --validation_fraction'):
    image_folder.make_plan(str(root), conversion.Options(validation_fraction=0.5))


def test_train_folder_without_validation(tmp_path):
  root = tmp_path / 'root'
  tree(root / 'train', 'ab')
  info = image_folder.convert(str(root), tmp_path / 'out').info
  assert info.labels == ('a', 'b')
  assert info.splits['validation'].num_images == 2


def test_a_class_may_be_called_train(tmp_path):
  root = tree(tmp_path / 'root', ['car', 'plane', 'train'], count=2)
  assert image_folder.convert(str(root), tmp_path / 'out').info.labels == ('car', 'plane', 'train')


def test_classes_must_agree(tmp_path):
  root = tmp_path / 'root'
  tree(root / 'train', ['ant', 'bee'], count=1)
  tree(root / 'val', ['bee', 'cow'], count=1)
  with pytest.raises(ValueError, match='only in train/: ant; only in val/: cow'):
    image_folder.convert(str(root), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_empty_class_is_noted(tmp_path):
  root = tree(tmp_path / 'root', 'ab')
  (root / 'c').mkdir()
  result = image_folder.convert(str(root), tmp_path / 'out')
  assert result.info.num_classes == 3
  assert result.notes == ("no pictures in class folder 'c'",)


@pytest.mark.parametrize(
  ('source', 'message'),
  [
    (None, '--source is needed: a folder of class folders'),
    ('nowhere', 'nowhere does not exist; expected a folder of class folders'),
    ('file', 'is no folder'),
    ('flat', 'no class folders in'),
    ('bare', "no pictures for 'train'"),
  ],
)
def test_sources_that_are_no_image_folder(tmp_path, source, message):
  (tmp_path / 'file').write_bytes(b'')
  (tmp_path / 'flat').mkdir()
  (tmp_path / 'flat' / 'a.jpg').write_bytes(JPEG)
  (tmp_path / 'bare' / 'class').mkdir(parents=True)
  with pytest.raises((ValueError, OSError), match=message):
    image_folder.convert(source and str(tmp_path / source), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_no_usable_picture_at_all(tmp_path):
  root = tree(tmp_path / 'root', 'a', content=b'no picture')
  with pytest.raises(ValueError, match=r"no usable picture for 'train'; see .*conversion_report"):
    image_folder.convert(str(root), tmp_path / 'out')
  assert not (tmp_path / 'out' / 'dataset.json').exists()


def test_a_shard_whose_pictures_are_all_skipped(tmp_path):
  root = tree(tmp_path / 'root', 'a', count=2)
  (root / 'a' / 'bad.jpg').write_bytes(b'')
  options = conversion.Options(validation_fraction=0, train_shards=3)
  image_folder.convert(str(root), tmp_path / 'out', options)
  assert len(read_records(tmp_path / 'out', 'train')) == 2


@pytest.mark.parametrize(
  'options',
  [{'train_shards': 0}, {'validation_shards': 100000}, {'validation_fraction': 1.0}],
)
def test_options_are_checked(options):
  with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
    conversion.Options(**options)


# What is there already


def test_nothing_is_overwritten_silently(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  image_folder.convert(str(root), out, conversion.Options(train_shards=3))
  before = digest(out)
  with pytest.raises(FileExistsError, match=r'already holds a data set \(dataset.json\)'):
    image_folder.convert(str(root), out)
  assert digest(out) == before
  (out / 'notes.txt').write_text('mine')
  image_folder.convert(str(root), out, conversion.Options(train_shards=2, overwrite=True))
  assert records.find_shards(out, 'train') == [
    str(out / f'train-0000{i}-of-00002') for i in range(2)
  ]
  assert (out / 'notes.txt').exists()


def test_records_made_elsewhere_are_not_overwritten(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  out.mkdir()
  (out / 'train-00000-of-01024').write_bytes(b'precious')
  with pytest.raises(FileExistsError, match='train-00000-of-01024'):
    image_folder.convert(str(root), out)
  assert (out / 'train-00000-of-01024').read_bytes() == b'precious'


def test_records_may_not_become_a_class(tmp_path):
  root = tree(tmp_path / 'root', 'ab')
  with pytest.raises(ValueError, match='lies within the source'):
    image_folder.convert(str(root), root / 'out')


def test_stopped_conversion_can_be_started_again(tmp_path, monkeypatch):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  write_shard = records.write_shard

  def full(path, examples):
    if '00001' in path.name:
      raise OSError(28, 'No space left on device', str(path))
    return write_shard(path, examples)

  monkeypatch.setattr(records, 'write_shard', full)
  with pytest.raises(OSError, match='No space left'):
    image_folder.convert(str(root), out)
  assert 'train-00000-of-00004' in digest(out)
  assert not (out / 'dataset.json').exists()
  monkeypatch.undo()
  image_folder.convert(str(root), out, conversion.Options(train_shards=2))
  assert sorted(digest(out)) == [
    'conversion_report.json',
    'dataset.json',
    'train-00000-of-00002',
    'train-00001-of-00002',
    'validation-00000-of-00001',
  ]


# ImageNet


def test_imagenet_labels_come_from_the_synset(tmp_path):
  """A missing and a surplus folder would shift the labels of all that follow, were they ranks."""
  root = tmp_path / 'ILSVRC2012'
  tree(root / 'train', ['n01440764', 'n01440765', 'n02105855', 'n15075141'], count=2)
  tree(root / 'val', ['n02105855'], count=1)
  result = imagenet.convert(str(root), tmp_path / 'out')
  info = result.info
  assert (info.name, info.num_classes, info.label_offset) == ('imagenet', 1001, 1)
  assert {i: n for i, n in enumerate(info.splits['train'].label_counts) if n} == {
    1: 2, 231: 2, 1000: 2,
  }  # fmt: skip
  assert any('997 of 1000 class folders missing' in note for note in result.notes)
  assert any('no class of ImageNet: n01440765' in note for note in result.notes)

  dataset = dataset_factory.get_dataset('imagenet', 'validation', tmp_path / 'out')
  assert dataset.labels_to_names[231].startswith('Shetland')
  (serialized,) = tf.data.TFRecordDataset(list(dataset.paths))
  feature = tf.train.Example.FromString(serialized.numpy()).features.feature
  assert feature['image/class/label'].int64_list.value == [231]
  assert feature['image/class/synset'].bytes_list.value == [b'n02105855']
  assert feature['image/filename'].bytes_list.value == [b'0.jpg']
  assert feature['image/encoded'].bytes_list.value == [JPEG]


def test_imagenet_keeps_bytes_whatever_exif_says(tmp_path):
  tree(tmp_path / 'root' / 'train', ['n01440764'], count=1, content=lying())
  result = imagenet.convert(str(tmp_path / 'root'), tmp_path / 'out')
  assert result.changed == []
  assert result.notes[-1].endswith("'validation' is not written")


@pytest.mark.parametrize(
  ('folder', 'message'),
  [('elsewhere', r'no train/, validation/ or val/'), ('train', r'no synset folder such as')],
)
def test_sources_that_are_no_imagenet(tmp_path, folder, message):
  tree(tmp_path / folder, ['tench'], count=1)
  with pytest.raises(ValueError, match=message):
    imagenet.convert(str(tmp_path), tmp_path / 'out')


# Digits


def test_digits_split_is_fixed_and_stratified():
  plan = digits.make_plan(None, conversion.Options())
  train, validation = plan.splits['train'], plan.splits['validation']
  assert (len(train), len(validation)) == (1437, 360)
  assert {item.filename for item in train}.isdisjoint(item.filename for item in validation)
  counts = np.bincount([item.label for item in validation])
  assert counts.min() >= 34 and counts.max() <= 38
  assert digits.make_plan(None, conversion.Options()) == plan
  other = digits.make_plan(None, conversion.Options(seed=1))
  assert other.splits['validation'] != validation


def test_digits_are_the_real_ones_enlarged():
  from sklearn.datasets import load_digits

  bundled = load_digits()
  for item in digits.make_plan(None, conversion.Options()).splits['validation'][:20]:
    index = int(item.filename[6:10])
    assert item.label == bundled.target[index]
    image = tf.io.decode_jpeg(item.source)
    assert image.shape == (96, 96, 3)
    small = tf.image.resize(image, [8, 8], 'area').numpy().mean(axis=-1)
    assert np.corrcoef(small.ravel(), bundled.images[index].ravel())[0, 1] > 0.97


def test_digits_refuse_what_has_no_meaning():
  with pytest.raises(ValueError, match='leave out --source'):
    digits.make_plan('somewhere', conversion.Options())
  with pytest.raises(ValueError, match='leave out --validation_fraction'):
    digits.make_plan(None, conversion.Options(validation_fraction=0.5))
