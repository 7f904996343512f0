"""Several processes that train together, on this machine."""

import json
import signal
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoint_files, checkpoints

from slim_inception import cluster, flags
from slim_inception.evaluate import during_training
from slim_inception.input import record_order
from slim_inception.train import trainer
from slim_inception.train.flag_groups import BatchConfig
from slim_inception.train.plan import per_replica_batch
from tests import records, zygote
from tests.train import overflow, processes

pytestmark = pytest.mark.integration


def losses(train_dir):
  return {e['step']: e['loss'] for e in processes.metrics(train_dir) if 'loss' in e}


def check_same(found_dir, expected_dir):
  assert list(losses(found_dir)) == list(losses(expected_dir))
  for step, loss in losses(expected_dir).items():
    assert losses(found_dir)[step] == pytest.approx(loss, rel=1e-3), step
  found, expected = processes.weights(found_dir), processes.weights(expected_dir)
  assert found['input_position'] == expected['input_position']
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=0.05, atol=0.01, err_msg=name)


def test_two_workers_do_what_two_replicas_do(data, tmp_path):
  two, one = tmp_path / 'two', tmp_path / 'one'
  flags = {'max_number_of_steps': 4, 'moving_average_decay': 0.5}
  with processes.cluster(two, data, **flags) as workers:
    trainer.train(processes.config(one, data, num_clones=2, **flags))
    (status, chief), (_, other) = processes.finish(*workers)
  assert status == 0, chief
  assert 'step 4/4' in chief
  assert 'step' not in other
  names = sorted(path.name.split('.')[0] for path in two.iterdir())
  assert names == [
    *('checkpoint', 'config', 'events', 'history', 'metrics', 'model', 'model', 'model')
  ]
  check_same(two, one)


PREPARED = """
import pathlib, sys
import tensorflow as tf
from tests import tiny
tiny.register()
from slim_inception.evaluate import during_training
from tests.train import processes

config = processes.config(*map(pathlib.Path, sys.argv[1:]), eval_interval_epochs=1.0)
assert during_training.evaluator_of(config)
cpu, = tf.config.list_physical_devices('CPU')
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
"""


def test_an_evaluation_is_prepared_before_workers_are_joined(data, tmp_path):
  """Once TensorFlow has started, it takes neither workers nor other devices."""
  records.write_set(data, split='validation')
  done = zygote.run(tmp_path, data, code=PREPARED)
  assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_two_workers_started_again_go_on(data, tmp_path):
  two, one = tmp_path / 'two', tmp_path / 'one'
  for steps in (3, 6):
    with processes.cluster(two, data, max_number_of_steps=steps) as workers:
      (status, chief), (other_status, _) = processes.finish(*workers)
      assert status == other_status == 0, chief
  assert f'Going on from {two}/model.ckpt-3' in chief
  trainer.train(processes.config(one, data, num_clones=2, max_number_of_steps=6))
  check_same(two, one)


@pytest.mark.slow
@pytest.mark.parametrize('dead', [0, 1])
def test_a_dead_worker_ends_the_others_with_a_line(data, tmp_path, dead):
  endless = {'max_number_of_steps': 100000, 'log_every_n_steps': 10, 'save_interval_steps': 20}
  with processes.cluster(tmp_path, data, **endless) as workers:
    processes.wait_for_step(tmp_path, 30, *workers)
    workers[dead].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    ((status, output),) = processes.finish(workers[1 - dead])
    assert time.monotonic() - killed < 60
  assert status == 1
  (line,) = [line for line in output.splitlines() if line.startswith('slim-inception train: ')]
  assert 'is gone (its own output may say why); start the same command on all' in line
  assert f'worker {1 - dead} is gone' not in line
  assert f'go on from {tmp_path}/model.ckpt-' in line
  assert 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize('index', [0, 1])
