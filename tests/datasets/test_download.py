"""Downloads from a server on this machine that breaks off and lies, and unpacking."""

import gc
import gzip
import os
import socket

import pytest
from slim_inception.datasets import download

from tests.datasets.archives import left_in, sha256

CONTENT = bytes(range(256)) * 4096  # 1 MB: more than one block


@pytest.fixture
def work_dir(tmp_path):
  """The work folder of a conversion into `tmp_path / 'out'`."""
  folder = tmp_path / 'out' / '.conversion'
  folder.mkdir(parents=True)
  return folder


def fetch(server, work_dir, attempts=2, **options):
  file = download.Download(server.url('a.bin'), sha256(CONTENT))
  return file.fetch(work_dir, attempts=attempts, **options)


def test_a_file_is_downloaded_once(server, work_dir):
  server.files['a.bin'] = CONTENT
  downloads = work_dir.parent / 'downloads'
  for _ in range(2):
    path = fetch(server, work_dir)
    assert path == downloads / 'a.bin'
    assert path.read_bytes() == CONTENT
    assert (left_in(downloads), left_in(work_dir)) == (['a.bin'], [])
  assert server.requests == ['a.bin']


def test_another_file_under_the_name_is_replaced(server, work_dir):
  server.files['a.bin'] = CONTENT
  (work_dir.parent / 'downloads').mkdir()
  (work_dir.parent / 'downloads' / 'a.bin').write_bytes(b'something else')
  assert fetch(server, work_dir).read_bytes() == CONTENT


def test_a_broken_connection_is_tried_again(server, work_dir):
  server.files['a.bin'] = CONTENT
  server.cuts += [300_000]
  assert fetch(server, work_dir).read_bytes() == CONTENT
  assert len(server.requests) == 2


def refused(server):
  """Nobody listens there."""
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    port = probe.getsockname()[1]
  server.url = f'http://127.0.0.1:{port}/{{}}'.format


FAILURES = {  # what the server does, and what the message says
  'broken off': (lambda server: server.cuts.append(1000), 'IncompleteRead.*1000 bytes read'),
  'missing': (lambda server: server.files.clear(), '404 Client Error: Not Found'),
  'silent': (lambda server: setattr(server, 'delay', 0.5), 'Read timed out'),
  'refused': (refused, 'Connection refused'),
  'changed': (lambda server: server.files.update({'a.bin': b'x'}), 'expected .* but got'),
}


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # pooch's socket
@pytest.mark.parametrize('failure', FAILURES)
def test_a_failure_is_one_line_and_leaves_nothing(server, work_dir, failure):
  server.files['a.bin'] = CONTENT
  fail, message = FAILURES[failure]
  fail(server)
  with pytest.raises(OSError, match=f'{message}.*; --source takes a local copy$') as caught:
    fetch(server, work_dir, attempts=1, timeout=0.2)
  line = str(caught.value)
  assert line.startswith(f'{server.url("a.bin")} cannot be downloaded: ') and '\n' not in line
  assert left_in(work_dir.parent) == ['.conversion'] and left_in(work_dir) == []
  del caught
  gc.collect()  # here, not in another test


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
    assert left_in(tmp_path / 'unpacked') == []


def test_scratch_vanishes_with_its_plan(tmp_path):
  with download.scratch(tmp_path) as kept:
    kept.mkdir()
  assert kept.exists()
  with pytest.raises(ValueError), download.scratch(tmp_path) as folder:
    (folder / 'a').write_bytes(b'')
    raise ValueError
  assert not folder.exists()
