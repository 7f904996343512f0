"""--log: what Weights & Biases and MLflow get, and what becomes of a run when they fail.

Both packages are optional, and their tests are left out where they are not installed.
"""

import json
import shutil
import struct
import sys

import pytest

from slim_inception.train import events, trackers, trainer
from tests import records
from tests.train import processes

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=12)


def config(data, train_dir, **kwargs):
  flags = {'learning_rate_decay_type': 'polynomial', 'log_every_n_steps': 2, **kwargs}
  return processes.config(train_dir, data, **flags)


def logged(train_dir, key='loss'):
  return [(e['step'], e[key]) for e in processes.metrics(train_dir) if key in e]


def evaluate(prefix):
  return {'num_images': 12, 'top_1': 0.25, 'top_5': 1.0}


# MLflow


@pytest.fixture
def mlflow(tmp_path, monkeypatch):
  """Its client, with a store in a file."""
  pytest.importorskip('mlflow', exc_type=ImportError)
  pytest.importorskip('sqlalchemy')
  monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
  from mlflow.tracking import MlflowClient

  return MlflowClient(f'sqlite:///{tmp_path}/mlflow.db')


@pytest.mark.filterwarnings('ignore')  # its own, and those of what it brings along
def test_mlflow_gets_what_metrics_jsonl_has_and_goes_on_in_the_same_run(mlflow, data, tmp_path):
  flags = {'log': 'mlflow', 'eval_interval_epochs': 1}
  train_dir = tmp_path / 'run'
  trainer.train(config(data, train_dir, max_number_of_steps=4, **flags), evaluate)
  (run_id,) = json.loads((train_dir / 'tracker.json').read_text()).values()
  assert mlflow.get_run(run_id).info.status == 'FINISHED'
  trainer.train(config(data, train_dir, max_number_of_steps=6, **flags), evaluate)
  experiment = mlflow.get_experiment_by_name('slim-inception')
  (run,) = mlflow.search_runs([experiment.experiment_id])
  assert (run.info.run_id, run.info.run_name, run.info.status) == (run_id, 'run', 'FINISHED')
  for key in ('loss', 'learning_rate', 'images_per_second', 'eval_top_1'):
    history = [(metric.step, metric.value) for metric in mlflow.get_metric_history(run_id, key)]
    assert history == [(s, pytest.approx(v)) for s, v in logged(train_dir, key)], key
  assert run.data.params['model_name'] == 'inception_tiny'
  assert run.data.params['global_batch_size'] == '4'


@pytest.mark.filterwarnings('ignore')
def test_a_store_that_is_gone_in_mid_run_stops_nothing(mlflow, data, tmp_path, caplog):
  train_dir, store = tmp_path / 'run', tmp_path / 'mlflow.db'

  def lose_the_store(prefix):
    if store.is_file():
      store.unlink()
      store.mkdir()
    return evaluate(prefix)

  flags = {'log': 'mlflow', 'eval_interval_epochs': 1}
  trainer.train(config(data, train_dir, max_number_of_steps=8, **flags), lose_the_store)
  assert [step for step, _ in logged(train_dir)] == [2, 4, 6, 8]
  warnings = [r.getMessage() for r in caplog.records if '--log=mlflow' in r.getMessage()]
  assert len(warnings) == 1 and warnings[0].endswith('nothing more goes there, and the run goes on')
  assert '\n' not in warnings[0]
  # A run that goes on does so too; one that begins says what is wrong.
  trainer.train(config(data, train_dir, max_number_of_steps=9, **flags), evaluate)
  assert logged(train_dir)[-1][0] == 9
  shutil.rmtree(train_dir)
  with pytest.raises(ValueError, match='^--log=mlflow: '):
    trainer.train(config(data, train_dir, max_number_of_steps=1, log='mlflow'))


# Weights & Biases


