"""Records of sources that are trained on as they are: made once, made anew where these change."""

import errno
import os
import pathlib
import shutil
import threading

import pytest
from slim_inception.datasets import conversion, dataset_info, formats, image_folder, source_records

from tests.datasets.odd_images import digest, tree


def count_conversions(monkeypatch):
  """The folders that conversions were begun in."""
  folders, convert = [], formats.convert

  def counted(source, folder, options):
    result = convert(source, folder, options)
    folders.append(str(folder))
    return result

  monkeypatch.setattr(formats, 'convert', counted)
  return folders


def test_records_are_made_once(tmp_path, monkeypatch, caplog):
  root = tree(tmp_path / 'photos', 'ab')
  made = count_conversions(monkeypatch)
  with caplog.at_level('INFO', 'absl'):
    values = source_records.find_or_make('imagenet', str(root))
  folder = values['dataset_dir']
  assert values['dataset_name'] == 'image_folder' and made == [folder]
  assert os.path.dirname(folder) == str(tmp_path / source_records.CACHE_FOLDER)
  said = f'{root} is no folder of records: they are made in {folder}'
  assert caplog.messages[0] == said
  assert caplog.messages[-1] == f'The records of {root} are in {folder}'
  image_folder.convert(str(root), tmp_path / 'by hand')
  by_hand, files = digest(tmp_path / 'by hand'), digest(pathlib.Path(folder))
  del by_hand[conversion.REPORT_FILE], files[conversion.REPORT_FILE]  # which says what it is
  assert files == by_hand
  assert source_records.find_or_make('imagenet', str(root)) == values and len(made) == 1
  assert source_records.find_or_make('image_folder', folder) == {}  # records are what they are


def test_of_several_sources_each_has_records(tmp_path, monkeypatch):
  first, second = (tree(tmp_path / name, 'ab') for name in ('first', 'second'))
  made = count_conversions(monkeypatch)
  values = source_records.find_or_make('imagenet', f'{first},{second}')
  assert values == {'dataset_name': 'image_folder', 'dataset_dir': ','.join(made)}
  assert len(made) == 2
  again = source_records.find_or_make('imagenet', f'{first},{made[1]}')  # records among them
  assert again == values and len(made) == 2
  assert source_records.find_or_make('image_folder', ','.join(made)) == {}


@pytest.mark.parametrize('change', ['a file more', 'a file less', 'other bytes', 'moved'])
def test_a_source_that_has_changed(tmp_path, monkeypatch, change):
  root = tree(tmp_path / 'photos', 'ab')
  before = source_records.make(root)
  files = digest(pathlib.Path(before))
  first, *_ = sorted((root / 'a').iterdir())
  if change == 'a file more':
    shutil.copy2(first, root / 'b' / 'another.jpg')
  elif change == 'a file less':
    first.unlink()
  elif change == 'moved':
    first.rename(root / 'b' / 'moved.jpg')
  else:
    status = first.stat()
    first.write_bytes(first.read_bytes())
    os.utime(first, ns=(status.st_atime_ns, root.stat().st_mtime_ns + 10**9))
  after = source_records.make(root)
  assert after != before and digest(pathlib.Path(before)) == files  # what a run reads stays
  assert source_records.make(root) == after
  info = dataset_info.read_info(after)
  assert sum(split.num_images for split in info.splits.values()) == {
    'a file more': 21,
    'a file less': 19,
  }.get(change, 20)


def test_two_at_once_make_one(tmp_path, monkeypatch):
  root = tree(tmp_path / 'photos', 'ab')
  made = count_conversions(monkeypatch)
  folders = []
  threads = [
    threading.Thread(target=lambda: folders.append(source_records.make(root))) for _ in range(2)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(set(folders)) == 1 and len(folders) == 2 and made == folders[:1]


def test_an_archive_and_another_folder(tmp_path):
  root = tree(tmp_path / 'photos', 'ab')
  archive = shutil.make_archive(str(tmp_path / 'photos'), 'tar', root)
  folder = source_records.make(archive, tmp_path / 'cache')
  assert os.path.dirname(folder) == str(tmp_path / 'cache')
  assert dataset_info.read_info(folder).labels == ('a', 'b')
  assert sorted(os.listdir(tmp_path)) == ['cache', 'photos', 'photos.tar']


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
  def convert(*_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path))

  monkeypatch.setattr(formats, 'convert', convert)
  with pytest.raises(OSError, match='no records can be made here: --cache_dir chooses another'):
    source_records.make(tree(tmp_path / 'photos', 'ab'))


def test_what_is_no_source(tmp_path):
  """Opening it says what is wrong."""
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'notes.txt').write_text('mine')
  for path in ('empty', 'notes.txt', 'nowhere'):
    assert source_records.find_or_make('imagenet', str(tmp_path / path)) == {}
  assert source_records.find_or_make('synthetic', None) == {}
  unfinished = tmp_path / 'unfinished'
  unfinished.mkdir()
  (unfinished / 'train-00000-of-00004').write_bytes(b'')
  (unfinished / conversion.WORK_FOLDER).mkdir()
  assert not source_records.is_source(unfinished)
