"""Images that are there more than once: found wherever they lie, and stored once where asked."""

import csv
import json
import shutil

import pytest
from slim_inception.datasets import conversion, duplicates, formats, shards, sources
from slim_inception.datasets.records import decode_features

from tests.datasets.odd_images import commented, tree


def names_of(folder, split):
  """The files of a split, by the records."""
  return sorted(
    decode_features(record.data)['image/filename'][0].decode()
    for path in shards.find_shards(folder, split)
    for record in shards.read_shard(path)
  )


@pytest.fixture
def photos(tmp_path):
  """Training images 0 and 1 are validation's 0 too, 2 and 3 are equal, so are validation's 1, 2."""
  root = tmp_path / 'photos'
  tree(root / 'train', 'ab', count=6)
  tree(root / 'val', 'ab', count=4)
  for source, target in (
    ('val/a/0', 'train/a/0'),
    ('val/a/0', 'train/b/1'),
    ('train/a/2', 'train/a/3'),
    ('val/b/1', 'val/b/2'),
  ):
    shutil.copy(root / f'{source}.jpg', root / f'{target}.jpg')
  return root


def as_list(root):
  rows = [
    (str(path.relative_to(root)), path.parent.name, path.parent.parent.name)
    for path in sorted(root.rglob('*.jpg'))
  ]
  with open(root / 'images.csv', 'w', newline='') as file:
    csv.writer(file).writerows([('path', 'label', 'split'), *rows])
  return str(root / 'images.csv')


SOURCES = {
  'folder': str,
  'zip': lambda root: shutil.make_archive(str(root), 'zip', root),
  'tar': lambda root: shutil.make_archive(str(root), 'tar', root),
  'tar.gz': lambda root: shutil.make_archive(str(root), 'gztar', root),
  'list': as_list,
}


@pytest.mark.parametrize('kind', SOURCES)
def test_duplicates_are_dropped(tmp_path, photos, kind):
  source = SOURCES[kind](photos)
  whole = formats.convert(source, tmp_path / 'whole')
  options = conversion.Options(drop_duplicates=True)
  result = formats.convert(source, tmp_path / 'once', options)
  counts = [
    {name: split.num_images for name, split in each.info.splits.items()} for each in (whole, result)
  ]
  assert counts == [{'train': 12, 'validation': 8}, {'train': 9, 'validation': 7}]
  report = json.loads((tmp_path / 'once' / conversion.REPORT_FILE).read_text())
  stays = {entry['file'][-7:]: entry['copy_of'][-7:] for entry in report['dropped']}
  assert stays == {'a/0.jpg': 'a/0.jpg', 'b/1.jpg': 'a/0.jpg', 'a/3.jpg': 'a/2.jpg'} | {
    'b/2.jpg': 'b/1.jpg'
  }
  assert report['num_dropped'] == 4 and whole.dropped == []
  dropped = {entry['file'] for entry in report['dropped']}
  for split in ('train', 'validation'):
    kept = [name for name in names_of(tmp_path / 'whole', split) if name not in dropped]
    assert names_of(tmp_path / 'once', split) == kept
  whole_report = json.loads((tmp_path / 'whole' / conversion.REPORT_FILE).read_text())
  assert any('in more than one split' in note for note in whole_report['notes'])
  again = formats.convert(
    source, tmp_path / 'again', conversion.Options(drop_duplicates=True, split='train')
  )
  assert again.info.splits['train'].num_images == 10  # of this split alone


def test_equal_ends_are_not_enough(tmp_path):
  """Of equal size and end, but for a byte at the front."""
  paths = []
  for number, front in enumerate((b'a', b'b', b'a')):
    (tmp_path / f'{number}').write_bytes(front + bytes(3 << 20))
    paths.append(
      conversion.Item(str(number), 0, sources.Slice(str(tmp_path / f'{number}'), 0, 1 + (3 << 20)))
    )
  in_memory = conversion.Item('3', 0, sources.Content(b'b' + bytes(3 << 20)))
  missing = conversion.Item('4', 0, sources.Slice(str(tmp_path / 'nowhere'), 0, 1 + (3 << 20)))
  empty = [conversion.Item(name, 0, sources.Content(b'')) for name in '56']
  groups = duplicates.find([*paths, in_memory, missing, *empty])
  assert [[item.filename for item in group] for group in groups] == [['0', '2'], ['1', '3']]


def test_known_sets_are_looked_through_when_asked(tmp_path):
  """A plan of which nobody has looked for copies."""
  contents = [commented(str(number)) for number in (0, 1, 0, 2)]
  items = [conversion.Item(f'{i}.jpg', 0, sources.Content(c)) for i, c in enumerate(contents)]

  def plan(*_):
    return conversion.Plan('any', {'train': items}, ('a',), {'train': 1})

  for drop, count in ((False, 4), (True, 3)):
    options = conversion.Options(drop_duplicates=drop)
    info = conversion.convert(plan, None, tmp_path / str(drop), options).info
    assert info.splits['train'].num_images == count
