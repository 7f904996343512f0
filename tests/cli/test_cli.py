"""The training and evaluation scripts as a user starts them: messages and exit statuses."""

import functools
import importlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import pytest
from slim_inception.nets import names, nets_factory
from slim_inception.preprocessing import resizing, values

from slim_inception import choices, cli
from slim_inception.evaluate import views
from slim_inception.train import flag_groups, optimizers
from tests import records, tiny, zygote
from tests.train import processes

pytestmark = pytest.mark.integration


def run(script: str, *arguments: str) -> tuple[int, list[str], str]:
  """Exit status, the lines of stderr, stdout."""
  done = zygote.run(script, *arguments)
  return done.returncode, done.stderr.splitlines(), done.stdout


@pytest.mark.parametrize(
  ('arguments', 'status', 'message'),
  [
    (['--optimizer=lion'], 2, '--optimizer=lion: choose one of adadelta, adagrad, '),
    (['--sync_replicas=true'], 2, '--sync_replicas is removed: training is always synchronous'),
    (['--train_dir='], 2, '--train_dir is empty: '),
    (
      ['--train_dir=x', '--dataset_dir=y', '--data_service=z'],
      2,
      '--data_service=z: must be HOST:',
    ),
    (['--train_dir=/proc/x', '--dataset_dir=no/such/place'], 1, '--train_dir=/proc/x: /proc: '),
    (
      ['--train_dir=no/such', '--dataset_dir=no/such/place'],
      1,
      f"dataset_dir '{pathlib.Path.cwd()}/no/such/place' is no folder",
    ),
  ],
)
def test_training_says_what_is_wrong_in_one_line(arguments, status, message):
  code, (line,), _ = run('train', *arguments)
  assert code == status
  assert line.startswith(f'slim-inception train: {message}')


@pytest.mark.parametrize(
  ('command', 'flag', 'name'),
  [
    ('eval', 'calibrate_batches', 'batch_norm_batches'),
    ('classify', 'member_weights', 'ensemble_weights'),
    ('export', 'weights', 'use_ema'),
    ('convert', 'weights', 'use_ema'),
  ],
)
def test_flags_of_the_first_release_name_their_successors(command, flag, name):
  code, (line,), _ = run(command, f'--{flag}=1', *(['x.jpg'] if command == 'classify' else []))
  assert code == 2
  assert line.startswith(f'slim-inception {command}: --{flag} is removed: its name is --{name}')


@pytest.fixture
def fake_tensorflow(tmp_path, monkeypatch):
  """Writes the package `tensorflow` that new processes import."""

  def write(code: str) -> None:
    (tmp_path / 'fake' / 'tensorflow').mkdir(parents=True)
    (tmp_path / 'fake' / 'tensorflow' / '__init__.py').write_text(code)
    monkeypatch.setenv('PYTHONPATH', f'{tmp_path}/fake')

  return write


@pytest.mark.integration
def test_commands_import_no_keras_and_have_it_all_the_same():
  pytest.importorskip('sklearn')
  program = """
import sys
from slim_inception.cli import quiet
quiet.import_tensorflow()
print([name for name in ('keras', 'tf_keras', 'sklearn', 'tf_slim') if name in sys.modules])
import sklearn, tensorflow as tf
print(tf.keras.losses.Huber.__module__)
"""
  done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=True)
  assert done.stdout.splitlines() == ["['tf_slim']", 'keras.src.losses.losses']
  assert done.stderr == ''


@pytest.mark.parametrize('command', ['', *cli.COMMANDS])
def test_help_needs_no_tensorflow_and_a_reader_may_stop(command, fake_tensorflow):
  fake_tensorflow('raise ImportError("imported")\n')
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  line = f'{sys.executable} -m slim_inception {command} --help | head -n 1'
  done = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  first = 'The Inception family in TensorFlow.'
  if command:
    module = importlib.import_module(f'slim_inception.cli.{cli.COMMANDS[command].module}')
    first = module.__doc__.splitlines()[0]
  assert (done.stdout, done.stderr) == (f'{first}\n', '')
  assert after.ru_utime - before.ru_utime < 2  # seconds of this process, on a busy machine too


