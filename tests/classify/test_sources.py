"""What the operands mean."""

import contextlib
import glob
import io
import itertools
import os
import socket
import tarfile
import threading
import tracemalloc
import zipfile

import pytest
from slim_inception.datasets.images import MAX_BYTES

from slim_inception import files
from slim_inception.classify import sources
from tests.datasets.archives import Server
from tests.datasets.odd_images import JPEG, encode


@pytest.fixture
def tree(tmp_path, monkeypatch):
  for name in ('b.jpg', 'a.PNG', 'sub/c.heic', 'sub/d[1].jpg', '.hidden/e.jpg', 'notes.txt'):
    path = tmp_path / 'photos' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(name.encode())
  (tmp_path / 'photos' / '.f.jpg').write_bytes(b'')
  (tmp_path / 'photos' / 'b.explain.png').write_bytes(b'')
  monkeypatch.chdir(tmp_path)


def names(*operands, stdin=b''):
  return [source.name for source in sources.expand(operands, io.BytesIO(stdin))]


def reason(*operands, stdin=b''):
  (source,) = sources.expand(operands, io.BytesIO(stdin))
  with pytest.raises((ValueError, OSError)) as error:
    source.read()
  return str(error.value)


def test_files_folders_and_patterns(tree):
  everything = ['photos/a.PNG', 'photos/b.jpg', 'photos/sub/c.heic', 'photos/sub/d[1].jpg']
  assert names('photos') == everything
  assert names('photos/notes.txt', 'photos/b.jpg') == ['photos/notes.txt', 'photos/b.jpg']
  assert names('photos/*.jpg', 'photos/**/*.jpg') == [
    'photos/b.jpg', 'photos/b.jpg', 'photos/sub/d[1].jpg',
  ]  # fmt: skip
  assert names('photos/sub/d[1].jpg') == ['photos/sub/d[1].jpg']  # it is there: no pattern
  (source,) = sources.expand(['photos/b.jpg'], io.BytesIO())
  assert source.read() == b'b.jpg'


@pytest.mark.parametrize('ending', ['.tar', '.tar.gz', '.zip'])
def test_archives(ending, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  path = f'in/photos{ending}'
  contents = {
    'b.jpg': b'b',
    'sub/a.PNG': b'a',
    'notes.txt': b'',
    '.f.jpg': b'',
    'c.tar': tar(d=b'd'),
  }
  (tmp_path / 'in').mkdir()
  if ending == '.zip':
    del contents['c.tar']
    with zipfile.ZipFile(path, 'w') as file:
      for name, content in contents.items():
        file.writestr(name, content)
  else:
    with tarfile.open(path, 'w:gz' if ending == '.tar.gz' else 'w') as file:
      for name, content in contents.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
  within = [f'{path}/c.tar/d.jpg'] if ending == '.tar' else []
  expected = [f'{path}/b.jpg', f'{path}/sub/a.PNG', *within]
  for operand in (path, f'in/*{ending}'):
    assert names(operand) == expected
  images, count = sources.listed([path], io.BytesIO())
  assert count == (None if ending == '.tar.gz' else len(expected))
  assert [source.read() for source in images] == [b'b', b'a', *([b'd'] if within else [])]
  with open(path, 'r+b') as file:
    file.truncate(os.path.getsize(path) // 2)
  *_, last = sources.expand([path, path], io.BytesIO())
  assert last.name == path
  with pytest.raises(ValueError, match=rf'photos{ending}.* (cut short|damaged)'):
    last.read()


def test_an_archive_without_images(tmp_path):
  (tmp_path / 'a.tar').write_bytes(tar())
  assert reason(str(tmp_path / 'a.tar')) == 'no image in this archive'


def tar(**contents):
  """A tar of images, {name without ending: content}."""
  archive = io.BytesIO()
  with tarfile.open(fileobj=archive, mode='w') as file:
    for name, content in contents.items():
      member = tarfile.TarInfo(f'{name}.jpg')
      member.size = len(content)
      file.addfile(member, io.BytesIO(content))
  return archive.getvalue()


def test_what_is_no_file_in_a_folder_waits_for_nobody(tree, tmp_path):
  os.mkfifo(tmp_path / 'photos' / 'sub' / 'fifo.jpg')
  (tmp_path / 'photos' / '@eaDir').mkdir()
  (tmp_path / 'photos' / '@eaDir' / 'thumbnail.jpg').write_bytes(JPEG)
  (tmp_path / 'photos' / 'sub' / 'nowhere.jpg').symlink_to('none')
  reasons = {}
  for source in sources.expand(['photos/sub'], io.BytesIO()):
    try:
      source.read()
    except (ValueError, OSError) as error:
      reasons[source.name] = str(error)
  assert reasons == {
    'photos/sub/fifo.jpg': 'neither a file nor a folder',
    'photos/sub/nowhere.jpg': 'a link to nothing',
  }
  assert not any('@eaDir' in name for name in names('photos'))


def test_links_to_folders_are_followed_once(tree, tmp_path, caplog):
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'elsewhere' / 'z.jpg').write_bytes(JPEG)
  for name, target in {'up': '..', 'sub/around': '../../photos', 'z': '../elsewhere'}.items():
    (tmp_path / 'photos' / name).symlink_to(target)
  with caplog.at_level('INFO', 'absl'):
    assert names('photos')[2:] == ['photos/sub/c.heic', 'photos/sub/d[1].jpg', 'photos/z/z.jpg']
  assert '2 links to folders that lie above or are read elsewhere' in caplog.text


def test_patterns_are_the_shells_but_go_round_no_links(tree, tmp_path):
  """Seven folders that link to each other: there are more ways than can be gone."""
  for pattern in ('photos/*', 'photos/**', 'photos/**/*.jpg', './photos/*.[jP]*', '*/s?b/*',
                  'photos/.hidden/*', 'photos/sub/**/c.*', f'{tmp_path}/photos/*.jpg'):  # fmt: skip
    files = [path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path)]
    assert files
    assert names(pattern) == sorted(map(os.path.normpath, files))
  for name, other in itertools.permutations('abcdefg', 2):
    (tmp_path / 'ring' / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / 'ring' / name / other).symlink_to(f'../{other}')
  (tmp_path / 'ring' / 'a' / '1.jpg').write_bytes(JPEG)
  assert names('ring/**/*.jpg') == ['ring/a/1.jpg']