def test_a_busy_port_ends_the_worker_with_a_line(data, tmp_path, index):
  ports = processes.free_ports(2)
  with socket.socket() as other:
    other.bind(('127.0.0.1', ports[index]))
    other.listen()
    worker = processes.start(tmp_path / 'run', data, processes.task(ports, index))
    ((status, output),) = processes.finish(worker)
  assert status == 1
  assert output.endswith(
    f'\nslim-inception train: Worker {index} cannot listen at 127.0.0.1:{ports[index]}: '
    'Address already in use; has it been started twice? Else give it another port, on all workers\n'
  )
  assert 'Traceback' not in output
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_two_workers_evaluate_and_accumulate(data, tmp_path):
  """As two replicas of one process do, to the stop at a target that the chief sees."""
  two, one = tmp_path / 'two', tmp_path / 'one'
  records.write_set(data, count=9, split='validation')
  flags = {'accumulate_steps': 2, 'eval_interval_epochs': 1.0, 'batch_size': 2}
  # At 0.045, with batch norm over one image, a difference in the last bit grows 20-fold a step.
  flags |= {'max_number_of_steps': 9, 'patience': 1, 'learning_rate': 0.001}
  with processes.cluster(two, data, **flags) as workers:
    settings = processes.config(one, data, num_clones=2, **flags)
    trainer.train(settings, during_training.evaluator_of(settings))
    (status, chief), (other_status, other) = processes.finish(*workers)
  assert status == other_status == 0, chief + other
  check_same(two, one)
  found, expected = ([e for e in processes.metrics(d) if 'eval_top_1' in e] for d in (two, one))
  assert [entry['step'] for entry in found] == [entry['step'] for entry in expected]
  assert {entry['eval_num_images'] for entry in found} == {9}
  assert checkpoint_files.latest(two / 'best') is not None
  assert 'eval' not in other


@pytest.mark.slow
def test_two_workers_roll_back_evaluate_and_accumulate(tmp_path):
  """An image that one of them has makes the loss NaN: both go back and skip it."""
  data, run = tmp_path / 'data', tmp_path / 'run'
  flags = overflow.flags(overflow.write_checkpoint(tmp_path / 'loud.ckpt'))
  flags |= {'on_nan': 'rollback', 'accumulate_steps': 2, 'batch_size': 2}
  flags |= {'eval_interval_epochs': 1.0, 'eval_split_name': 'train'}
  overflow.write_set(data, ())
  trainer.train(processes.config(run, data, **flags, num_clones=2, max_number_of_steps=2))
  overflow.write_set(data, (5,))
  with processes.cluster(run, data, **flags, max_number_of_steps=8) as workers:
    (status, chief), (other_status, other) = processes.finish(*workers)
  assert status == other_status == 0, chief + other
  skipped = chief.count('and skipping the batches since')
  assert skipped == other.count('and skipping the batches since') > 0
  assert list(losses(run)) == [1, 2, 3, 4, 5, 6, 7, 8]
  assert np.isfinite(list(losses(run).values())).all()
  assert all(np.isfinite(value).all() for value in processes.weights(run).values())
  assert processes.weights(run)['input_position'] == 8 * (8 + skipped)
  assert [e['step'] for e in processes.metrics(run) if 'eval_top_1' in e][-1] == 8


@pytest.mark.slow
def test_workers_with_different_flags_are_refused(data, tmp_path):
  with processes.cluster(
    tmp_path / 'run', data, of_worker=({}, {'learning_rate': 0.5, 'dataset_dir': data})
  ) as workers:
    for status, output in processes.finish(*workers):
      assert status == 1
      assert '--learning_rate is 0.045 on worker 0 and 0.5 on worker 1' in output
  assert not (tmp_path / 'run').exists()


def test_the_devices_of_any_strategy():
  for strategy in (tf.distribute.get_strategy(), cluster.make_strategy(1, True)):
    assert cluster.gpus_of(strategy) == []
    assert cluster.describe_devices(strategy).startswith('CPU (')


def test_a_cluster_of_one_gathers_from_itself():
  alone = cluster.Cluster(tf.distribute.get_strategy())
  assert alone.is_chief
  np.testing.assert_array_equal(alone.all_gather([3, 4]), [[3, 4]])
  assert alone.all_gather_json({'a': None, 'b': 'ü'}) == [{'a': None, 'b': 'ü'}]
  cluster.check_same(alone, {'a': 1}, '--')


CLUSTER = {'worker': ['a:1', 'b:2']}


