"""The reader of tars against the standard library's, GNU tar's and files that are cut."""

import gzip
import io
import os
import shutil
import subprocess
import tarfile

import pytest
from slim_inception.datasets import tars

NAMES = ('a.jpg', 'folder/b.jpg', 'x' * 96 + '.jpg', 'y' * 80 + '/' + 'z' * 90, 'empty', './c.jpg')
LONG = ('w' * 300 + '.jpg', 'v' * 160 + '/' + 'u' * 160 + '.jpg', 'Äpfel/ß.jpg', 'ä' * 150)
FORMATS = {
  'ustar': (tarfile.USTAR_FORMAT, NAMES),
  'gnu': (tarfile.GNU_FORMAT, NAMES + LONG),
  'pax': (tarfile.PAX_FORMAT, NAMES + LONG),
}


def written(path, form, names):
  with tarfile.open(path, 'w', format=form) as tar:
    for number, name in enumerate(names):
      info = tarfile.TarInfo(name)
      info.size = 0 if name == 'empty' else 300 * number + 1
      info.mtime = 1e9 + 0.25  # which pax needs a header for
      tar.addfile(info, io.BytesIO(b'%d' % (number % 10) * info.size))
      folder = tarfile.TarInfo(f'folder{number}')
      folder.type = tarfile.DIRTYPE
      tar.addfile(folder)
  return path


def members_of(path, start=0, end=None):
  with open(path, 'rb') as file:
    return list(tars.members(file.fileno(), start, end))


def by_library(path):
  with tarfile.open(path) as tar:
    return [
      (m.name, tars.FILE, m.offset_data, m.size)
      if m.isfile()
      else (m.name, tars.LINK, m.offset_data, 0)  # hard links may say the size of what they link
      for m in tar
      if m.isfile() or m.issym() or m.islnk()
    ]


@pytest.mark.parametrize('name', FORMATS)
def test_members(tmp_path, name):
  path = written(tmp_path / 'a.tar', *FORMATS[name])
  members = members_of(path)
  assert [tuple(member) for member in members] == by_library(path)
  assert [member.name for member in members] == list(FORMATS[name][1])
  content = path.read_bytes()
  shifted = tmp_path / 'shifted'  # as a member of another tar
  shifted.write_bytes(b'x' * 1000 + content + b'y' * 1000)
  inner = members_of(shifted, 1000, 1000 + len(content))
  assert inner == [member._replace(offset=member.offset + 1000) for member in members]


@pytest.mark.skipif(not shutil.which('tar'), reason='no tar')
@pytest.mark.parametrize('form', ['v7', 'oldgnu', 'gnu', 'ustar', 'posix'])
def test_what_tar_writes(tmp_path, form):
  for name in ('a.jpg', 'folder/b.jpg', 'folder/c.jpg'):
    (tmp_path / 'of' / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'of' / name).write_bytes(name.encode() * 100)
  (tmp_path / 'of' / 'soft').symlink_to('/etc/passwd')
  os.link(tmp_path / 'of' / 'a.jpg', tmp_path / 'of' / 'hard')
  path = tmp_path / 'a.tar'
  subprocess.run(['tar', f'--format={form}', '-cf', path, '-C', tmp_path / 'of', '.'], check=True)
  members = members_of(path)
  assert [tuple(member) for member in members] == by_library(path)
  assert {m.name for m in members if m.kind == tars.LINK} >= {'./soft'}


@pytest.mark.skipif(not shutil.which('tar'), reason='no tar')
@pytest.mark.parametrize('form', ['gnu', 'posix'])
def test_files_with_holes_are_unusual(tmp_path, form):
  (tmp_path / 'of').mkdir()
  with open(tmp_path / 'of' / 'holes', 'wb') as file:
    file.truncate(1 << 20)
    file.seek(1 << 19)
    file.write(b'x')
  (tmp_path / 'of' / 'next').write_bytes(b'next')
  path = tmp_path / 'a.tar'
  subprocess.run(
    ['tar', '-S', f'--format={form}', '-cf', path, '-C', tmp_path / 'of', 'holes', 'next'],
    check=True,
  )
  holes, after = members_of(path)
  assert holes.kind == tars.UNUSUAL
  assert (after.name, after.kind, after.size) == ('next', tars.FILE, 4)


