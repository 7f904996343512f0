"""WebDataset as timm, img2dataset, clip-benchmark and its own library have it."""

import json
import sys

import pytest
from slim_inception.datasets import conversion, formats, tars, webdataset

from tests.datasets.archives import tgz
from tests.datasets.odd_images import JPEG, PNG, commented, encode, read_records

WNIDS = ('n01440764', 'n01443537', 'n02018795')


def plan_of(source, tmp_path, **options):
  return formats.make_plan(str(source), conversion.Options(**options), tmp_path / 'work')


def items_of(plan):
  """Split -> name of each image -> label."""
  return {
    split: {item.filename: item.label for item in items} for split, items in plan.splits.items()
  }


def numbered(count, first=0, ends=('jpg', 'cls'), classes=3):
  """Samples 0000000.jpg, 0000000.cls with the labels 0, 1, 2, 0, ..."""
  content = {'png': PNG, 'webp': encode('WEBP')}
  for i in range(first, first + count):
    for end in ends:
      text = {'cls': f'{i % classes}', 'txt': 'abc'[i % classes], 'json': '{"label": 1}'}.get(end)
      yield f'{i:07d}.{end}', text.encode() if text else content.get(end, commented(str(i)))


def write_tar(path, members, compression=''):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(tgz(dict(members), compression))
  return path


def timm_shards(root, name, keys_of_shards, labels):
  """imagenet-1k-wds: .cls before .jpg before .json."""
  for number, keys in enumerate(keys_of_shards):
    members = {}
    for key in keys:
      facts = {'filename': f'{key}.JPEG', 'label': labels[key]}
      members |= {
        f'{key}.cls': str(labels[key]).encode(),
        f'{key}.jpg': commented(key),
        f'{key}.json': json.dumps(facts).encode(),
      }
    write_tar(root / f'{name}-{number:04d}.tar', members)


def test_shards_of_timm(tmp_path):
  root = tmp_path / 'mini-wds'
  keys = [f'{wnid}_{i}' for wnid in WNIDS for i in range(4)]
  labels = {key: WNIDS.index(key[:9]) for key in keys}
  timm_shards(root, 'mini-train', [keys[::2], keys[1::2]], labels)
  timm_shards(root, 'mini-validation', [keys[:3]], labels)
  filenames = [f'mini-train-{i:04d}.tar' for i in range(3)]
  splits = {
    'train': {'name': 'train', 'num_samples': 13, 'filenames': filenames, 'shard_lengths': [6, 6]},
    'validation': {'name': 'validation', 'num_samples': 3, 'filenames': ['mini-validation-0.tar']},
  }
  (root / '_info.json').write_text(json.dumps({'splits': splits}))
  plan = plan_of(root, tmp_path)
  assert plan.name == 'webdataset'
  first = 'the first (mini-train-0000.tar) of images with .cls and .json beside them'
  assert plan.recognized == f'{root} is recognized as webdataset: 3 tars, {first}'
  assert plan.labels == WNIDS
  sizes = {split: len(items) for split, items in items_of(plan).items()}
  assert sizes == {'train': 12, 'validation': 3}
  assert items_of(plan)['train']['mini-train-0000/n01443537_0.jpg'] == 1
  notes = '\n'.join(plan.notes)
  assert "1 of 3 tars of 'train' that _info.json lists are not there: mini-train-0002.tar" in notes
  assert 'train: 12 images, _info.json says 13' in notes
  assert list(items_of(plan_of(root / 'mini-val*.tar', tmp_path))) == ['validation']
  only = items_of(plan_of(f'{root}/mini-train-{{0000..0001}}.tar', tmp_path, split='train'))
  assert {split: len(items) for split, items in only.items()} == {'train': 12}