def tf_config(task, cluster=CLUSTER):
  return {'TF_CONFIG': json.dumps({'cluster': cluster, 'task': task})}


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, (None, 'worker', 0)),
    ({'SLURM_NTASKS': '1'}, (None, 'worker', 0)),
    (tf_config({'type': 'worker', 'index': 0}, {'worker': ['a:1']}), (None, 'worker', 0)),
    ({'TF_CONFIG': '{}'}, (None, 'worker', 0)),
    (tf_config(None, {'worker': ['a:1']}), (None, 'worker', 0)),
    (tf_config({'type': 'chief'}, {'chief': ['a:1'], 'worker': []}), (None, 'chief', 0)),
    (tf_config({'type': 'worker', 'index': 1}), (CLUSTER, 'worker', 1)),
    (tf_config({'type': 'worker', 'index': '1'}), (CLUSTER, 'worker', 1)),
    (tf_config({'index': 1}, {**CLUSTER, 'ps': []}), ({**CLUSTER, 'ps': []}, 'worker', 1)),
    (
      tf_config({'type': 'worker', 'index': 0}, {'worker': {'1': 'b:2', '0': 'a:1'}}),
      (CLUSTER, 'worker', 0),
    ),
    (
      tf_config({'type': 'worker', 'index': 1}, {'worker': ['[::1]:1', '[::1]:2']}),
      ({'worker': ['[::1]:1', '[::1]:2']}, 'worker', 1),
    ),
    (
      tf_config({'type': 'chief', 'index': 0}, {'chief': ['c:3'], 'worker': ['a:1']}),
      ({'chief': ['c:3'], 'worker': ['a:1']}, 'chief', 0),
    ),
  ],
)
def test_the_environment_names_the_workers(environment, expected):
  assert cluster.find_cluster(environment) == expected


STEP = {
  'SLURM_PROCID': '2',
  'SLURM_NTASKS': '3',
  'SLURM_STEP_ID': '0',
  'SLURM_STEP_NUM_TASKS': '3',
  'SLURM_STEP_NODELIST': 'node[07-08]',
  'SLURM_STEP_TASKS_PER_NODE': '2,1',
  'SLURM_JOB_ID': '20005',
}


def test_slurm_names_the_workers(monkeypatch):
  for name, value in STEP.items():
    monkeypatch.setenv(name, value)
  addresses, task_type, task_id = cluster.find_cluster(STEP)
  assert addresses == {'worker': ['node07:10005', 'node07:10006', 'node08:10005']}
  assert (task_type, task_id) == ('worker', 2)


@pytest.mark.parametrize(
  ('environment', 'message'),
  [
    ({'TF_CONFIG': '{'}, 'TF_CONFIG is no valid JSON: '),
    ({'TF_CONFIG': '[1]'}, 'TF_CONFIG has no object "cluster": {"cluster": '),
    ({'TF_CONFIG': '{"task": {}}'}, 'TF_CONFIG has no object "cluster", only \'task\': '),
    (
      {'TF_CONFIG': '{"sparseCluster": {"worker": {"0": "a:1"}}, "task": {}}'},
      "TF_CONFIG has no object \"cluster\", only 'sparseCluster', 'task': ",
    ),
    (tf_config({'type': 'worker', 'index': 2}), "TF_CONFIG has no 'worker' 2: the cluster has 2"),
    (tf_config({'type': 'worker', 'index': -1}), "TF_CONFIG has no 'worker' -1"),
    (tf_config({'type': 'worker', 'index': 0.5}), "TF_CONFIG has no 'worker' 0.5"),
    (tf_config({'type': 'worker'}), 'TF_CONFIG does not say the "index" of its "task": .* has 2'),
    (tf_config(None), 'TF_CONFIG does not say the "index" of its "task"'),
    (tf_config('worker'), 'TF_CONFIG has task \'worker\': {"type"'),
    (tf_config({'index': 0}, {'chief': ['c:3'], **CLUSTER}), 'does not say which "type" its'),
    (tf_config({'type': 'evaluator', 'index': 0}), "TF_CONFIG has 'evaluator' tasks, which train"),
    (tf_config({'type': 'evaluator'}, {'worker': ['a:1']}), "TF_CONFIG has 'evaluator' tasks"),
    (tf_config({'type': 'evaluator'}, {'evaluator': ['a:1']}), "TF_CONFIG has 'evaluator' tasks"),
    (tf_config({'type': 'ps', 'index': 0}), "TF_CONFIG has 'ps' tasks, which train nothing here"),
    (tf_config({'type': 'chief', 'index': 0}), "TF_CONFIG has no 'chief' 0: the cluster has 0"),
    (
      tf_config({}, {'worker': ['a:1', 'b']}),
      "TF_CONFIG has 'worker' task 'b', which must be HOST",
    ),
    (tf_config({}, {'worker': ['a:99999', 'b:1']}), "'a:99999', which must be HOST:PORT with a po"),
    (tf_config({}, {'worker': 'a:1'}), "TF_CONFIG has 'worker' tasks 'a:1': a list of"),
    (tf_config({}, {'worker': 2}), "TF_CONFIG has 'worker' tasks 2: a list of"),
    (tf_config({}, {'worker': {'1': 'b:1'}}), "numbers its 'worker' tasks 1: 0 .. 0 are expected"),
    (tf_config({}, {'worker': ['a:1', 'b:1', 'a:1']}), 'TF_CONFIG names a:1 twice'),
    (tf_config({}, {'chief': ['a:1'], 'worker': ['a:1']}), 'TF_CONFIG names a:1 twice'),
    (tf_config({}, {'chief': ['a:1', 'b:1']}), 'TF_CONFIG has more than one "chief"'),
    (tf_config({}, {'ps': ['c:3'], 'worker': ['a:1']}), "TF_CONFIG has 'ps' tasks, which train"),
    ({'SLURM_NTASKS': 'x'}, "SLURM_NTASKS must be a whole number, not 'x'"),
    ({'SLURM_STEP_NUM_TASKS': '2x'}, "SLURM_STEP_NUM_TASKS must be a whole number, not '2x'"),
    ({**STEP, 'SLURM_PROCID': 'x'}, "SLURM_PROCID must be a whole number, not 'x'"),
    ({**STEP, 'SLURM_PROCID': '3'}, 'SLURM_PROCID is 3, but SLURM_STEP_NUM_TASKS is 3'),
    ({**STEP, 'SLURM_JOB_ID': 'x'}, "SLURM_JOB_ID must be a whole number, not 'x'"),
    (STEP, "Slurm's environment describes no job step: .*SLURM_"),  # os.environ has nothing of it
    ({'SLURM_NTASKS': '4'}, 'SLURM_NTASKS says .* start training with srun'),
  ],
)
def test_an_environment_without_sense_is_refused(environment, message):
  with pytest.raises(ValueError, match=message):
    cluster.find_cluster(environment)