def test_nothing_there(tree, tmp_path):
  (tmp_path / 'empty').mkdir()
  assert reason('empty') == 'no image in this folder'
  assert reason('photos/*.gif') == 'no file matches'
  assert 'No such file' in reason('none.jpg')
  with open(tmp_path / 'large.jpg', 'wb') as file:
    file.truncate(MAX_BYTES + 1)  # takes no room
  tracemalloc.start()
  try:
    assert reason('large.jpg') == 'larger than 256 MB'
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
  finally:
    tracemalloc.stop()


def test_standard_input_is_a_image_or_a_list(tree):
  for content in (JPEG, encode('GIF'), encode('PPM'), encode('WEBP'), bytes(5000)):
    (source,) = sources.expand(['-'], io.BytesIO(content))
    assert source.name == '-'
    assert source.read() == content
  listed = b'photos/b.jpg\r\n\nphotos/sub\nhttp://x/y\n' + b'f\xff.jpg\n' + b'a.jpg\n' * 1000
  found = names('photos/a.PNG', '-', 'last.jpg', stdin=listed)
  assert found[:5] == [
    'photos/a.PNG', 'photos/b.jpg', 'photos/sub/c.heic', 'photos/sub/d[1].jpg', 'http://x/y',
  ]  # fmt: skip
  assert os.fsencode(found[5]) == b'f\xff.jpg'
  assert found[6:] == ['a.jpg'] * 1000 + ['last.jpg']
  assert reason('-') == 'standard input is empty'


def test_addresses(tree):
  with Server() as server:
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.files = {'a.jpg': JPEG, 'a%20b%C3%BC.jpg': JPEG}
    for name in ('a.jpg', 'a bü.jpg'):
      (source,) = sources.expand([server.url(name)], io.BytesIO())
      assert source.name == server.url(name)
      assert source.read() == JPEG
    assert reason(server.url('none.jpg')) == 'HTTP status 404 (Not Found)'
    server.cuts = [100]
    assert reason(server.url('a.jpg')) == (
      f'the connection broke off after 100 of {len(JPEG)} bytes'
    )
    server.shutdown()
  assert reason(server.url('a.jpg')).startswith('cannot be downloaded: [Errno 111] Connection ref')
  assert reason('http://[::1/a.jpg').startswith('cannot be downloaded: ')


@pytest.mark.parametrize(
  ('answer', 'reasons'),
  [
    (b'HTTP/1.0 500 \x1b[31mevil\r\n\r\n', r'HTTP status 500 (\x1b[31mevil)'),
    (b'no\x1b[2J HTTP\r\nat all', r'cannot be downloaded: no\x1b[2J HTTP'),
    (b'HTTP/1.0 302 Found\r\nLocation: /again\r\n\r\n', 'HTTP status 302 (The HTTP server return'),
  ],
)
def test_what_servers_say_is_one_line_of_text(answer, reasons, tree):
  with socket.create_server(('127.0.0.1', 0)) as server:

    def serve():
      with contextlib.suppress(OSError):
        while True:
          client, _ = server.accept()
          with client:
            client.recv(4096)
            client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    text = reason(f'http://127.0.0.1:{server.getsockname()[1]}/a.jpg')
    server.shutdown(socket.SHUT_RDWR)
  assert text.startswith(reasons)
  assert len(text.splitlines()) == 1 and files.printable(text) == text


def test_addresses_of_stores_and_home(tree, tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  assert names('-', stdin='\ufeff~/photos/b.jpg\n'.encode()) == [f'{tmp_path}/photos/b.jpg']
  assert reason('gs://bucket/a.jpg').startswith('must be a path of the file system, not an address')
