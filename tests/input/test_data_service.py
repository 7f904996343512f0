"""Training from a tf.data service whose parts are processes of their own."""

import contextlib
import itertools
import socket
import threading
import time

import numpy as np
import pytest
from slim_inception.datasets import dataset_factory
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion

from slim_inception.input import data_service
from slim_inception.input.pipeline import InputOptions, Source
from slim_inception.train import trainer
from slim_inception.train.config import resolve
from tests import records, zygote
from tests.train import processes

pytestmark = pytest.mark.integration


@contextlib.contextmanager
def service(num_workers=1):
  """HOST:PORT of a dispatcher with workers, and all of these processes; they end with the block."""
  ports = processes.free_ports(1 + num_workers)
  dispatcher = f'127.0.0.1:{ports[0]}'
  parts = []
  try:
    parts.append(start('--role=dispatcher', f'--port={ports[0]}'))
    for port in ports[1:]:
      of_worker = f'--dispatcher={dispatcher}', '--host=127.0.0.1'
      parts.append(start('--role=worker', f'--port={port}', *of_worker))
    for part in parts:
      line = part.stderr.readline()
      assert 'listens at port' in line, line + part.stderr.read()
    yield dispatcher, parts
  finally:
    for part in parts:
      part.close()


def start(*flags):
  return zygote.start('data-service', *flags)


def places(found, number):
  """Of the records of the next batches; they are the second seeds."""
  return [int(p) for batch in itertools.islice(found, number) for p in batch['seed'][:, 1]]


@pytest.mark.slow
def test_every_record_comes_once_an_epoch_and_trainers_share(tmp_path):
  """Two trainers of one step, which take batches at their own speed."""
  directory = records.write_set(tmp_path, count=400, num_shards=20)
  dataset = dataset_factory.get_dataset('image_folder', 'train', directory)
  with service(num_workers=2) as (address, _):

    def trainer_of(job_name, first=0):
      source = Source(dataset, preprocessing_factory.get('inception'), Distortion())
      options = InputOptions(32, 8, shuffle_buffer=16, num_readers=2)
      job = data_service.Job(address, job_name, global_batch_size=16)
      return data_service.service_batches(source, options, first, job).as_numpy_iterator()

    first, second = trainer_of('a'), trainer_of('a')
    batch = next(first)
    np.testing.assert_array_equal(batch['record_index'], np.full(8, 15))
    assert batch['image'].shape == (8, 32, 32, 3)
    assert batch['image'].dtype == np.uint8
    labels = batch['seed'][:, 1] % 400 % 20  # shard i has the images i, i + 20, ...
    assert labels.max() < 20
    colors = batch['image'].astype(float).mean((1, 2)).argmax(1)
    np.testing.assert_array_equal(colors, batch['label'])
    taken = [int(place) for place in batch['seed'][:, 1]]
    taken += places(first, 79) + places(second, 80)
    assert len(taken) == len(set(taken)) == 1280
    # The first epoch is there but for what is on its way: half of it where a worker lags behind.
    assert len(set(taken) & set(range(400))) > 180
    # Another job begins with the epoch, in another order.
    again = places(trainer_of('b', first=410), 40)
    assert min(again) >= 400
    assert again != sorted(again)


@pytest.mark.slow
def test_a_run_trains_from_the_service_and_says_when_it_dies(tmp_path):
  data = records.write_set(tmp_path / 'data')
  train_dir = tmp_path / 'run'
  with service() as (address, parts):
    run = processes.start(
      train_dir, data, data_service=address, max_number_of_steps=100000, save_interval_steps=5
    )
    processes.wait_for_step(train_dir, 8, run)
    for part in parts:
      part.kill()
    killed = time.monotonic()
    ((status, output),) = processes.finish(run)
  assert time.monotonic() - killed < 60
  assert status == 1
  (line,) = [line for line in output.splitlines() if line.startswith('slim-inception train: ')]
  assert line.startswith(f'slim-inception train: No data service answers at {address} (')
  assert 'Traceback' not in output
  epochs = {entry['step']: entry['epoch'] for entry in processes.metrics(train_dir)}
  assert epochs[6] == 1.0
  assert list(train_dir.glob('model.ckpt-*.index'))


def test_nobody_there(tmp_path, monkeypatch):
  data = records.write_set(tmp_path / 'data')
  monkeypatch.setattr(data_service, 'CONNECT_SECS', 1.0)
  (port,) = processes.free_ports(1)
  flags = processes.flags_of(tmp_path / 'run', data, data_service=f'127.0.0.1:{port}')
  began = time.monotonic()
  with pytest.raises(ConnectionError, match=rf'No data service answers at 127.0.0.1:{port} \('):
    trainer.train(resolve(flags))
  assert time.monotonic() - began < 30
  assert not (tmp_path / 'run' / 'config.json').exists()


def test_a_service_without_workers_is_not_waited_for():
  never = threading.Event()

  def silent():
    yield 1
    never.wait()

  with socket.create_server(('127.0.0.1', 0)) as dispatcher:
    address = f'127.0.0.1:{dispatcher.getsockname()[1]}'
    batches = data_service.Watched(silent(), address, silence_secs=0.3, ask_secs=0.1)
    assert next(batches) == 1
    with pytest.raises(ConnectionError, match='given no batch for 0 s: are its workers running'):
      next(batches)
  never.set()


def test_errors_of_the_batches_reach_the_loop():
  def broken():
    yield 1
    raise ValueError('no image')

  batches = data_service.Watched(broken(), 'host:5050')
  assert next(batches) == 1
  with pytest.raises(ValueError, match='no image'):
    next(batches)


def test_a_worker_needs_a_dispatcher():
  part = start('--role=worker', '--port=5')
  _, error = part.communicate()
  message = '--role=worker and --dispatcher=HOST:PORT need each other'
  assert (part.returncode, error) == (2, f'slim-inception data-service: {message}\n')


@pytest.mark.slow
def test_a_port_that_is_taken():
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))
    taken.listen()
    part = start('--role=dispatcher', f'--port={taken.getsockname()[1]}')
    _, error = part.communicate()
  assert part.returncode == 1
  assert error.startswith('slim-inception data-service: --port=')