def test_too_many_replicas_of_a_worker_are_refused(monkeypatch):
  for name, value in tf_config({'type': 'worker', 'index': 0}).items():
    monkeypatch.setenv(name, value)
  with pytest.raises(ValueError, match='--num_clones=2: this worker has 0 GPUs; .* more workers'):
    cluster.make_cluster(2, clone_on_cpu=True)


def test_workers_that_share_readers_are_told_how_not_to():
  assert record_order.sharing_advice(4, 1) == record_order.sharing_advice(4, 4) == ''
  assert record_order.sharing_advice(4, 3).startswith(
    '--num_readers=4 is no multiple of the 3 workers: each reads all records to keep 1/3; with '
    '--num_readers=6 it'
  )
  assert 'each reads 1/4 of the records to keep 1/8; with --num_readers=8' in (
    record_order.sharing_advice(4, 8)
  )


def test_a_global_batch_that_does_not_divide_is_refused():
  def config(**kwargs):
    return flags.build(BatchConfig, kwargs)

  assert per_replica_batch(config(global_batch_size=12), 3) == 4
  assert per_replica_batch(config(batch_size=5), 3) == 5
  with pytest.raises(ValueError, match='--global_batch_size=13 .* among 3 replicas: .* 12 or 15'):
    per_replica_batch(config(global_batch_size=13), 3)
  with pytest.raises(ValueError, match='--global_batch_size=2 .* among 3 replicas: choose 3'):
    per_replica_batch(config(global_batch_size=2), 3)


@pytest.mark.slow
def test_another_number_of_replicas_goes_on_in_data_and_epochs(data, tmp_path, caplog):
  schedule = {'learning_rate_decay_type': 'step', 'learning_rate_steps': '0.3,0.6,1.2'}
  schedule |= {'learning_rate_decay_factor': 0.5, 'learning_rate': 1.0}

  def train(replicas, **flags):
    flags = {'num_clones': replicas, 'max_number_of_steps': None, **schedule, **flags}
    trainer.train(processes.config(tmp_path, data, **flags))
    return int(checkpoints.read(tmp_path, ['input_position'])['input_position'])

  assert train(1, max_number_of_steps=2) == 8  # of 24
  with caplog.at_level('INFO', 'absl'):
    assert train(2, num_epochs=1.3) == 8 + 3 * 8
  message = '1 replica(s) and 4 images a step, now 2 and 8; data and schedules go on where they'
  assert message in caplog.text
  entries = processes.metrics(tmp_path)
  epochs = [round(n / 24, 4) for n in (4, 8, 16, 24, 32)]
  assert [entry['epoch'] for entry in entries] == epochs
  assert [entry['learning_rate'] for entry in entries] == [1, 1, 0.5, 0.25, 0.25]


def test_accumulated_steps_take_a_batch_that_is_as_large(data, tmp_path):
  flags = {'accumulate_steps': 2, 'global_batch_size': 8, 'max_number_of_steps': 1}
  trainer.train(processes.config(tmp_path, data, **flags))
  assert int(checkpoints.read(tmp_path, ['input_position'])['input_position']) == 8