def test_records_have_the_images_and_labels(tmp_path):
  """Keys begin anew in each shard, as in those of clip-benchmark; classnames.txt has names."""
  root = tmp_path / 'wds_mini'
  write_tar(root / 'train' / '0.tar', numbered(6))
  write_tar(root / 'train' / '1.tar', numbered(6))
  write_tar(root / 'test' / '0.tar', numbered(3, ends=('cls', 'png')))
  (root / 'train' / 'nshards.txt').write_text('2')
  (root / 'classnames.txt').write_text('tench\ngoldfish\nshark\nray\n')
  options = conversion.Options(validation_fraction=0.5)
  info = formats.convert(str(root), tmp_path / 'out', options).info
  assert info.labels == ('tench', 'goldfish', 'shark', 'ray')
  assert {name: split.num_images for name, split in info.splits.items()} == {
    'train': 6, 'validation': 6, 'test': 3,
  }  # fmt: skip
  records = read_records(tmp_path / 'out', 'train') + read_records(tmp_path / 'out', 'validation')
  assert len({record['filename'] for record in records}) == 12
  for record in records:
    number = int(record['filename'].decode().split('/')[-1][:7])
    assert record['label'] == number % 3
    assert record['encoded'] == commented(str(number))
  tests = read_records(tmp_path / 'out', 'test')
  assert {record['filename'].decode() for record in tests} == {
    f'test/0/{i:07d}.png' for i in range(3)
  }


@pytest.mark.parametrize(
  ('ends', 'labels'),
  [
    (('jpg', 'txt'), ('a', 'b', 'c')),
    (('txt', 'webp'), ('a', 'b', 'c')),
    (('json', 'jpg', 'txt'), ('0', '1')),
    (('jpg', 'cls', 'json', 'txt'), ('0', '1', '2')),
    (('seg.png', 'jpeg', 'cls'), ('0', '1', '2')),
  ],
)
def test_where_labels_are(tmp_path, ends, labels):
  plan = plan_of(write_tar(tmp_path / 'a.tar', numbered(6, ends=ends)), tmp_path)
  assert plan.labels == labels
  assert sum(map(len, plan.splits.values())) == 6


def test_keys_of_json(tmp_path):
  facts = [
    {'caption': 'x', 'kind': kind, 'tags': [kind, 'animal']} for kind in ('cat', 'dog', 'cat')
  ]
  members = {}
  for i, fact in enumerate(facts):
    members |= {f'{i}.json': json.dumps(fact).encode(), f'{i}.jpg': commented(str(i))}
  path = write_tar(tmp_path / 'a.tar', members)
  plan = plan_of(path, tmp_path, label_column='kind', split='train')
  assert items_of(plan) == {'train': {'a/0.jpg': 0, 'a/1.jpg': 1, 'a/2.jpg': 0}}
  assert plan.labels == ('cat', 'dog') and not plan.multi_label
  plan = plan_of(path, tmp_path, split='train')
  assert plan.labels == ('animal', 'cat', 'dog') and plan.multi_label
  assert items_of(plan) == {'train': {'a/0.jpg': (0, 1), 'a/1.jpg': (0, 2), 'a/2.jpg': (0, 1)}}


def test_what_has_no_label_or_no_image(tmp_path):
  members = dict(numbered(4)) | {'5.jpg': JPEG, '6.cls': b'1', '7.jpg': JPEG, '7.cls': b'-1'}
  members |= {'__meta__': b'x', 'readme': b'x'}
  plan = plan_of(write_tar(tmp_path / 'a.tar', members), tmp_path)
  notes = '\n'.join(plan.notes)
  assert '2 images without a label are left out, such as a/5.jpg, a/7.jpg' in notes
  assert '1 samples have a label but no image' in notes
  assert sum(map(len, plan.splits.values())) == 4


@pytest.mark.parametrize(
  ('ends', 'message'),
  [
    (('part.jpg', 'part.cls'), 'alike up to the first dot .* has 0000000.part.cls, 0000000.part.j'),
    (('image.jpg', 'label.cls'), 'there is no image: what belongs together is called alike'),
    (('npy', 'cls'), '4 samples have a label but no image; there is no image: '),
  ],
)
def test_keys_with_dots_and_samples_without_images(tmp_path, ends, message):
  path = write_tar(tmp_path / 'a.tar', numbered(4, ends=ends))
  with pytest.raises(ValueError, match=f'no labelled images in .*{message}'):
    plan_of(path, tmp_path)


def test_json_without_a_usual_key(tmp_path):
  members = {}
  for i in range(4):
    members |= {f'{i}.jpg': commented(str(i)), f'{i}.json': b'{"width": 9, "species": "ab"}'}
  path = write_tar(tmp_path / 'a.tar', members)
  with pytest.raises(ValueError, match='--label_column names one of width, species; 4 images with'):
    plan_of(path, tmp_path)


