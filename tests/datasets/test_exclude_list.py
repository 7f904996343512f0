"""Lists and tables of images that are left out."""

import json
import re

import numpy as np
import pytest
from slim_inception.datasets import (
  conversion,
  dataset_info,
  exclude_list,
  image_folder,
  imagenet,
  record_filter,
  record_listing,
  shards,
  verification,
)

from tests import records, zygote

VALIDATION = [f'ILSVRC2012_val_{number:08d}.JPEG' for number in range(1, 50_001)]


def test_the_list_of_2014_leaves_48238_validation_images():
  excluded = exclude_list.read('imagenet_2014')
  mask = np.array([excluded.is_excluded(name, 'validation') for name in VALIDATION])
  assert np.count_nonzero(~mask) == 48_238
  assert (np.flatnonzero(mask)[[0, 1, -1]] + 1).tolist() == [36, 50, 49_981]
  assert excluded.check_used(VALIDATION, 'validation') == ''
  # Known of the list: n04005630 loses 36 of its 50 images.
  of_class = np.array(imagenet.validation_synsets()) == 'n04005630'
  assert np.count_nonzero(mask & of_class) == 36


@pytest.mark.parametrize(
  ('entry', 'filename', 'same'),
  [
    ('ILSVRC2012_val_00000036', 'ILSVRC2012_val_00000036.JPEG', True),
    ('ILSVRC2012_val_00000036_n01440764.JPEG', 'ILSVRC2012_val_00000036.JPEG', True),
    ('val/n01440764/ILSVRC2012_val_00000036.JPEG', 'ILSVRC2012_val_00000036.JPEG', True),
    ('n01440764_10026.JPEG', 'n01440764_10026_n01440764.JPEG', True),
    ('n01440764_10026', 'n01440764_1002', False),
    ('1.jpg', 'cats/1.jpg', True),
    ('cats/1', 'cats/1.PNG', True),
    ('cats\\1.jpg', './cats/1.jpg', True),
    ('/photos/cats/1.jpg', 'cats/1.jpg', True),
    ('dogs/1.jpg', 'cats/1.jpg', False),
    ('visit_n01440764.jpg', 'visit.jpg', False),
    ('photo.1', 'photo.2', False),
    ('1.jpg', '', False),
  ],
)
def test_names_are_compared_as_people_write_them(tmp_path, entry, filename, same):
  path = tmp_path / 'list.txt'
  path.write_text(f'\ufeff{entry}\r\n\r\n', 'utf-8')
  excluded = exclude_list.read(str(path))
  assert [excluded.is_excluded(name, 'validation') for name in (filename, 'other.jpg')] == [
    same,
    False,
  ]


def test_entries_without_a_image_are_said(tmp_path):
  path = tmp_path / 'list.txt'
  path.write_text('a.jpg\ngone/1\ngone/2\na.jpg\n')
  excluded = exclude_list.read(str(path))
  note = excluded.check_used(['a.jpg', 'b.jpg'], 'validation')
  assert note.endswith('2 of 3 entries name no image: gone/1, gone/2')
  with pytest.raises(ValueError, match=r'names none of the 1 images: it has .* have b\.jpg$'):
    excluded.check_used(['b.jpg'], 'validation')
  with pytest.raises(ValueError, match=r'the records have no names \(image/filename\)$'):
    excluded.check_used(['', ''], 'validation')


@pytest.mark.parametrize(
  ('content', 'error', 'message'),
  [
    (None, FileNotFoundError, 'no such file; expected imagenet_2014, a text file'),
    (b' \n\n', ValueError, 'is empty; expected imagenet_2014'),
    (b'\xff\xd8\xff\xe0', ValueError, 'is no UTF-8 text; expected'),
  ],
)
def test_no_list_is_an_error(tmp_path, content, error, message):
  path = tmp_path / 'list.txt'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(error, match=re.escape(f'--exclude_list={path}') + '.*' + message):
    exclude_list.read(str(path))