@pytest.mark.parametrize(
  ('arguments', 'program', 'code'),
  [
    (['-m', 'slim_inception', 'list'], 'slim-inception list', 'time.sleep(300)'),
    (['train_image_classifier.py', '--train_dir=none'], 'slim-inception train', 'time.sleep(300)'),
    # Modules of C may make another error of it, or call Python code that is broken off.
    (
      ['-m', 'slim_inception', 'list'],
      'slim-inception list',
      'try:\n  time.sleep(300)\nexcept BaseException:\n  raise ImportError',
    ),
    (
      ['-m', 'slim_inception', 'list'],
      'slim-inception list',
      'import ctypes\nrun = ctypes.pythonapi.PyRun_String\n'
      'run.restype, run.argtypes = ctypes.py_object, [ctypes.c_char_p, ctypes.c_int] + 2 * ['
      'ctypes.py_object]\n'
      'run(b"import time; time.sleep(300)", 257, {}, {})  # 257: Py_file_input',
    ),
  ],
)
def test_ctrl_c_while_tensorflow_is_imported(arguments, program, code, fake_tensorflow, tmp_path):
  fake_tensorflow(f'import time\nopen({str(tmp_path / "begun")!r}, "w").close()\n{code}\n')
  with subprocess.Popen(
    [sys.executable, *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # Tests that run in the background of a shell ignore SIGINT, and what they start does so too.
    preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
  ) as run:
    deadline = time.monotonic() + 60
    while not (tmp_path / 'begun').exists() and run.poll() is None:
      assert time.monotonic() < deadline
      time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
  assert (run.returncode, output, errors) == (130, '', f'{program}: interrupted\n')


def test_a_full_disk_behind_standard_output():
  command = f'{sys.executable} -m slim_inception --help > /dev/full'
  done = subprocess.run(command, shell=True, capture_output=True, text=True)
  assert done.returncode == 1
  assert done.stderr == 'slim-inception: standard output: No space left on device\n'


def test_names_that_help_lists_are_those_of_the_modules():
  assert (tuple(nets_factory.NETS), choices.net_names()) == ((*names.NAMES, tiny.NAME),) * 2
  assert tuple(optimizers.RULES) == flag_groups.OPTIMIZERS
  assert tuple(views._LAYOUTS) == choices.CROPS
  assert tuple(resizing._KERNELS) == values.INTERPOLATIONS


def test_evaluation_without_a_checkpoint(tmp_path):
  """A process that imports TensorFlow itself: of that nothing is seen."""
  command = [sys.executable, '-m', 'slim_inception', 'eval', f'--checkpoint_path={tmp_path}/none']
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith(f'slim-inception eval: {tmp_path}/none does not exist, neither a file')


@pytest.mark.slow
def test_two_workers_that_share_nothing_train(tmp_path):
  """Interpreters of their own, whose sets have other orders: forks would have the same."""
  data = records.write_set(tmp_path / 'data')
  flags = {
    **processes.flags_of(tmp_path / 'run', data, max_number_of_steps=2),
    'model_name': 'inception_v3',
    'depth_multiplier': 0.1,
    'train_image_size': 75,
  }
  ports = processes.free_ports(2)
  workers = [
    subprocess.Popen(
      [
        *(sys.executable, '-m', 'slim_inception', 'train'),
        *(f'--{name}={value}' for name, value in flags.items()),
      ],
      env={**os.environ, **processes.task(ports, index), 'PYTHONHASHSEED': str(index)},
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
  for worker in workers:
    _, errors = worker.communicate(timeout=processes.TIMEOUT)
    assert worker.returncode == 0, errors
  assert [entry['step'] for entry in processes.metrics(tmp_path / 'run')] == [1, 2]


def test_help_lists_the_flags():
  code, _, text = run('train', '--help')
  assert code == 0
  assert 'goes on where it stopped' in text
  assert '--learning_rate_decay_type' in text


def test_what_evaluation_and_export_print(tmp_path):
  data = records.write_set(tmp_path / 'data', count=6, split='validation')
  prefix = str(tmp_path / 'model.ckpt')
  nets_factory.create_model(tiny.NAME, 3).save(prefix)
  flags = [f'--model_name={tiny.NAME}', '--preprocessing_name=inception']
  flags += ['--dataset_name=image_folder', f'--dataset_dir={data}']
  paths = f'--checkpoint_path={prefix},{prefix}'
  code, lines, text = run('eval', *flags, paths, f'--eval_dir={tmp_path}/eval')
  assert code == 0, lines
  printed = dict(line.split(' ', 1) for line in text.splitlines())
  assert printed['num_images'] == '6'
  assert 'top_1_interval' in printed and 'top_5' not in printed  # of three classes
  assert printed['member'].startswith(f'{tiny.NAME} top_1 {printed["top_1"]} share 0.5')
  assert float(printed['images_per_second']) > 0
  assert 'top_5' in json.loads((tmp_path / 'eval' / 'metrics.json').read_text())
  assert lines[0].startswith('Evaluating on image_folder validation: 6 images, 3 classes; on CPU (')
  assert printed['written'] == f'to {tmp_path}/eval'
  code, lines, text = run(
    'export', *flags, f'--checkpoint_path={prefix}', f'--output={tmp_path}/exported'
  )
  assert code == 0, lines
  assert text.startswith(f'written to {tmp_path}/exported; read back, on ')
  assert lines == [  # and none of TensorFlow's
    f'Exporting {prefix} to {tmp_path}/exported as saved_model',
    f'{prefix}: {tiny.NAME}, plain weights, 32 x 32 pixels',
    'Writing saved_model',
  ]


def test_a_net_is_drawn_and_its_table_printed(tmp_path):
  code, lines, text = run(
    'show', 'inception_v4', '--json', f'--output={tmp_path}/v4.svg', '--image_size=160'
  )
  assert (code, lines) == (0, [])
  assert json.loads(text)['image_size'] == 160
  assert 'image of 160 x 160; compressed view' in (tmp_path / 'v4.svg').read_text()


def test_the_table_of_a_net_and_what_is_refused():
  code, _, text = run('show', 'inception_v3', '--table')
  assert code == 0
  assert 'Mixed_7c' in text
  code, lines, _ = run('show', 'inception_v3', 'inception_v4')
  message = "unexpected argument 'inception_v4': one net at a time"
  assert (code, lines) == (2, [f'slim-inception show: {message}'])
  code, (line,), _ = run('show', 'inception_v5')
  message = "Unknown net 'inception_v5'; choose one of inception_v1, inception_v2, "
  assert code == 1
  assert line.startswith(f'slim-inception show: {message}')


def test_the_nets_are_listed():
  code, lines, text = run('list')
  assert (code, lines) == (0, [])
  assert 'inception_v4          299  46,009,106  42,649,769  12.25  arXiv:1602.07261' in text
  assert 'inception_v4_2016_09_09' in text


def test_training_straight_from_images(tmp_path):
  """The first run makes records, which the second and both evaluations use."""
  root = tmp_path / 'photos'
  for number in range(30):
    (root / f'color {number % 3}').mkdir(parents=True, exist_ok=True)
    (root / f'color {number % 3}' / f'{number}.jpg').write_bytes(records.image(number % 3, number))
  flags = {'max_number_of_steps': 1, 'dataset_name': 'imagenet'}  # the default
  train_dirs = [tmp_path / 'first', tmp_path / 'second']
  (first, second) = (
    processes.finish(processes.start(train_dir, root, **flags))[0] for train_dir in train_dirs
  )
  made = f'{root} is no folder of records: they are made in'
  assert first[0] == second[0] == 0, first[1] + second[1]
  assert made in first[1] and made not in second[1] and 'The records of' in second[1]
  (folder,) = (tmp_path / '.slim_inception_records').iterdir()
  written = json.loads((train_dirs[1] / 'config.json').read_text())
  assert (written['dataset_name'], written['dataset_dir']) == ('image_folder', str(folder))
  for where in ([], [f'--dataset_dir={root}']):
    status, errors, output = run('eval', f'--checkpoint_path={train_dirs[0]}', *where)
    assert status == 0, errors
    assert 'num_images 3' in output.splitlines()