def test_class_map(tmp_path):
  """As mlx-vision's imagenet-1k has it beside its shards."""
  write_tar(tmp_path / 'train-0.tar', numbered(6))
  (tmp_path / 'class_map.csv').write_text('index,name\n2,shark\n0,"tench, Tinca"\n1,goldfish\n')
  assert plan_of(tmp_path, tmp_path).labels == ('tench, Tinca', 'goldfish', 'shark')
  (tmp_path / 'class_map.csv').write_text('index,name\n0,tench\n1,goldfish\n')
  message = r'the list of classes of .* names 2 classes, 0 to 1, but .* has the label 2'
  with pytest.raises(ValueError, match=message):
    plan_of(tmp_path, tmp_path)
  (tmp_path / 'class_map.csv').write_text('a,b\nx,y\n')
  with pytest.raises(ValueError, match='class_map.csv has no column of numbers 0, 1, 2'):
    plan_of(tmp_path, tmp_path)


@pytest.mark.parametrize(
  ('members', 'message'),
  [
    ({'1.jpg': JPEG, '1.cls': b'cat'}, "a.tar: 1.cls is no number of a class: 'cat'"),
    ({'1.jpg': JPEG, '1.cls': b'\xff'}, 'a.tar: 1.cls is no UTF-8 text'),
    ({'1.jpg': JPEG, '1.json': b'{'}, 'a.tar: 1.json is no valid JSON'),
    ({'1.jpg': JPEG, '1.json': b'{"label": {}}'}, 'a.tar: 1.json has the label {}: expected'),
    ({'1.jpg': JPEG, '1.cls': b'99999999'}, 'a/1.jpg has the label 99999999, which is no'),
    (
      {'1.jpg': JPEG, '1.json': b'{"label": 1}', '2.jpg': JPEG, '2.json': b'{"label": "x"}'},
      "labels are of mixed types: 1 of a/1.jpg, 'x' of a/2.jpg",
    ),
    ({'1.jpg': JPEG, '1.json': b'{}'}, 'no labelled images in .*: 1 images without a label'),
  ],
)
def test_labels_that_are_none(tmp_path, members, message):
  path = write_tar(tmp_path / 'a.tar', members)
  with pytest.raises(ValueError, match=message):
    plan_of(path, tmp_path)


def test_captions_are_no_classes(tmp_path, monkeypatch):
  monkeypatch.setattr(webdataset, '_MOST_TEXTS', 4)
  members = {
    f'{i}.{end}': JPEG if end == 'jpg' else b'%d' % i for i in range(9) for end in ('jpg', 'txt')
  }
  with pytest.raises(ValueError, match='no classes: 5 different ones of 9 images; they seem to be'):
    plan_of(write_tar(tmp_path / 'a.tar', members), tmp_path)


def test_bad_tars_and_members_are_listed_and_the_others_used(tmp_path):
  root = tmp_path / 'wds'
  whole = tgz(dict(numbered(6)), '')
  write_tar(root / 'a-0.tar', numbered(6))
  (root / 'a-1.tar').write_bytes(whole[: 6 * 1024 + 700])
  (root / 'a-2.tar').write_bytes(b'<html>' * 200)
  members = {'../../x.jpg': JPEG, '../../x.cls': b'0', 'y.jpg': b'', 'y.cls': b'1'}
  write_tar(root / 'a-3.tar', members)
  result = formats.convert(str(root), tmp_path / 'out')
  reasons = {entry['file'].removeprefix(f'{root}/'): entry['reason'] for entry in result.skipped}
  assert reasons == {
    'a-1.tar': 'a tar that is cut short or damaged: it ends within a header, at byte 6,656',
    'a-2.tar': 'a tar that is cut short or damaged: no header at byte 0',
    'a-3/../../x.jpg': 'its path leads out of its archive',
    'a-3/y.jpg': 'empty file',
  }
  report = json.loads((tmp_path / 'out' / 'conversion_report.json').read_text())
  assert report['skipped'] == result.skipped and report['num_skipped'] == 4
  # Of the third sample of a-1, the last one that is there, a member may be missing.
  assert sum(split.num_images for split in result.info.splits.values()) == 8
  with pytest.raises(ValueError, match=r'a-1.tar: a tar that is cut short .*--on_bad_image=fail'):
    formats.convert(str(root), tmp_path / 'strict', conversion.Options(skip_bad=False))
  (root / 'a-0.tar').unlink()
  (root / 'a-1.tar').unlink()
  (root / 'a-3.tar').unlink()
  with pytest.raises(ValueError, match='no labelled images in .*a-2.tar: a tar that is cut short'):
    conversion.convert(
      dict((each.name, each) for each in formats.FORMATS)['webdataset'].plan,
      str(root),
      tmp_path / 'none',
    )


