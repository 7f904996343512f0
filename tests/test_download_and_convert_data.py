"""The script as users start it: what it prints, where, and its exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
# Importing TensorFlow takes seconds: one process imports it and forks for each command line.
DRIVER = """
import json, os, sys
import download_and_convert_data as script
for number, arguments in enumerate(json.load(sys.stdin)):
  if os.fork() == 0:
    for descriptor, name in ((1, 'out'), (2, 'err')):
      os.dup2(os.open(f'{number}.{name}', os.O_CREAT | os.O_WRONLY), descriptor)
    sys.argv = ['download_and_convert_data.py', *arguments]
    try:
      script.console()
    except SystemExit as end:
      sys.stdout.flush(), sys.stderr.flush()
      os._exit(end.code or 0)  # TensorFlow's own exit takes a second
  with open(f'{number}.status', 'w') as file:
    file.write(str(os.waitstatus_to_exitcode(os.wait()[1])))
"""


def start(command, folder, **options):
  environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'TF_CPP_MIN_LOG_LEVEL': '2'}
  return subprocess.run(
    [sys.executable, *command],
    cwd=folder,
    env=environment,
    text=True,
    capture_output=True,
    timeout=120,
    **options,
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('scripts')
  for name in ('cats', 'dogs'):
    (folder / 'my photos' / name).mkdir(parents=True)
    for i in range(5):
      Image.new('RGB', (20, 30), (i, 0, 0)).save(folder / 'my photos' / name / f'{i}.jpg')
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
  'debug': '--dataset_name=image_folder|--source=nowhere|--dataset_dir=new|--debug',
  'help': '--help',
}


@pytest.fixture(scope='module')
def results(folder):
  """Name of a command -> its exit status, stdout and stderr."""
  arguments = json.dumps([line.split('|') for line in COMMANDS.values()])
  driver = start(['-c', DRIVER], folder, input=arguments)
  assert driver.returncode == 0, driver.stderr
  read = {}
  for number, name in enumerate(COMMANDS):
    status, out, err = (
      (folder / f'{number}.{kind}').read_text() for kind in ('status', 'out', 'err')
    )
    read[name] = (int(status), out, err)
  return read


def test_good_conversion_ends_with_what_comes_next(results, folder):
  status, out, err = results['good']
  assert status == 0
  assert out.splitlines() == [
    'train: 8 pictures in 4 shards',
    'validation: 2 pictures in 1 shard',
    '2 classes; 1 files skipped',
    'Written to my records. Next:',
    "  python train_image_classifier.py --dataset_name=image_folder --dataset_dir='my records' "
    '--train_dir=...',
  ]
  assert err.splitlines() == [
    'skipped 1 files, such as dogs/page.jpg (not a picture in any known format); '
    'all are listed in my records/conversion_report.json',
    '  1 x not a picture in any known format',
  ]
  assert (folder / 'my records' / 'dataset.json').exists()


@pytest.mark.parametrize(
  ('name', 'expected_status', 'parts'),
  [
    ('again', 1, ['my records already holds a data set', '--overwrite']),
    ('no source', 1, ['source nowhere does not exist', '<class>/*.jpg']),
    ('fraction', 2, ['--validation_fraction=2', '[0.0, 1.0]']),
    ('shards', 2, ['--train_shards=0', '[1, 99999]']),
    ('data set', 2, ['--dataset_name=birds', 'digits|image_folder|imagenet']),
    ('flag', 2, ["'dataset_nam'", 'Did you mean: dataset_name']),
    ('required', 2, ['--dataset_dir']),
    ('number', 2, ['--seed=x']),
    ('argument', 2, ["unexpected argument 'digits'"]),
  ],
)
def test_errors_are_one_line(results, folder, name, expected_status, parts):
  status, out, err = results[name]
  assert status == expected_status
  assert out == ''
  (line,) = err.splitlines()
  assert line.startswith('download_and_convert_data: ')
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
  assert out.startswith('Converts a data set to records.')
  assert '--validation_fraction: Share of each class' in out


def test_start_up_is_silent(tmp_path):
  """TensorFlow's start-up chatter does not hide the one line that matters."""
  script = ROOT / 'download_and_convert_data.py'
  result = start([str(script), '--dataset_name=digits', '--dataset_dir=digits'], tmp_path)
  assert (result.returncode, result.stderr) == (0, '')
  assert result.stdout.startswith('train: 1437 pictures in 4 shards\nvalidation: 360 pictures')
