"""Downloads from a server on this machine that breaks off, ignores ranges, and lies."""

import contextlib
import gzip
import hashlib
import http.server
import os
import re
import socket
import threading

import pytest
from slim_inception.datasets import download

CONTENT = bytes(range(256)) * 4096  # 1 MB: more than one block


def sha256(content):
  return hashlib.sha256(content).hexdigest()


SHA256 = sha256(CONTENT)


class Server(http.server.HTTPServer):
  """Serves `files`.

  Attributes:
    files: name -> content.
    ranges: whether Range requests are understood.
    cuts: how many bytes of the body each of the next answers has before the connection closes.
    with_length: whether Content-Length is sent.
    statuses: of the next answers, in place of any file.
    requests: name and Range header of each request so far.
  """

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.files, self.ranges, self.with_length = {}, True, True
    self.cuts, self.statuses, self.requests = [], [], []

  def url(self, name):
    return f'http://127.0.0.1:{self.server_port}/{name}'


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server, name, asked = self.server, self.path[1:], self.headers.get('Range')
    server.requests.append((name, asked))
    if server.statuses or name not in server.files:
      self.send_error(server.statuses.pop(0) if server.statuses else 404)
      return
    content, start = server.files[name], 0
    if asked and server.ranges:
      start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1])
      if start >= len(content):
        self.send_error(416)
        return
    self.send_response(206 if start else 200)
    if start:
      self.send_header('Content-Range', f'bytes {start}-{len(content) - 1}/{len(content)}')
    if server.with_length:
      self.send_header('Content-Length', str(len(content) - start))
    self.end_headers()
    body = content[start:]
    self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

  def log_message(self, *args):
    pass


@contextlib.contextmanager
def serving():
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()


@pytest.fixture
def server():
  with serving() as server:
    server.files['a.bin'] = CONTENT
    yield server


def fetch(server, folder, sha256=SHA256, **options):
  return download.fetch(server.url('a.bin'), sha256, folder, pause=0, **options)


def names(folder):
  return sorted(path.name for path in folder.iterdir())


def test_downloads_once(server, tmp_path):
  folder = tmp_path / 'made' / 'downloads'
  path = fetch(server, folder)
  assert path == folder / 'a.bin'
  assert path.read_bytes() == CONTENT
  assert names(folder) == ['a.bin']
  assert fetch(server, folder) == path
  assert server.requests == [('a.bin', None)]


def test_another_file_under_the_name_is_replaced(server, tmp_path):
  (tmp_path / 'a.bin').write_bytes(b'something else')
  assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_broken_connections_are_taken_up(server, tmp_path):
  server.cuts += [300_000, 200_000]
  assert fetch(server, tmp_path).read_bytes() == CONTENT
  assert [asked for _, asked in server.requests] == [None, 'bytes=300000-', 'bytes=500000-']


def test_stopped_and_started_again(server, tmp_path):
  (tmp_path / 'a.bin.partial').write_bytes(CONTENT[:400_000])
  assert fetch(server, tmp_path).read_bytes() == CONTENT
  assert names(tmp_path) == ['a.bin']
  assert server.requests == [('a.bin', 'bytes=400000-')]


def test_stopped_before_the_renaming(server, tmp_path):
  (tmp_path / 'a.bin.partial').write_bytes(CONTENT)
  assert fetch(server, tmp_path).read_bytes() == CONTENT
  assert server.requests == []


def test_server_without_ranges_sends_all_again(server, tmp_path):
  server.ranges = False
  server.cuts += [300_000]
  assert fetch(server, tmp_path).read_bytes() == CONTENT
  assert [asked for _, asked in server.requests] == [None, 'bytes=300000-']


def test_a_partial_file_that_is_too_long(server, tmp_path):
  (tmp_path / 'a.bin.partial').write_bytes(CONTENT + b'and more')
  assert fetch(server, tmp_path).read_bytes() == CONTENT
  assert [asked for _, asked in server.requests] == [f'bytes={len(CONTENT) + 8}-', None]


def test_a_partial_file_of_another_version(server, tmp_path):
  """It is found out at the end; then the next start is a fresh one."""
  (tmp_path / 'a.bin.partial').write_bytes(b'x' * 1000)
  with pytest.raises(ValueError, match='is not what was expected'):
    fetch(server, tmp_path)
  assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_wrong_checksum(server, tmp_path):
  folder = tmp_path / 'downloads'
  with pytest.raises(
    ValueError, match=f'{server.url("a.bin")} .*SHA-256 is {SHA256} instead of {"0" * 64}'
  ):
    fetch(server, folder, '0' * 64)
  assert not folder.exists()


