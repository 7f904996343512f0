"""Signals and clocks between two steps."""

import json
import signal
import time

import numpy as np
import pytest
from slim_inception.nets import checkpoint_files, checkpoints

from slim_inception.train import save_trigger
from tests import zygote
from tests.train import processes

pytestmark = pytest.mark.integration


# In a process of its own: were a signal not noted, it would end the process.
NOTED = """
import os, signal, time
from slim_inception.train import save_trigger

def send(*numbers):
  for number in numbers:
    os.kill(os.getpid(), number)
  deadline = time.monotonic() + 60
  while not stop.received:
    assert time.monotonic() < deadline
    time.sleep(0.01)

def handlers():
  return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

before = handlers()
with save_trigger.StopSignal() as stop:
  assert stop.received == 0
  send(signal.SIGTERM)
  assert stop.received == signal.SIGTERM
assert handlers() == before
assert signal.set_wakeup_fd(-1) == -1

save_trigger._REPEAT_SECS = 60
with save_trigger.StopSignal() as stop:
  send(signal.SIGINT, signal.SIGTERM, signal.SIGINT)  # as timeout(1) sends it to a command
assert stop.received == signal.SIGINT

save_trigger._REPEAT_SECS = 0
with save_trigger.StopSignal() as stop:
  send(signal.SIGTERM)
  send(signal.SIGTERM)
  time.sleep(60)
"""


def test_a_signal_is_noted_and_a_second_one_ends():
  done = zygote.run(code=NOTED)
  assert done.returncode == 128 + signal.SIGTERM, done.stderr
  saving = 'saving after this step; a second signal ends the run at once'
  assert done.stderr.splitlines() == [
    f'SIGTERM: {saving}', f'SIGINT: {saving}', f'SIGTERM: {saving}', 'SIGTERM: ended at once'
  ]  # fmt: skip


class Two:
  """A cluster of two workers; the other gives `other`."""

  count = 2

  def __init__(self, other):
    self.other, self.gathered = other, 0

  def all_gather(self, values):
    self.gathered += 1
    return np.array([values, self.other])


class Alone:
  count = 1


def test_saving_by_steps_and_by_the_clock():
  by_steps = save_trigger.SaveTrigger(Alone(), 0, 1000.0, 3)
  assert [by_steps.after(step, 0, False).save for step in range(1, 7)] == [0, 0, 1, 0, 0, 1]
  by_clock = save_trigger.SaveTrigger(Alone(), 0, 0.0, None)
  assert by_clock.after(1, 0, False).save
  neither = save_trigger.SaveTrigger(Alone(), 0, 1000.0, None)
  assert neither.after(1, 0, False) == (False, 0)
  assert neither.after(2, 0, True) == (True, 0)
  assert neither.after(3, signal.SIGTERM, False) == (True, signal.SIGTERM)


def test_a_signal_to_one_worker_stops_all():
  both = Two((0, signal.SIGTERM, 0))
  found = save_trigger.SaveTrigger(both, 0, 1000.0, None).after(1, 0, False)
  assert found == (True, signal.SIGTERM)


def test_quick_steps_are_not_all_gathered():
  both = Two((1, 0, 0))  # the other's clock does not count
  quick = save_trigger.SaveTrigger(both, 0, 1000.0, None)
  assert not any(quick.after(step, 0, False).save for step in range(1, 500))
  assert both.gathered < 10


ENDLESS = {'max_number_of_steps': 100000, 'log_every_n_steps': 1}


def test_sigterm_and_ctrl_c_save_before_they_end(data, tmp_path):
  run = processes.start(tmp_path, data, **ENDLESS)
  processes.wait_for_step(tmp_path, 5, run)
  run.send_signal(signal.SIGTERM)
  ((status, output),) = processes.finish(run)
  assert status == 0, output
  first = checkpoint_files.latest(tmp_path)
  last = processes.metrics(tmp_path)[-1]['step']
  assert first == str(tmp_path / f'model.ckpt-{last}')
  assert f'interrupted; started again it goes on from {first}' in output

  run = processes.start(tmp_path, data, **{**ENDLESS, 'log_every_n_steps': 5})
  processes.wait_for_step(tmp_path, last + 5, run)
  run.send_signal(signal.SIGINT)
  ((status, output),) = processes.finish(run)
  assert status == 130
  assert f'Going on from {first}' in output
  second = checkpoint_files.latest(tmp_path)
  assert second != first
  end = json.loads((tmp_path / 'history.jsonl').read_text().splitlines()[-1])
  done = checkpoint_files.step_of(second)  # also between the steps of the log
  assert (end['event'], end['step'], end['reason']) == ('end', done, f'SIGINT after step {done}')
  assert output.endswith(
    f'slim-inception train: interrupted; started again it goes on from {second}\n'
  )
  assert 'Traceback' not in output


@pytest.mark.slow
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_long_step_at_once(data, tmp_path, number):
  """TensorFlow computes: Python's own handlers would have to wait. The checkpoint before stays."""
  run = processes.start(
    tmp_path, data, **ENDLESS, save_interval_steps=1, batch_size=64, accumulate_steps=64
  )
  processes.wait_until(lambda: len(checkpoint_files.numbered(tmp_path)) > 0, run)
  time.sleep(1)  # into the second step
  saved = checkpoint_files.numbered(tmp_path)
  run.send_signal(number)
  line = next(line for line in run.stdout if line.startswith('SIG'))
  assert line.endswith('saving after this step; a second signal ends the run at once\n')
  time.sleep(0.5)  # sooner, it would be the same once more
  sent = time.monotonic()
  run.send_signal(number)
  ((status, output),) = processes.finish(run)
  assert time.monotonic() - sent < 1
  assert status == 128 + number
  assert output == f'{number.name}: ended at once\n'
  assert checkpoint_files.numbered(tmp_path) == saved
  assert checkpoints.latest_sound(tmp_path) == saved[-1]


@pytest.mark.slow
def test_sigterm_to_one_of_two_workers_saves_and_ends_both(data, tmp_path):
  with processes.cluster(tmp_path, data, **ENDLESS) as workers:
    processes.wait_for_step(tmp_path, 5, *workers)
    workers[1].send_signal(signal.SIGTERM)
    for status, output in processes.finish(*workers):
      assert status == 0, output
  last = processes.metrics(tmp_path)[-1]['step']
  assert checkpoint_files.latest(tmp_path) == str(tmp_path / f'model.ckpt-{last}')