TABLE = """filename,split,problem,exclude
1.jpg,train,leak,yes
1.jpg,train,blur,no
1.jpg,validation,leak,no
'=2.jpg,validation,wrong_label,YES
"a, b.jpg",,cut,yes
3.jpg,train,cut,
"""


def test_a_table_names_images_of_its_splits_exactly(tmp_path):
  path = tmp_path / 'problems.csv'
  path.write_text(TABLE, 'utf-8')
  table = exclude_list.read(str(path))
  images = ['1.jpg', 'cats/1.jpg', '=2.jpg', "'=2.jpg", 'a, b.jpg', '3.jpg', '']
  for split, expected in {
    'train': ['1.jpg', 'a, b.jpg'],
    'validation': ['=2.jpg', 'a, b.jpg'],
    '': ['1.jpg', '=2.jpg', 'a, b.jpg'],
  }.items():
    assert [name for name in images if table.is_excluded(name, split)] == expected
  assert table.check_used(['1.jpg', 'a, b.jpg'], 'train') == ''
  assert '1 of 2 entries name no image: a, b.jpg' in table.check_used(['1.jpg'], 'train')
  with pytest.raises(ValueError, match='names none of the 1 images: it has 1.jpg, a, b.jpg'):
    table.check_used(['9.jpg'], 'train')
  path.write_text('filename,exclude\n1.jpg,no\n')
  assert (
    exclude_list.read(str(path))
    .check_used(['1.jpg'], 'test')
    .endswith('leaves out no image of test')
  )
  path.write_text('filename;split;exclude\r\n"1;2.jpg";train;yes\r\n', 'utf-8-sig')
  assert exclude_list.read(str(path)).is_excluded('1;2.jpg', 'train')
  path.write_text('filename,exclude\n1.jpg,perhaps\n')
  with pytest.raises(ValueError, match="line 2: exclude is 'perhaps'; expected yes or no"):
    exclude_list.read(str(path))


