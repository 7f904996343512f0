"""What all converters share: nothing overwritten, nothing lost, the same bytes whoever runs."""

import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import pytest
from slim_inception.datasets import (
  conversion,
  dataset_info,
  image_folder,
  runners,
  shards,
  verification,
)
from slim_inception.datasets.folder_lock import locked_folder

from tests.datasets.odd_images import JPEG, digest, tree

ROOT = pathlib.Path(__file__).parents[2]
needs_beam = pytest.mark.skipif(
  importlib.util.find_spec('apache_beam') is None,
  reason='extra beam, which holds Pillow and others back: ./run test-beam tests it',
)


def test_nothing_is_overwritten_silently(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  image_folder.convert(str(root), out, conversion.Options(train_shards=3))
  before = digest(out)
  with pytest.raises(FileExistsError, match=r'already holds a data set \(dataset.json\)'):
    image_folder.convert(str(root), out)
  assert digest(out) == before
  (out / 'notes.txt').write_text('mine')
  image_folder.convert(str(root), out, conversion.Options(train_shards=2, overwrite=True))
  assert shards.find_shards(out, 'train') == [
    str(out / f'train-0000{i}-of-00002') for i in range(2)
  ]
  assert (out / 'notes.txt').exists()


def test_records_made_elsewhere_are_not_overwritten(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  out.mkdir()
  (out / 'train-00000-of-01024').write_bytes(b'precious')
  with pytest.raises(FileExistsError, match='train-00000-of-01024'):
    image_folder.convert(str(root), out)
  assert (out / 'train-00000-of-01024').read_bytes() == b'precious'


def test_records_may_not_become_a_class(tmp_path):
  root = tree(tmp_path / 'root', 'ab')
  with pytest.raises(ValueError, match='lies within the source'):
    image_folder.convert(str(root), root / 'out')
  assert sorted(os.listdir(root)) == ['a', 'b']


def test_killed_after_dataset_json(tmp_path, monkeypatch):
  """The set is finished: another source may not replace it."""
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
    patch.setattr(shutil, 'rmtree', lambda path: 1 / 0)
    image_folder.convert(str(root), out)
  before = digest(out)
  other = tree(tmp_path / 'other', 'ab', count=3)
  with pytest.raises(FileExistsError, match=r'already holds a data set \(dataset.json\)'):
    image_folder.convert(str(other), out)
  assert digest(out) == before


def test_killed_while_it_removed_what_was_unpacked(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  image_folder.convert(str(root), out)
  before = digest(out)
  (out / '.conversion').mkdir()
  (out / '.conversion' / 'train.images').write_bytes(b'large')
  with pytest.raises(FileExistsError, match='already holds a data set'):
    image_folder.convert(str(root), out)
  assert digest(out) == before and not (out / '.conversion').exists()


def test_only_one_conversion_at_a_time(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  with locked_folder(out, 'conversion'):
    with pytest.raises(BlockingIOError, match='another conversion writes there: host') as error:
      image_folder.convert(str(root), out)
    assert error.value.filename == str(out)
  image_folder.convert(str(root), out)
  assert not list(out.glob('.*'))


def test_a_folder_that_is_removed_during_a_conversion(tmp_path, monkeypatch):
  """No shard stands alone in a folder of the same name."""
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'

  def remove(path, examples, write_shard=shards.write_shard):
    if '00001' in path:
      shutil.rmtree(out)
    return write_shard(path, examples)

  monkeypatch.setattr(shards, 'write_shard', remove)
  with pytest.raises(FileNotFoundError, match='removed or replaced while this conversion wrote'):
    image_folder.convert(str(root), out)
  assert not out.exists()


def test_bad_image_stops_on_request(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab', count=3), tmp_path / 'out'
  (root / 'a' / 'text.jpg').write_text('Not found')
  strict = conversion.Options(skip_bad=False, validation_fraction=0)
  with pytest.raises(ValueError, match=r'a/text.jpg: not an image .*\(--on_bad_image=fail\)'):
    image_folder.convert(str(root), out, strict)
  assert not (out / 'dataset.json').exists()
  finished = identity(out)
  result = image_folder.convert(str(root), out, conversion.Options(validation_fraction=0))
  assert result.info.splits['train'].num_images == 6
  assert identity(out).items() >= finished.items()


def test_bad_image_that_was_skipped_before(tmp_path, monkeypatch):
  root, out = tree(tmp_path / 'root', 'ab'), tmp_path / 'out'
  for i in range(10):
    (root / 'a' / f'{i}.jpg').write_text('Not found')
  stopped(root, out, monkeypatch)
  with pytest.raises(ValueError, match='--on_bad_image=fail'):
    image_folder.convert(str(root), out, conversion.Options(skip_bad=False))


# Started again


def identity(folder):
  """What changes when a file is written anew."""
  return {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def test_stopped_conversion_goes_on(tmp_path, monkeypatch):
  root, out, whole = tree(tmp_path / 'root', 'ab'), tmp_path / 'out', tmp_path / 'whole'
  image_folder.convert(str(root), whole)
  stopped(root, out, monkeypatch)
  finished = identity(out)
  assert list(finished) == ['train-00000-of-00004']
  (out / '.train-00001-of-00004.other-host-12.partial').write_bytes(b'of a killed process')
  image_folder.convert(str(root), out)
  assert identity(out).items() >= finished.items()
  assert digest(out) == digest(whole)
  assert sorted(os.listdir(out)) == sorted(os.listdir(whole))


def stopped(root, out, monkeypatch):
  """Converts until the second shard."""

  def full(path, examples, write_shard=shards.write_shard):
    if '00001' in path:
      raise OSError(28, 'No space left on device', str(path))
    return write_shard(path, examples)

  with monkeypatch.context() as patch, pytest.raises(OSError, match='No space left'):
    patch.setattr(shards, 'write_shard', full)
    image_folder.convert(str(root), out)


@pytest.mark.parametrize('change', ['seed', 'number of shards', 'image', 'label'])
def test_what_belongs_to_another_conversion_is_not_lost(tmp_path, monkeypatch, change):
  root, out, whole = tree(tmp_path / 'root', 'ab'), tmp_path / 'out', tmp_path / 'whole'
  stopped(root, out, monkeypatch)
  options = {'seed': {'seed': 1}, 'number of shards': {'train_shards': 2}}.get(change, {})
  if change == 'image':
    (root / 'a' / '3.jpg').write_bytes(JPEG + b'\0')
  elif change == 'label':
    (root / 'a' / '3.jpg').rename(root / 'b' / 'from a.jpg')
  before = digest(out)
  with pytest.raises(FileExistsError, match='unfinished conversion .* --overwrite starts over'):
    image_folder.convert(str(root), out, conversion.Options(**options))
  assert digest(out) == before
  for folder in (out, whole):
    image_folder.convert(str(root), folder, conversion.Options(**options, overwrite=True))
  assert digest(out) == digest(whole)


def test_damaged_rest_is_done_again(tmp_path, monkeypatch):
  root, out, whole = tree(tmp_path / 'root', 'ab'), tmp_path / 'out', tmp_path / 'whole'
  stopped(root, out, monkeypatch)
  os.truncate(out / 'train-00000-of-00004', 100)
  for folder in (out, whole):
    image_folder.convert(str(root), folder)
  assert digest(out) == digest(whole)


def wait_for(condition, seconds=30):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'waited too long'
    time.sleep(0.005)


def command(root, out):
  return [
    sys.executable, '-m', 'slim_inception', 'data', '--dataset_name=image_folder',
    f'--source={root}', f'--dataset_dir={out}', '--num_processes=2', '--train_shards=60',
  ]  # fmt: skip


def test_killed_conversion_goes_on(tmp_path):
  """SIGKILL: no handler runs, and the processes of the pool end too."""
  root = tree(tmp_path / 'Bilder für später', 'ab', count=1500)
  out, whole = tmp_path / 'out', tmp_path / 'whole'
  process = subprocess.Popen(command(root, out), stderr=subprocess.DEVNULL)
  wait_for(lambda: len(list(out.glob('.conversion/train-*.json'))) >= 3)
  children = descendants(process.pid)
  assert len(children) >= 3  # two at work, and the server that forked them
  process.send_signal(signal.SIGKILL)
  process.wait()
  wait_for(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in children))
  reports = {p.stem for p in out.glob('.conversion/train-*.json')}
  finished = {name: what for name, what in identity(out).items() if name in reports}
  assert 3 <= len(finished) < 60
  assert not (out / 'dataset.json').exists()

  again = subprocess.run(command(root, out), check=True, capture_output=True, text=True)
  assert f'Going on: {len(finished)} of 61 shards are finished' in again.stderr
  assert identity(out).items() >= finished.items()
  subprocess.run(command(root, whole), check=True, capture_output=True)
  assert digest(out) == digest(whole)


def descendants(pid):
  children = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
  return [*children, *(below for child in children for below in descendants(child))]


def test_interrupted_conversion_says_how_to_go_on(tmp_path):
  root, out = tree(tmp_path / 'root', 'ab', count=1500), tmp_path / 'out'
  process = subprocess.Popen(
    command(root, out),
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,
    # A shell's background job, as these tests may be, ignores SIGINT, and its children with it.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
  )
  wait_for(lambda: len(list(out.glob('.conversion/train-*.json'))) >= 3)
  os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to every process
  _, errors = process.communicate(timeout=30)
  assert process.returncode == 130
  lines = errors.splitlines()
  assert 'shards are finished; the same command goes on from there' in lines[-2]
  assert lines[-1] == 'slim-inception data: interrupted'
  assert not list(out.glob('.train-*.partial'))


@pytest.mark.parametrize('num_processes', [1, 2])
def test_full_disk_keeps_what_is_finished(tmp_path, small_disk, num_processes):
  big = JPEG + b'\0' * 100_000
  root, out = tree(tmp_path / 'root', 'ab', count=30, content=big), small_disk / 'out'
  options = conversion.Options(train_shards=10, validation_fraction=0, num_processes=num_processes)
  with pytest.raises(OSError, match='No space left on device') as error:
    image_folder.convert(str(root), out, options)
  assert pathlib.Path(error.value.filename).parent in (out, out / '.conversion')
  # A shard whose report found no room is written again.
  reports = out / '.conversion'
  finished = {name: i for name, i in identity(out).items() if (reports / f'{name}.json').exists()}
  assert 1 <= len(finished) < 10
  assert shards.find_damage([out / name for name in finished]) is None
  assert not list(out.glob('.*.partial'))
  subprocess.run(['mount', '-o', 'remount,size=40m', small_disk], check=True)
  image_folder.convert(str(root), out, options)
  assert identity(out).items() >= finished.items()


# Who runs


@pytest.mark.parametrize('runner', ['3 processes', pytest.param('beam', marks=needs_beam)])
def test_every_runner_writes_the_same_bytes(tmp_path, runner):
  root = tree(tmp_path / 'root', 'ab', count=30)
  (root / 'a' / 'text.jpg').write_text('Not found')
  one, other = tmp_path / 'one', tmp_path / 'other'
  image_folder.convert(str(root), one)
  options = {'num_processes': 3} if runner == '3 processes' else {'beam': True}
  result = image_folder.convert(str(root), other, conversion.Options(**options))
  assert digest(other) == digest(one)
  assert sorted(os.listdir(other)) == sorted(os.listdir(one))
  assert [entry['file'] for entry in result.skipped] == ['a/text.jpg']


@needs_beam
def test_beam_pipeline_that_fails(tmp_path):
  root = tree(tmp_path / 'root', 'ab')
  (root / 'a' / 'text.jpg').write_text('Not found')
  options = conversion.Options(skip_bad=False, beam=True)
  with pytest.raises(OSError, match=r'the pipeline failed: .*a/text.jpg: not an image'):
    image_folder.convert(str(root), tmp_path / 'out', options)


def test_beam_that_is_not_installed(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'apache_beam', None)
  root, options = tree(tmp_path / 'root', 'ab'), conversion.Options(beam=True)
  with pytest.raises(ValueError, match='--runner=beam needs Apache Beam: pip install'):
    image_folder.convert(str(root), tmp_path / 'out', options)


def test_killed_process_of_the_pool_is_an_error():
  with pytest.raises(OSError, match='a process was killed'), runners.pool(2) as pool:
    pool.submit(os._exit, 1).result()


def test_converting_is_light():
  """TensorFlow's import takes seconds and half a gigabyte, in every process of the pool."""
  code = (
    'import sys; from slim_inception.cli import data;'
    'print({"tensorflow", "numpy", "requests"} & set(sys.modules))'
  )
  assert subprocess.check_output([sys.executable, '-c', code], cwd=ROOT) == b'set()\n'


def test_store_size_is_remembered(tmp_path):
  """In dataset.json; a report counts what was resized, and another size is another conversion."""
  root = tree(tmp_path / 'root', 'ab')
  sizes = {}
  for name, options in {
    'whole': {},
    'small': {'store_size': 12},
    'poor': {'store_size': 12, 'store_quality': 20},
    'large': {'store_size': 1000},
  }.items():
    result = image_folder.convert(str(root), tmp_path / name, conversion.Options(**options))
    report = json.loads((tmp_path / name / conversion.REPORT_FILE).read_text())
    info = dataset_info.read_info(tmp_path / name)
    assert info == result.info and not result.changed
    assert (info.store_size, info.store_quality, report.get('num_resized')) == {
      'whole': (None, None, None),
      'small': (12, 95, result.num_resized),
      'poor': (12, 20, result.num_resized),
      'large': (1000, 95, 0),
    }[name]
    assert result.num_resized == (20 if name in ('small', 'poor') else 0)
    sizes[name] = sum(shard.num_bytes for s in info.splits.values() for shard in s.shards)
    assert verification.verify(tmp_path / name).problems == ()
  assert sizes['poor'] < sizes['small'] and sizes['whole'] == sizes['large']
  with pytest.raises(ValueError, match='--store_quality is of images that --store_size makes'):
    conversion.Options(store_quality=90)
