"""Folders and archives with odd entries: links, what is no file, what cannot be read."""

import contextlib
import gzip
import itertools
import os
import shutil
import socket
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from slim_inception.datasets import conversion, flowers, imagenet, images, sources

from tests.datasets.archives import tgz
from tests.datasets.odd_images import JPEG


def write(path, content=JPEG):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)


def walk(path, work_dir=None, **kwargs):
  walked = sources.walk(path, work_dir, **kwargs) if work_dir else sources.walk_folder(path)
  return {entry.path: entry.source for entry in walked}


def reason(source):
  with pytest.raises(images.BadImageError) as error:
    source.read()
  return str(error.value)


# Links


def test_each_file_comes_once_whatever_the_links(tmp_path):
  """Seven folders of which each has a link to all others: there are more ways than can be gone."""
  names = 'abcdefg'
  for name in names:
    write(tmp_path / name / 'image.jpg', name.encode())
  for name, other in itertools.permutations(names, 2):
    (tmp_path / name / f'to_{other}').symlink_to(f'../{other}')
  (tmp_path / 'a' / 'up').symlink_to('..')
  links: list[str] = []
  walked = [entry.path for entry in sources.walk_folder(tmp_path, '', links)]
  assert walked == [f'{name}/image.jpg' for name in names]
  assert len(links) == 7 * 6 + 1


def test_links_to_folders_elsewhere_are_followed_after_what_lies_there(tmp_path):
  write(tmp_path / 'store' / 'deep' / '1.jpg')
  write(tmp_path / 'root' / '.hidden' / '2.jpg')
  write(tmp_path / 'root' / 'plain' / '3.jpg')
  for name, target in {
    'all': '../store', 'deep': '../store/deep', 'hidden': '.hidden', 'above': '../root/..',
    'a_link': 'plain',
  }.items():  # fmt: skip
    (tmp_path / 'root' / name).symlink_to(target)
  links: list[str] = []
  walked = [entry.path for entry in sources.walk_folder(tmp_path / 'root', '', links)]
  assert walked == ['plain/3.jpg', 'all/deep/1.jpg', 'hidden/2.jpg']
  assert links == ['a_link', 'above', 'deep']


def test_folders_that_are_walked_apart_are_left_to_their_own_walk(tmp_path):
  for name in ('ant', 'bee'):
    write(tmp_path / name / 'more' / '1.jpg')
  (tmp_path / 'bee' / 'up').symlink_to('..')
  (tmp_path / 'bee' / 'ants').symlink_to('../ant/more')
  links: list[str] = []
  walked = sources.walk_folder(tmp_path / 'bee', 'bee/', links, [str(tmp_path / 'ant')])
  assert [entry.path for entry in walked] == ['bee/more/1.jpg']
  assert links == ['bee/ants', 'bee/up']


def test_a_source_is_called_by_its_own_name(tmp_path):
  write(tmp_path / 'store' / 'v2' / 'image.jpg')
  (tmp_path / 'val').symlink_to('store/v2')
  assert list(walk(tmp_path / 'val', tmp_path / 'work')) == ['val/image.jpg']
  write(tmp_path / 'blobs' / '0a1b', tgz({'image.jpg': JPEG}, ''))
  (tmp_path / 'images.tar').symlink_to('blobs/0a1b')
  assert list(walk(tmp_path / 'images.tar', tmp_path / 'work')) == ['images.tar/image.jpg']
  assert list(walk(tmp_path / 'val' / '..' / 'val', tmp_path / 'work')) == ['val/image.jpg']


# What is no file


def test_what_is_no_regular_file_is_listed_and_waits_for_nobody(tmp_path, monkeypatch):
  write(tmp_path / 'good.jpg')
  os.mkfifo(tmp_path / 'fifo.jpg')
  (tmp_path / 'device.jpg').symlink_to('/dev/zero')
  (tmp_path / 'itself.jpg').symlink_to('itself.jpg')
  (tmp_path / 'nowhere.jpg').symlink_to('none')
  monkeypatch.chdir(tmp_path)
  with socket.socket(socket.AF_UNIX) as server:
    server.bind('socket.jpg')  # a path of a hundred letters at most
    walked = walk(tmp_path)
  assert walked.pop('good.jpg').read() == JPEG
  assert {name: reason(source) for name, source in walked.items()} == {
    'fifo.jpg': 'neither a file nor a folder',
    'device.jpg': 'neither a file nor a folder',
    'socket.jpg': 'neither a file nor a folder',
    'itself.jpg': 'cannot be read: Too many levels of symbolic links',
    'nowhere.jpg': 'a link to nothing',
  }