def test_conversion_leaves_them_out(tmp_path):
  for number in range(12):
    folder = tmp_path / 'photos' / ('train' if number < 8 else 'val') / 'ab'[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{number}.jpg').write_bytes(records.image(number % 2, number))
  path = tmp_path / 'problems.csv'
  options = conversion.Options(exclude_list=str(path))

  def convert(name):
    return image_folder.convert(str(tmp_path / 'photos'), tmp_path / name, options)

  rows = [f'{name},train,yes' for name in ('train/a/2.jpg', 'val/a/8.jpg')]
  path.write_text('\n'.join(['filename,split,exclude', *rows, 'train/b/3.jpg,train,no']))
  result = convert('records')
  # The second is in validation, but there is no other of this name.
  assert sorted(result.excluded) == ['train/a/2.jpg', 'val/a/8.jpg']
  sizes = {name: split.num_images for name, split in result.info.splits.items()}
  assert sizes == {'train': 7, 'validation': 3}
  report = json.loads((tmp_path / 'records' / conversion.REPORT_FILE).read_text())
  assert (report['num_excluded'], sorted(report['excluded'])) == (
    2,
    ['train/a/2.jpg', 'val/a/8.jpg'],
  )
  path.write_text('\n'.join(f'{n}.jpg' for n in range(8, 12)))
  with pytest.raises(ValueError, match="leaves no image for 'validation'"):
    convert('others')


def test_a_copy_of_records_that_was_stopped_is_gone_on_with(tmp_path, monkeypatch, caplog):
  for number in range(20):
    folder = tmp_path / 'photos' / 'ab'[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{number}.jpg').write_bytes(records.image(number % 2, number))
  options = conversion.Options(train_shards=4)
  image_folder.convert(str(tmp_path / 'photos'), tmp_path / 'records', options)
  path = tmp_path / 'names.txt'
  path.write_text('a/2.jpg\nb/3.jpg\n')
  record_filter.leave_out(tmp_path / 'records', tmp_path / 'whole', str(path))
  write_shard, written = shards.write_shard, []

  def write_two(target, examples):
    if len(written) == 2:
      raise KeyboardInterrupt
    written.append(target.name)
    return write_shard(target, examples)

  with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
    context.setattr(shards, 'write_shard', write_two)
    record_filter.leave_out(tmp_path / 'records', tmp_path / 'copy', str(path))
  assert dataset_info.read_info(tmp_path / 'copy') is None
  inodes = {name: (tmp_path / 'copy' / name).stat().st_ino for name in written}
  path.write_text('a/2.jpg\n')
  with pytest.raises(FileExistsError, match='holds an unfinished conversion of another source'):
    record_filter.leave_out(tmp_path / 'records', tmp_path / 'copy', str(path))
  path.write_text('b/3.jpg\na/2.jpg\n')
  with caplog.at_level('INFO', 'absl'):
    record_filter.leave_out(tmp_path / 'records', tmp_path / 'copy', str(path))
  assert 'Going on: 2 of 5 shards are finished' in caplog.text
  assert {name: (tmp_path / 'copy' / name).stat().st_ino for name in written} == inodes
  whole, copy = (
    {p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ('whole', 'copy')
  )
  assert copy == whole


def test_records_are_copied_but_for_the_excluded(tmp_path):
  for number in range(20):
    folder = tmp_path / 'photos' / ('train' if number < 14 else 'val') / 'ab'[number % 2]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{number}.jpg').write_bytes(records.image(number % 2, number))
  options = conversion.Options(train_shards=3)
  before = image_folder.convert(str(tmp_path / 'photos'), tmp_path / 'records', options).info
  path = tmp_path / 'problems.csv'
  rows = ['train/a/2.jpg,train,yes', 'train/b/3.jpg,train,yes', 'val/a/14.jpg,train,yes']
  path.write_text('\n'.join(['filename,split,exclude', *rows, 'val/b/15.jpg,validation,yes']))
  arguments = [f'--source={tmp_path}/records', f'--exclude_list={path}']
  done = zygote.run('data', *arguments, f'--dataset_dir={tmp_path}/copy')
  assert done.returncode == 0, done.stderr
  assert '3 left out by --exclude_list' in done.stdout
  after = dataset_info.read_info(tmp_path / 'copy')
  assert after.splits['train'].label_counts == (6, 6)
  assert after.splits['validation'].label_counts == (3, 2)
  assert verification.verify(tmp_path / 'copy', 1).problems == ()
  for split in before.splits.values():
    for shard in split.shards:
      names, others = (
        [r.filename for r in record_listing.of_shard(tmp_path / folder / shard.name)]
        for folder in ('records', 'copy')
      )
      gone = {'train/a/2.jpg', 'train/b/3.jpg', 'val/b/15.jpg'}
      assert others == [name for name in names if name not in gone]
      data, copied = (
        [r.data for r in shards.read_shard(tmp_path / folder / shard.name)]
        for folder in ('records', 'copy')
      )
      assert copied == [d for d, name in zip(data, names, strict=True) if name not in gone]
  for more, message in {
    f'--dataset_dir={tmp_path}/copy': 'already holds a data set (dataset.json)',
    f'--dataset_dir={tmp_path}/records': 'is the source itself',
  }.items():
    done = zygote.run('data', *arguments, more)
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1]
  done = zygote.run('data', *arguments, f'--dataset_dir={tmp_path}/x', '--store_size=20')
  assert done.returncode == 2 and 'leave out --store_size' in done.stderr
  with open(tmp_path / 'records' / before.splits['train'].shards[0].name, 'r+b') as file:
    file.seek(200)
    file.write(b'damage')
  with pytest.raises(ValueError, match='does not match its checksum'):
    record_filter.leave_out(tmp_path / 'records', tmp_path / 'other', str(path))
  assert dataset_info.read_info(tmp_path / 'other') is None