def test_large_members(tmp_path):
  """8 GB and more take another form of the number; the file is one hole."""
  for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
    path = tmp_path / 'large.tar'
    info = tarfile.TarInfo('large')
    info.size = 9 << 30
    header = info.tobuf(form)
    with open(path, 'wb') as file:
      file.write(header)
      file.seek(info.size, os.SEEK_CUR)
      file.write(tarfile.TarInfo('small').tobuf(form))
    large, small = members_of(path)
    assert (large.size, large.offset) == (9 << 30, len(header))
    assert small.name == 'small'


def test_a_cut_anywhere_leaves_what_lies_before_it(tmp_path):
  path = written(tmp_path / 'a.tar', *FORMATS['pax'])
  whole, content = members_of(path), path.read_bytes()
  for end in range(1, len(content) - 10240, 333):
    (tmp_path / 'cut.tar').write_bytes(content[:end])
    before = []
    with open(tmp_path / 'cut.tar', 'rb') as file:
      try:
        before.extend(tars.members(file.fileno()))
      except tars.DamagedError as error:
        assert str(error).startswith(('it ends within', 'no header at'))
        first = tars.first_members(file.fileno(), 100)
        assert first == whole[: len(first)]
    assert before == whole[: len(before)]


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', 'it is empty'),
    (b'<html>' * 200, 'no header at byte 0'),
    (b'x' * 100, 'it ends within a header, at byte 0'),
  ],
)
def test_what_is_no_tar(tmp_path, content, message):
  path = tmp_path / 'a.tar'
  path.write_bytes(content)
  with pytest.raises(tars.DamagedError, match=message):
    members_of(path)


@pytest.mark.parametrize('field', [b'-0000001000\0', b'+0000000010\0', b'0_000000010\0'])
def test_a_size_is_digits(tmp_path, field):
  """A size below 0 leads back to the header: what is read for ever is no tar."""
  content = bytearray(written(tmp_path / 'a.tar', tarfile.USTAR_FORMAT, NAMES).read_bytes())
  content[124:136], content[148:156] = field, b' ' * 8
  content[148:156] = b'%06o\0 ' % sum(content[:512])
  (tmp_path / 'a.tar').write_bytes(content)
  with pytest.raises(tars.DamagedError, match='no number in a header'):
    members_of(tmp_path / 'a.tar')


def test_names_that_are_no_utf8_stay_apart(tmp_path):
  names = [os.fsdecode(b'caf\xe9/0.jpg'), os.fsdecode(b'caf\xe8/0.jpg')]
  members = members_of(written(tmp_path / 'a.tar', tarfile.GNU_FORMAT, names))
  assert [member.name for member in members] == ['café/0.jpg', 'cafè/0.jpg']


def test_files_of_gzip_of_several_members_and_cut_ones(tmp_path):
  data = os.urandom(1_200_000) + bytes(5_000_000) + os.urandom(10)
  packed, path, target = gzip.compress(data, 1), tmp_path / 'x.tar.gz', tmp_path / 'x.tar'
  parts = [gzip.compress(data[:99]), gzip.compress(data[99:])]
  whole = {'one': packed, 'two': b''.join(parts), 'padded': packed + bytes(300_000)}
  whole['padded apart'] = bytes(300_000).join(parts)
  for name, content in whole.items():
    path.write_bytes(content)
    assert tars._decompress(path, target) is None, name
    assert target.read_bytes() == data, name
  for size in (5, 100, 900_000, len(packed) - 3):
    path.write_bytes(packed[:size])
    assert 'cut short or damaged' in tars._decompress(path, target)
    assert data.startswith(target.read_bytes())
    assert target.stat().st_size > size - 70_000  # a block of deflate


def test_a_tar_that_ends_within_the_padding_of_a_member_is_cut(tmp_path):
  path = tmp_path / 'x.tar'
  with tarfile.open(path, 'w') as tar:
    for name in ('a.jpg', 'b.jpg'):
      info = tarfile.TarInfo(name)
      info.size = 700
      tar.addfile(info, io.BytesIO(bytes(700)))
  os.truncate(path, 512 + 1024 + 512 + 900)
  first = []
  with (
    open(path, 'rb') as file,
    pytest.raises(tars.DamagedError, match="within 'b.jpg', at byte 2"),
  ):
    first.extend(tars.members(file.fileno()))
  with open(path, 'rb') as file:
    assert [each.name for each in tars.first_members(file.fileno(), 9)] == ['a.jpg', 'b.jpg']