def test_a_source_that_is_no_file_is_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'flower_photos.tgz')
  message = r'flower_photos.tgz is neither a file nor a folder; expected'
  for make_plan, source in {
    flowers.make_plan: tmp_path,
    imagenet.make_plan: tmp_path / 'flower_photos.tgz',
  }.items():
    with pytest.raises(OSError, match=message):
      make_plan(str(source), conversion.Options(), tmp_path / 'work')


@contextlib.contextmanager
def without_privileges():
  """Root may read everything: as nobody it may not."""
  is_root = os.geteuid() == 0
  try:
    if is_root:
      os.seteuid(65534)
    yield
  finally:
    if is_root:
      os.seteuid(0)


def test_what_may_not_be_read_is_listed():
  with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
    root = Path(folder)
    root.chmod(0o755)
    for name in ('open/good.jpg', 'open/closed.jpg', 'closed/image.jpg'):
      write(root / name)
      (root / name).parent.chmod(0o755)
    (root / 'open' / 'closed.jpg').chmod(0)
    (root / 'closed').chmod(0)
    with without_privileges():
      walked = walk(root)
      assert walked.pop('open/good.jpg').read() == JPEG
      assert {name: reason(source) for name, source in walked.items()} == {
        'closed': 'cannot be read: Permission denied',
        'open/closed.jpg': 'cannot be read: Permission denied',
      }
      with pytest.raises(PermissionError):  # the source itself
        walk(root / 'closed', root / 'work')
    (root / 'closed').chmod(0o755)


def test_a_file_that_went_is_listed_but_not_a_disk_that_went(tmp_path):
  write(tmp_path / 'root' / 'gone.jpg')
  write(tmp_path / 'root' / 'short.jpg')
  walked = walk(tmp_path / 'root')
  (tmp_path / 'root' / 'gone.jpg').unlink()
  (tmp_path / 'root' / 'short.jpg').write_bytes(b'')
  assert reason(walked['gone.jpg']) == 'cannot be read: No such file or directory'
  assert 'it was longer when it was listed' in reason(walked['short.jpg'])
  shutil.rmtree(tmp_path / 'root')
  with pytest.raises(FileNotFoundError):
    walked['gone.jpg'].read()


def test_what_systems_put_beside_images_is_passed_over(tmp_path):
  stray = ['__MACOSX/cat/._1.jpg', '@eaDir/1.jpg@SYNO/THUMB_M.jpg', 'lost+found/1.jpg',
           '.ipynb_checkpoints/1.jpg', 'cat/@eaDir/1.jpg', 'cat/.1.jpg']  # fmt: skip
  members = dict.fromkeys(['cat/1.jpg', *stray], JPEG)
  for name, content in members.items():
    write(tmp_path / 'folder' / name, content)
  (tmp_path / 'images.tar').write_bytes(tgz({f'./{name}': JPEG for name in members}, ''))
  with zipfile.ZipFile(tmp_path / 'images.zip', 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  for name, path in {'folder': '', 'images.tar': '/.', 'images.zip': ''}.items():
    assert list(walk(tmp_path / name, tmp_path / 'work')) == [f'{name}{path}/cat/1.jpg']


# Zips


def zipped(path, members, kind=zipfile.ZIP_DEFLATED):
  with zipfile.ZipFile(path, 'w', kind) as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return bytearray(path.read_bytes())


def directory_of(content, name):
  """Where the directory of a zip begins to speak of a member."""
  at = content.rfind(name.encode()) - 46
  assert content[at : at + 4] == b'PK\x01\x02'
  return at


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    (42, 1 << 30, 'its directory says the wrong place'),  # offset, beyond the end
    (42, 7, 'its directory says the wrong place'),
    (20, 1 << 30, 'its directory says the wrong place'),  # bytes stored
    (20, 5, 'not of 1,000 bytes as it says'),
    (24, 100, 'not of 100 bytes as it says'),  # bytes unpacked
    (24, 5000, 'not of 5,000 bytes as it says'),
    (24, 300 << 20, 'larger than 256 MB'),
    (16, 1, 'does not match its checksum'),
  ],
)
def test_a_wrong_field_of_one_member_leaves_the_others(tmp_path, field, value, message):
  path = tmp_path / 'a.zip'
  content = zipped(path, {'1.jpg': bytes(200), 'bad.jpg': bytes(1000), '2.jpg': JPEG})
  struct.pack_into('<I', content, directory_of(content, 'bad.jpg') + field, value)
  path.write_bytes(content)
  walked = walk(path, tmp_path / 'work')
  assert message in reason(walked['a.zip/bad.jpg'])
  assert walked['a.zip/1.jpg'].read() == bytes(200)
  assert walked['a.zip/2.jpg'].read() == JPEG


