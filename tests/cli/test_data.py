"""The script as users start it: what it prints, where, and its exit status."""

import shutil

import pytest
from PIL import Image

from tests import zygote

pytestmark = pytest.mark.integration


def start(folder, *arguments):
  """Runs the script; returns exit status, stdout and stderr."""
  done = zygote.run('data', *arguments, cwd=folder)
  return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('scripts')
  for red, name in enumerate(('cats', 'dogs')):
    (folder / 'my photos' / name).mkdir(parents=True)
    for i in range(5):
      Image.new('RGB', (20, 30), (250 * red, 50 * i, 0)).save(
        folder / 'my photos' / name / f'{i}.jpg'
      )
  (folder / 'my photos' / 'dogs' / 'page.jpg').write_text('<html>')
  return folder


COMMANDS = {
  'good': '--dataset_name=image_folder|--source=my photos|--dataset_dir=my records',
  'again': '--dataset_name=image_folder|--source=my photos|--dataset_dir=my records',
  'no source': '--dataset_name=image_folder|--source=nowhere|--dataset_dir=new',
  'data set': '--dataset_name=birds|--dataset_dir=new',
  'flag': '--dataset_nam=digits|--dataset_dir=new',
  'required': '--dataset_name=digits',
  'number': '--dataset_name=digits|--dataset_dir=new|--seed=x',
  'argument': '--dataset_name=digits|--dataset_dir=new|digits',
  'fraction': '--dataset_name=digits|--dataset_dir=new|--validation_fraction=2',
  'shards': '--dataset_name=digits|--dataset_dir=new|--train_shards=0',
  'processes': '--dataset_name=digits|--dataset_dir=new|--num_processes=0',
  'no name': '--dataset_dir=new',
  'recognized': '--source=my photos|--dataset_dir=recognized',
  'beam options': '--dataset_name=digits|--dataset_dir=new|--beam_options=--runner=X',
  'nothing to verify': '--verify|--dataset_dir=nowhere',
  'debug': '--dataset_name=image_folder|--source=nowhere|--dataset_dir=new|--debug',
  'help': '--help',
}


@pytest.fixture(scope='module')
def results(folder):
  """Name of a command -> its exit status, stdout and stderr."""
  return {name: start(folder, *line.split('|')) for name, line in COMMANDS.items()}


def test_good_conversion_ends_with_what_comes_next(results, folder):
  status, out, err = results['good']
  assert status == 0
  assert out.splitlines() == [
    'train: 8 images in 4 shards',
    'validation: 2 images in 1 shard',
    '2 classes; 1 files skipped',
    'Written to my records. Next:',
    "  slim-inception train --dataset_name=image_folder --dataset_dir='my records' --train_dir=...",
  ]
  assert err.splitlines() == [
    'skipped 1 files, such as dogs/page.jpg (not an image in any known format); '
    'all are listed in my records/conversion_report.json',
    '  1 x not an image in any known format',
  ]
  assert (folder / 'my records' / 'dataset.json').exists()


def test_a_source_is_recognized(results):
  status, out, err = results['recognized']
  assert status == 0
  assert out.splitlines()[0] == 'train: 8 images in 4 shards'
  first, *_ = err.splitlines()
  assert first.endswith(
    'my photos is recognized as image_folder: a folder of folders, with the image cats/0.jpg'
  )


@pytest.mark.parametrize(
  ('name', 'expected_status', 'parts'),
  [
    ('again', 1, ['my records already holds a data set', '--overwrite']),
    ('no source', 1, ['source nowhere does not exist', '<class>/*.jpg']),
    ('fraction', 2, ['--validation_fraction=2: must be a number, at least 0, at most 1']),
    ('shards', 2, ['--train_shards=0', 'at least 1, at most 99999']),
    ('data set', 2, ['--dataset_name=birds: choose one of cifar10, cifar100, digits, flowers']),
    ('processes', 2, ['--num_processes=0']),
    (
      'no name',
      2,
      ['--source is needed, or a --dataset_name that needs none: ', 'digits, flowers, '],
    ),
    ('beam options', 2, ['--beam_options needs --runner=beam']),
    ('nothing to verify', 1, ['nowhere: No such file or directory']),
    ('flag', 2, ["'dataset_nam'", 'Did you mean: dataset_name']),
    ('required', 2, ['--dataset_dir must be given: The records are written to this']),
    ('number', 2, ['--seed=x']),
    ('argument', 2, ["unexpected argument 'digits'"]),
  ],
)
def test_errors_are_one_line(results, folder, name, expected_status, parts):
  status, out, err = results[name]
  assert status == expected_status
  assert out == ''
  (line,) = err.splitlines()
  assert line.startswith('slim-inception data: ')
  for part in parts:
    assert part in line
  assert not (folder / 'new').exists()


def test_debug_shows_the_traceback(results):
  status, _, err = results['debug']
  assert status == 1
  assert 'Traceback' in err and 'FileNotFoundError' in err


def test_help_lists_the_flags(results):
  status, out, _ = results['help']
  assert status == 0
  assert out.startswith('Converts a data set to records, or verifies records.')
  assert '--validation_fraction: This share of the images of each class' in out


def test_start_up_is_silent(tmp_path):
  pytest.importorskip('sklearn', reason='extra demo')
  status, out, err = start(tmp_path, '--dataset_name=digits', '--dataset_dir=digits')
  assert (status, err) == (0, '')
  assert out.startswith('train: 1437 images in 4 shards\nvalidation: 360 images')


def test_verify(results, folder):
  assert results['good'][0] == 0
  assert start(folder, '--verify', '--dataset_dir=my records') == (
    0, '10 records in 5 shards read; all is well\n', '',
  )  # fmt: skip
  damaged = folder / 'damaged'
  shutil.copytree(folder / 'my records', damaged)
  (damaged / 'train-00001-of-00004').unlink()
  status, out, err = start(folder, '--verify', '--dataset_dir=damaged')
  assert status == 1
  assert out == '8 records in 4 shards read; 3 problems\n'
  assert err.splitlines()[0] == ('damaged/train-00001-of-00004 is missing; dataset.json lists it')
