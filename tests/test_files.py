"""Files that are written whole or not at all, and their forms."""

import csv
import errno
import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from slim_inception import files
from slim_inception.cli import console


def names(folder):
  return sorted(os.listdir(folder))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('old')
  with pytest.raises(OSError, match='full'), files.atomic_text(path) as file:
    file.write('half')
    file.flush()
    temporary = next(name for name in names(tmp_path) if name != 'a.txt')
    assert temporary.startswith('.a.txt.') and temporary.endswith(f'-{os.getpid()}.partial')
    raise OSError('disk is full')
  assert (names(tmp_path), path.read_text()) == (['a.txt'], 'old')
  with files.atomic_text(path) as file:
    file.write('new\n')
  assert (names(tmp_path), path.read_text()) == (['a.txt'], 'new\n')


def test_sweep_takes_only_its_own_leftovers(tmp_path):
  kept = ['a', '.a', '.a.partial', 'a.host-1.partial', '.b.host-1.partial', '.a.host-1.partial.d']
  for name in (*kept[:-1], '.a.host-1.partial', '.a.other-host-23.partial.index'):
    (tmp_path / name).write_text('')
  (tmp_path / kept[-1]).mkdir()
  files.temporary_path(tmp_path / 'a').write_text('')
  files.sweep(tmp_path, 'a')
  assert names(tmp_path) == sorted(kept)
  files.sweep(tmp_path / 'nowhere', '.*')


def test_json(tmp_path):
  path = tmp_path / 'a.json'
  assert files.read_json(path) is None
  content = {'name': 'Bär', 'file': os.fsdecode(b'\xff.jpg'), 'values': [1, 0.1, None]}
  files.write_json(path, content)
  assert 'Bär' in path.read_text('utf-8')
  assert files.read_json(path) == content
  path.write_bytes(b'{"\xff')
  with pytest.raises(ValueError, match=r'a\.json is no valid JSON: '):
    files.read_json(path)


def test_json_lines(tmp_path):
  path = tmp_path / 'a.jsonl'
  assert files.read_json_lines(path) == []
  files.append_json_lines(path, [{'step': 1}])
  with open(path, 'a') as file:
    file.write('{"step": 2}\nnoise \\ufffd\n[3]\n{"step": 4')
  files.append_json_lines(path, [{'step': 5, 'loss': 0.1}])
  objects = files.read_json_lines(path)
  assert objects == [{'step': 1}, {'step': 2}, {'step': 5, 'loss': 0.1}]
  files.write_json_lines(path, objects)
  assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n{"step": 5, "loss": 0.1}\n'


def test_tables(tmp_path):
  path = tmp_path / 'a.csv'
  rows = [('a,b', 0.5), (os.fsdecode(b'\xff'), None)]
  files.write_csv(path, ['name', 'value'], rows)
  assert path.read_bytes() == b'name,value\r\n"a,b",0.5\r\n\\udcff,\r\n'
  files.append_text(path, 'c,1\r\n', header='name,value\r\n')
  assert path.read_bytes().endswith(b',\r\nc,1\r\n')
  assert files.text_table([('net', 'top-1', ''), ('tiny', '7.25', 'x')], left=(0, 2)) == [
    'net   top-1',
    'tiny   7.25  x',
  ]


@pytest.mark.parametrize(
  ('text', 'shown'),
  [
    ('Bär.jpg', 'Bär.jpg'),
    ('a\x1b[2Jb\rx\n', r'a\x1b[2Jb\x0dx\x0a'),
    ('\x00\x1f \x7f\x80\x9b\x9f\xa0', '\\x00\\x1f \\x7f\\x80\\x9b\\x9f\xa0'),
    (os.fsdecode(b'\xff.jpg'), r'\udcff.jpg'),
    ('\ud800', r'\ud800'),
  ],
)
def test_printable(text, shown):
  assert files.printable(text) == shown
  assert files.printable(text).encode('utf-8')


def fill(write, path):
  with files.naming_full_disk(path):
    write(path)
  raise AssertionError('there is room')


def write_summary(path):
  with tf.summary.create_file_writer(os.fspath(path)).as_default():
    tf.summary.scalar('loss', 1.0, 1)
    tf.summary.flush()


def write_profile(path):
  tf.profiler.experimental.start(os.fspath(path))
  tf.profiler.experimental.stop()


def write_hdf5(path):
  with h5py.File(path, 'w') as file:
    file['a'] = np.zeros(100_000)


def write_atomically(path):
  with files.atomic_text(path) as file:
    file.write('text')


def copy_atomically(path):
  with files.atomic_path(path) as temporary:
    shutil.copyfile(__file__, temporary)