def wandb_records(path):
  """The records of a .wandb file: LevelDB's log after a head of 7 bytes, in blocks of 32 kB."""
  from wandb.proto import wandb_internal_pb2

  content, position, parts = path.read_bytes(), 7, b''
  while position + 7 <= len(content):
    if (left := 32768 - position % 32768) < 7:
      position += left
      continue
    _, length, kind = struct.unpack_from('<IHB', content, position)
    if kind == 0:
      break
    parts += content[position + 7 : position + 7 + length]
    position += 7 + length
    if kind in (1, 4):  # whole, or the last part
      yield wandb_internal_pb2.Record.FromString(parts)
      parts = b''


def wandb_history(folder):
  """{key: [(global_step, value)]} of all starts of a run, in order."""
  history = {}
  for path in sorted(folder.glob('wandb/offline-run-*/*.wandb')):
    for record in wandb_records(path):
      if record.HasField('history'):
        row = {item.key or item.nested_key[0]: json.loads(item.value_json)
               for item in record.history.item}  # fmt: skip
        for key, value in row.items():
          history.setdefault(key, []).append((row['global_step'], value))
  return history


@pytest.mark.filterwarnings('ignore')
def test_wandb_gets_what_metrics_jsonl_has_and_goes_on_in_the_same_run(data, tmp_path, monkeypatch):
  pytest.importorskip('wandb', exc_type=ImportError)
  monkeypatch.setenv('WANDB_MODE', 'offline')
  monkeypatch.setenv('WANDB_SILENT', 'true')
  flags = {'log': 'wandb', 'eval_interval_epochs': 1}
  train_dir = tmp_path / 'run'
  for steps in (4, 6):
    trainer.train(config(data, train_dir, max_number_of_steps=steps, **flags), evaluate)
  (run_id,) = json.loads((train_dir / 'tracker.json').read_text()).values()
  paths = sorted(train_dir.glob('wandb/offline-run-*/*.wandb'))
  assert len(paths) == 2 and {path.name for path in paths} == {f'run-{run_id}.wandb'}
  history = wandb_history(train_dir)
  for key in ('loss', 'learning_rate', 'images_per_second', 'eval_top_1'):
    assert history[key] == [(s, pytest.approx(v)) for s, v in logged(train_dir, key)], key
  everything = [record for path in paths for record in wandb_records(path)]
  (first, *_) = [record.run for record in everything if record.HasField('run')]
  assert (first.run_id, first.project, first.display_name) == (run_id, 'slim-inception', 'run')
  updates = [u for r in everything if r.HasField('config') for u in r.config.update]
  assert {'model_name': '"inception_tiny"'}.items() <= {
    u.key: u.value_json for u in updates
  }.items()
  assert all(r.exit.exit_code == 0 for r in everything if r.HasField('exit'))


# Both


@pytest.mark.parametrize('name', ['mlflow', 'wandb'])
def test_a_missing_package_is_one_line_before_the_work(name, data, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(
    ValueError, match=rf"--log={name} needs a package: pip install '.*\[{name}\]'"
  ):
    trainer.train(config(data, tmp_path / 'run', log=name))
  assert not (tmp_path / 'run').exists()


class Failing:
  """Fails from the second step on."""

  def __init__(self):
    self.taken = []

  def scalars(self, step, values):
    self.taken.append((step, values))
    if len(self.taken) == 2:
      raise RuntimeError('\nthe server\nis gone')

  def finish(self, status):
    raise AssertionError('nothing more goes there')


def test_after_its_first_error_a_tracker_is_left_alone(caplog):
  failing = Failing()
  guarded = trackers.Guarded('wandb', failing)
  for step in (1, 2, 3):
    guarded.scalars(step, {'loss': 2.0, 'gradient_norm': float('inf')})
  guarded.finish(events.FINISHED)
  assert failing.taken == [(1, {'loss': 2.0}), (2, {'loss': 2.0})]
  assert caplog.messages == [
    '--log=wandb: the server; nothing more goes there, and the run goes on'
  ]