def test_broken_off_for_good(server, tmp_path):
  server.cuts += [100_000] * 3
  with pytest.raises(
    OSError, match=r'a.bin broke off 3 times .*goes on from 300,000 of 1,048,576 bytes, --source'
  ):
    fetch(server, tmp_path, attempts=3, size=len(CONTENT))
  assert names(tmp_path) == ['a.bin.partial']
  assert fetch(server, tmp_path).read_bytes() == CONTENT
  assert server.requests[3:] == [('a.bin', 'bytes=300000-')]


def test_a_length_that_the_server_does_not_say(server, tmp_path):
  server.with_length = False
  server.cuts += [300_000]
  assert fetch(server, tmp_path, size=len(CONTENT)).read_bytes() == CONTENT
  assert len(server.requests) == 2


@pytest.mark.parametrize('status', [404, 403, 503])
def test_refusals_are_not_asked_again(server, tmp_path, status):
  server.statuses += [status]
  folder = tmp_path / 'downloads'
  with pytest.raises(
    OSError, match=f'{server.url("a.bin")} .*HTTP status {status} .*--source takes a local copy'
  ):
    fetch(server, folder)
  assert not folder.exists()
  assert len(server.requests) == 1


def test_a_refusal_keeps_what_came(server, tmp_path):
  server.statuses += [503]
  (tmp_path / 'a.bin.partial').write_bytes(CONTENT[:1000])
  with pytest.raises(OSError, match='HTTP status 503'):
    fetch(server, tmp_path)
  assert (tmp_path / 'a.bin.partial').read_bytes() == CONTENT[:1000]


def free_port():
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def test_no_connection(tmp_path):
  url = f'http://127.0.0.1:{free_port()}/a.bin'
  folder = tmp_path / 'downloads'
  with pytest.raises(OSError, match=f'{url} cannot be downloaded: .*refused; --source'):
    download.fetch(url, SHA256, folder)
  assert not folder.exists()
  folder.mkdir()
  (folder / 'a.bin.partial').write_bytes(CONTENT[:1000])
  with pytest.raises(OSError, match=r'broke off 2 times .*goes on from 1,000 bytes'):
    download.fetch(url, SHA256, folder, attempts=2, pause=0)
  assert (folder / 'a.bin.partial').read_bytes() == CONTENT[:1000]


def test_a_server_that_says_nothing(tmp_path):
  with socket.socket() as silent:
    silent.bind(('127.0.0.1', 0))
    silent.listen()
    url = f'http://127.0.0.1:{silent.getsockname()[1]}/a.bin'
    with pytest.raises(OSError, match=f'{url} cannot be downloaded: timed out'):
      download.fetch(url, SHA256, tmp_path, timeout=0.1)


def test_no_disk_space_is_no_broken_connection(server, tmp_path):
  os.symlink('/dev/full', tmp_path / 'a.bin.partial')
  with pytest.raises(OSError, match='No space left'):
    fetch(server, tmp_path)
  assert len(server.requests) == 1


# Unpacking


def test_unzip(tmp_path):
  plain, folder = tmp_path / 'plain', tmp_path / 'unpacked'
  plain.write_bytes(CONTENT)
  assert download.unzip(plain, folder) == plain
  assert download.unzip(tmp_path, folder) == tmp_path
  assert not folder.exists()
  for name, unpacked in {'a.gz': 'a', 'a.tar.gz': 'a.tar', 'a.tgz': 'a.tar', 'b': 'b'}.items():
    (tmp_path / name).write_bytes(gzip.compress(CONTENT))
    path = download.unzip(tmp_path / name, folder)
    assert path == folder / unpacked
    assert path.read_bytes() == CONTENT


def test_unzip_damaged(tmp_path):
  whole = gzip.compress(os.urandom(100_000))
  flipped = bytearray(whole)
  flipped[50_000] ^= 1
  for damaged in (whole[:-2000], whole[:-4], bytes(flipped), whole[:5] + b'x' * 100):
    (tmp_path / 'a.gz').write_bytes(damaged)
    with pytest.raises(ValueError, match='a.gz is cut short or damaged: '):
      download.unzip(tmp_path / 'a.gz', tmp_path / 'unpacked')
    assert names(tmp_path / 'unpacked') == []


def test_scratch_vanishes_with_its_plan(tmp_path):
  with download.scratch(tmp_path) as kept:
    kept.mkdir()
  assert kept.exists()
  with pytest.raises(ValueError), download.scratch(tmp_path) as folder:
    (folder / 'a').write_bytes(b'')
    raise ValueError
  assert not folder.exists()