@pytest.mark.parametrize(
  'write',
  [
    write_atomically,
    copy_atomically,
    write_summary,
    write_profile,
    write_hdf5,
    lambda path: safetensors.numpy.save_file({'a': np.zeros(100_000)}, path),
    lambda path: tf.io.write_file(os.fspath(path), 'text'),
    lambda path: tf.raw_ops.SaveV2(
      prefix=os.fspath(path), tensor_names=['a'], shape_and_slices=[''], tensors=[tf.ones(9)]
    ),
  ],
)
def test_a_full_disk_is_known_whatever_library_writes(write, full_disk):
  path = full_disk / 'file'
  with pytest.raises(OSError) as error:
    fill(write, path)
  assert files.is_disk_full(error.value)
  assert error.value.filename == str(path)
  assert console.one_line(error.value) == f'{path}: No space left on device'
  if write not in (write_atomically, copy_atomically):
    with pytest.raises(Exception) as raw:
      write(path)
    assert files.is_disk_full(raw.value)


def exhausted(message):
  return tf.errors.ResourceExhaustedError(None, None, message)


@pytest.mark.parametrize(
  ('error', 'number', 'line'),
  [
    (exhausted('OOM when allocating tensor\nand a page'), None, 'OOM when allocating tensor'),
    (
      exhausted('{{function_node __wrapped__SaveV2_d_1}} /a; No space left on device [Op:SaveV2]'),
      errno.ENOSPC,
      '/a: No space left on device',
    ),
    (exhausted('/a b; Disk quota exceeded'), errno.EDQUOT, '/a b: Disk quota exceeded'),
    (exhausted('/a; Too many open files'), errno.EMFILE, '/a: Too many open files'),
    (
      tf.errors.PermissionDeniedError(None, None, '/a; Permission denied\n\tmore'),
      errno.EACCES,
      '/a: Permission denied',
    ),
    (ValueError('a.ckpt; Permission denied'), None, 'a.ckpt; Permission denied'),
    (ValueError('\x1b[31mred\nsecond'), None, '\x1b[31mred'),
    (OSError(errno.ENOENT, 'No such file or directory', 'a\nb'), errno.ENOENT, None),
    (OSError('all is well'), None, 'all is well'),
    (ValueError(), None, 'ValueError'),
    (MemoryError(), None, 'not enough memory'),
  ],
)
def test_the_cause_of_an_error_and_its_line(error, number, line):
  cause = files.system_error(error)
  assert (cause and cause.errno) == number
  assert files.is_disk_full(error) == (number in (errno.ENOSPC, errno.EDQUOT))
  assert console.one_line(error) == (line or 'a\nb: No such file or directory')


@pytest.mark.parametrize(
  ('text', 'cell'),
  [
    ('Bär, "x"', 'Bär, "x"'),
    ('=cmd|calc', "'=cmd|calc"),
    ('@SUM(1)', "'@SUM(1)"),
    ('+1-2', "'+1-2"),
    ('-dash/1.jpg', "'-dash/1.jpg"),
    ("'tis", "'tis"),
    ("'=1", "''=1"),
    ('\uff1d1', "'\uff1d1"),
    ('\t=1', r'\x09=1'),
    ('\r@a', r'\x0d@a'),
    ('a\n\x1b[1m', r'a\x0a\x1b[1m'),
    ('-1.5e-07', '-1.5e-07'),
    ('+2', '+2'),
    ('', ''),
  ],
)
def test_cells_that_a_spreadsheet_does_not_compute(text, cell, tmp_path):
  files.write_csv(tmp_path / 'a.csv', ['name', 'value'], [(text, -1)])
  with open(tmp_path / 'a.csv', encoding='utf-8', newline='') as file:
    assert list(csv.reader(file)) == [['name', 'value'], [cell, '-1']]


def test_json_has_the_text_itself_and_no_codes_for_terminals(tmp_path):
  content = {'name': 'Bär \x1b[31m\x7f\x9b\n', 'file': os.fsdecode(b'\xff'), 'lone': '\ud800'}
  files.write_json(tmp_path / 'a.json', content)
  text = (tmp_path / 'a.json').read_text('utf-8')
  assert 'Bär' in text
  assert files.printable(text.replace('\n', '')) == text.replace('\n', '')
  assert json.loads(text) == content


def test_a_terminal_only_shows_what_is_said_and_logged(capsys):
  console.say('a\x1b[31m', 'b\nc')
  assert capsys.readouterr().out == 'a\\x1b[31m\nb\\x0ac\n'


def test_lines_of_several_processes(tmp_path):
  path = tmp_path / 'lines.jsonl'
  code = """
import sys
from slim_inception import files
for i in range(20):
  files.append_json_lines(sys.argv[1], [{'step': i}])
"""
  processes = [subprocess.Popen([sys.executable, '-c', code, path]) for _ in range(4)]
  assert [process.wait(60) for process in processes] == [0] * 4
  assert sorted(line['step'] for line in files.read_json_lines(path)) == sorted([*range(20)] * 4)
