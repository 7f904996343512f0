"""One owner a folder, whatever becomes of it; the others are real processes."""

import errno
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys

import pytest
from slim_inception.datasets.folder_lock import locked_folder

_OWN = """
import sys, time
from slim_inception.datasets.folder_lock import locked_folder
with locked_folder(sys.argv[1], 'training'):
  print('mine', flush=True)
  sys.stdin.read()
"""
# Goes in and out of the folder; two at once would find each other's file.
_CONTEND = """
import os, sys
from slim_inception.datasets.folder_lock import locked_folder
times = 0
while times < 100:
  try:
    with locked_folder(sys.argv[1], 'training'):
      inside = os.path.join(sys.argv[1], 'inside')
      os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
      os.unlink(inside)
      times += 1
  except BlockingIOError:
    pass
"""


@pytest.fixture
def owner(tmp_path):
  """A process that owns `tmp_path / 'run'` until its stdin is closed."""
  command = [sys.executable, '-c', _OWN, tmp_path / 'run']
  with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    assert process.stdout.readline() == b'mine\n'
    yield process
    process.kill()


def assert_refused(folder, process, what='training'):
  who = (
    rf'another {what} writes there: host {re.escape(platform.node())}, process {process}, since '
  )
  date = r'\d{4}-\d\d-\d\d \d\d:'
  with pytest.raises(BlockingIOError, match=who + date) as error, locked_folder(folder, what):
    raise AssertionError
  assert error.value.filename == str(folder)


def test_the_second_is_refused_until_the_first_ends(tmp_path, owner):
  run = tmp_path / 'run'
  assert_refused(run, owner.pid)
  with locked_folder(run, 'evaluation'):  # is in nobody's way
    pass
  owner.stdin.close()
  assert owner.wait() == 0
  assert not run.exists()  # nothing was put into it
  with locked_folder(run, 'training') as lock:
    lock.check()


def test_a_stopped_owner_keeps_it_and_a_killed_one_does_not(tmp_path, owner):
  run = tmp_path / 'run'
  owner.send_signal(signal.SIGSTOP)
  assert_refused(run, owner.pid)
  owner.kill()
  owner.wait()
  assert os.listdir(run) == ['.training.lock']
  with locked_folder(run, 'training'):
    assert_refused(run, os.getpid())
  assert os.listdir(run) == []  # the folder was there before


def test_never_two_at_once(tmp_path):
  command = [sys.executable, '-c', _CONTEND, tmp_path]
  processes = [subprocess.Popen(command) for _ in range(4)]
  assert [process.wait() for process in processes] == [0] * 4
  assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('again', [False, True])
def test_a_folder_that_is_removed(tmp_path, again):
  run = tmp_path / 'run'
  message = 'removed or replaced while this training wrote into it'
  with pytest.raises(FileNotFoundError, match=message) as error, locked_folder(run, 'training'):
    shutil.rmtree(run)
    if again:
      run.mkdir()
    (run / 'missing' / 'metrics.jsonl').write_text('')
  assert error.value.filename == str(run)
  assert run.exists() == again


def test_another_missing_file_is_itself(tmp_path):
  with pytest.raises(FileNotFoundError) as error, locked_folder(tmp_path, 'training'):
    (tmp_path / 'missing').read_text()
  assert error.value.filename == str(tmp_path / 'missing')


def test_hosts_that_do_not_see_each_others_locks(tmp_path, caplog):
  """The second is told of the first, and the first notices before it writes."""
  content = {'host': 'other', 'process': 12, 'since': '2026-11-27 10:00:00+00:00'}
  path = tmp_path / '.training.lock'
  path.write_text(json.dumps(content))
  with locked_folder(tmp_path, 'training') as lock:
    assert 'taking over from host other, process 12, since 2026-11-27 10:00:00+00:00' in caplog.text
    path.write_text(json.dumps(content))
    with pytest.raises(BlockingIOError, match='host other, process 12'):
      lock.check()


def test_a_file_system_without_locks(tmp_path, monkeypatch):
  """The file alone is the lock there; none of the file systems here is like that."""

  def flock(descriptor, operation):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', flock)
  with locked_folder(tmp_path, 'training'):
    assert_refused(tmp_path, os.getpid())
  path = tmp_path / '.training.lock'
  path.write_text('')  # of one that was killed
  advice = f'if it has ended, remove {re.escape(str(path))}'
  with pytest.raises(BlockingIOError, match=advice), locked_folder(tmp_path, 'training'):
    raise AssertionError
  assert path.exists()


def test_what_was_made_for_nothing_is_removed(tmp_path):
  with pytest.raises(ValueError), locked_folder(tmp_path / 'a' / 'b', 'training'):
    raise ValueError('a flag')
  assert os.listdir(tmp_path) == []
  (tmp_path / 'a').touch()
  with pytest.raises(OSError, match='Not a directory'), locked_folder(tmp_path / 'a' / 'b', 'x'):
    raise AssertionError