def test_a_member_unpacks_to_no_more_than_its_directory_says(tmp_path):
  path = tmp_path / 'a.zip'
  content = zipped(path, {'bomb.jpg': bytes(64 << 20)})
  assert len(content) < 100_000
  struct.pack_into('<I', content, directory_of(content, 'bomb.jpg') + 24, 1_000_000)
  path.write_bytes(content)
  (member,) = walk(path, tmp_path / 'work').values()
  tracemalloc.start()
  try:
    assert 'not of 1,000,000 bytes' in reason(member)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
  finally:
    tracemalloc.stop()


@pytest.mark.parametrize(('at', 'value'), [(8, 1), (10, zipfile.ZIP_LZMA)])
def test_a_member_that_is_encrypted_or_compressed_otherwise_is_listed(tmp_path, at, value):
  path = tmp_path / 'a.zip'
  content = zipped(path, {'1.jpg': JPEG, 'odd.jpg': JPEG})
  struct.pack_into('<H', content, directory_of(content, 'odd.jpg') + at, value)
  path.write_bytes(content)
  walked = walk(path, tmp_path / 'work')
  assert walked['a.zip/1.jpg'].read() == JPEG
  assert reason(walked['a.zip/odd.jpg']).startswith('encrypted or compressed in an unusual way')


def test_members_of_compressed_tars_are_limited(tmp_path, monkeypatch):
  monkeypatch.setattr(images, 'MAX_BYTES', 1000)
  members = {'1.xml': b'<a/>', 'large.xml': bytes(1001)}
  path = tmp_path / 'a.tgz'
  path.write_bytes(tgz(members))
  walked = walk(path, tmp_path / 'work')
  assert walked['a.tgz/1.xml'].read() == b'<a/>'
  assert reason(walked['a.tgz/large.xml']) == 'larger than 256 MB'


# Parquet


def test_parquet_files_of_paths_are_no_images(tmp_path):
  pyarrow = pytest.importorskip('pyarrow', reason='extra parquet')
  parquet = pytest.importorskip('pyarrow.parquet', reason='extra parquet')
  cells = {  # as datasets' to_parquet writes them: paths where the images lie
    'null.parquet': [{'bytes': None, 'path': 'photos/1.jpg'}] * 2,
    'text.parquet': ['photos/1.jpg', 'photos/2.jpg'],
  }
  for name, of_file in cells.items():
    parquet.write_table(pyarrow.table({'image': of_file, 'label': [0, 1]}), tmp_path / name)
    with pytest.raises(ValueError, match=r'it holds paths of images, such as photos/1.jpg, not'):
      walk(tmp_path / name, tmp_path / 'work')
  some = [{'bytes': None, 'path': '1.jpg'}, {'bytes': JPEG, 'path': '2.jpg'}, None]
  table = pyarrow.table({'image': some, 'label': [0, 1, 2]})
  parquet.write_table(table, tmp_path / 'some.parquet')
  contents = [s.read() for s in walk(tmp_path / 'some.parquet', tmp_path / 'work').values()]
  assert contents == [b'', JPEG, b'']
  parquet.write_table(pyarrow.table({'image': [5], 'label': [0]}), tmp_path / 'number.parquet')
  with pytest.raises(ValueError, match="'image' is int64, expected a struct of path and bytes"):
    walk(tmp_path / 'number.parquet', tmp_path / 'work')


def test_a_size_that_nothing_can_have_ends_a_tar(tmp_path):
  """The standard library would read on to a byte that is not there."""
  content = bytearray(tgz({'a/0.jpg': JPEG, 'b/0.jpg': JPEG}, ''))
  content[124:136], content[148:156] = b'\x80' + b'\x7f' * 11, b' ' * 8
  content[148:156] = b'%06o\0 ' % sum(content[:512])
  path = tmp_path / 'a.tar.gz'
  path.write_bytes(gzip.compress(bytes(content)))
  with pytest.raises(ValueError, match='a member of .* bytes'):
    sources.first_names(path, 10)
  with pytest.raises(ValueError, match='a member of .* bytes'):
    list(sources.walk(path, tmp_path / 'work'))
