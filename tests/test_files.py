"""Files that are written whole or not at all, and their forms."""

import os

import pytest

from slim_inception import files


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