@pytest.mark.parametrize('compression', ['gz', 'bz2', 'xz'])
def test_compressed_shards_are_unpacked_once(tmp_path, compression):
  path = write_tar(tmp_path / 'a-train.tar.gz', numbered(6), compression)
  result = formats.convert(str(path), tmp_path / 'out')
  assert result.info.name == 'webdataset'
  assert sum(split.num_images for split in result.info.splits.values()) == 6
  assert not (tmp_path / 'out' / '.conversion').exists()
  work = tmp_path / 'work'
  unpacked, damage = tars.decompressed(path, work)
  written = unpacked.stat().st_mtime_ns
  assert (tars.decompressed(path, work), damage) == ((unpacked, None), None)
  assert unpacked.stat().st_mtime_ns == written
  path.write_bytes(path.read_bytes()[:-20])
  unpacked, damage = tars.decompressed(path, work)
  assert damage.startswith('compressed data are cut short or damaged: ')


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # it closes nothing
def test_what_the_library_writes_is_read_as_the_library_reads_it(tmp_path):
  library = pytest.importorskip('webdataset', reason='an independent writer')
  pattern = str(tmp_path / 'own-train-%06d.tar')
  with library.ShardWriter(pattern, maxcount=4, verbose=0) as writer:
    for i in range(10):
      writer.write({'__key__': f'sample{i:04d}', 'jpg': commented(str(i)), 'cls': i % 3})
  urls = str(tmp_path / 'own-train-{000000..000002}.tar')
  expected = {
    sample['jpg']: int(sample['cls']) for sample in library.WebDataset(urls, shardshuffle=False)
  }
  result = formats.convert(urls, tmp_path / 'out')
  read = read_records(tmp_path / 'out', 'train') + read_records(tmp_path / 'out', 'validation')
  assert {record['encoded']: record['label'] for record in read} == expected
  assert len(expected) == 10 and result.info.name == 'webdataset'
  assert 'webdataset' in sys.modules


@pytest.mark.parametrize(
  'content', [b'', b'garbage' * 1000, tgz({'0.jpg': JPEG}, '')[:600], tgz({}, '')]
)
def test_the_first_tar_may_be_damaged(tmp_path, content):
  write_tar(tmp_path / 'set' / 'train-1.tar', numbered(6))
  (tmp_path / 'set' / 'train-0.tar').write_bytes(content)
  plan = plan_of(tmp_path / 'set', tmp_path)
  assert plan.recognized.endswith('2 tars, one (train-1.tar) of images with .cls beside them')
  assert sum(map(len, plan.splits.values())) == 6


def test_tables_of_classes_as_people_have_them(tmp_path):
  path = tmp_path / 'class_map.csv'
  path.write_text('id,name\n0,"a\nb"\n1,c\n')
  assert webdataset.read_class_map(path) == {0: 'a\nb', 1: 'c'}
  path.write_text('0,a\n1\n')
  with pytest.raises(ValueError, match='class_map.csv has no column of numbers'):
    webdataset.read_class_map(path)


def test_text_that_is_no_utf8_or_empty(tmp_path):
  """JSON may hold half a pair of UTF-16; records are UTF-8."""
  labels = [r'"\ud83d"', '"b"', '""', 'null'] * 2
  members = {}
  for i, label in enumerate(labels):
    members |= {f'{i}.jpg': commented(str(i)), f'{i}.json': f'{{"label": {label}}}'.encode()}
  write_tar(tmp_path / 'set' / 'train.tar', members)
  result = formats.convert(str(tmp_path / 'set'), tmp_path / 'out')
  assert result.info.labels == ('b', '\ufffd')
  assert sum(split.num_images for split in result.info.splits.values()) == 4
