"""Where memory ends: passes that are divided, a limit that is watched, a batch that is tried."""

import json
import re

import pytest
import tensorflow as tf

from slim_inception import memory
from slim_inception.train import batch_size, config_json, passes, trainer
from slim_inception.train.config import resolve
from tests import records, tiny
from tests.train import processes


def test_sizes_as_people_write_them():
  assert memory.num_bytes('8GB') == 8 * 10**9
  assert memory.num_bytes('1.5 GiB') == 3 * 2**29
  assert memory.num_bytes('300MB') == 3 * 10**8
  assert [memory.as_text(n) for n in (1.724e9, 48.2e6)] == ['1.72 GB', '48 MB']
  for text in ('8', '8G', '0GB', '-1GB', 'much'):
    with pytest.raises(ValueError, match=f'--memory_limit={text}: must be a number and one of kB'):
      tiny.config(memory_limit=text)


def test_the_peak_of_this_process():
  """It follows what is written to, and begins again."""
  restarts = memory.restart_peak()  # other tests may have taken more, and given it back
  before = memory.peak_resident_bytes()
  block = bytearray(300 * 10**6)
  if restarts:
    assert memory.peak_resident_bytes() >= before + 200 * 10**6
  del block
  if memory.restart_peak():
    assert memory.peak_resident_bytes() < before + 200 * 10**6


# The search


def line(base: int, each: int, noise=lambda size: 0):
  """A trial whose memory is a line, and the sizes that were tried."""
  tried = []

  def trial(size: int) -> int:
    tried.append(size)
    return base + each * size + noise(size)

  return trial, tried


@pytest.mark.parametrize('each', [1, 7, 48, 99, 400, 3000])
@pytest.mark.parametrize('budget', [2000, 5000, 7200])
def test_the_largest_batch_within_a_budget(each, budget):
  """In few trials, and no multiple of 8 more would fit (below 16: no image more)."""
  trial, tried = line(1500, each)
  right = (budget - 1500) // each
  if not right:
    with pytest.raises(ValueError, match='not even one image fits into the memory'):
      batch_size.find(trial, budget, 65536)
    return
  fit = batch_size.find(trial, budget, 65536)
  assert fit.batch_size == min(right // 8 * 8 if right >= 16 else right, 65536)
  assert len(tried) == len(set(tried)) <= 7
  assert fit.peaks == {size: 1500 + each * size for size in tried}


def test_what_the_line_says_is_tried():
  """Memory that grows faster than at first: the batch is one that was seen to fit."""
  trial, _ = line(1500, 50, lambda size: size**2)
  fit = batch_size.find(trial, 7200, 65536)
  right = max(size for size in range(16, 100, 8) if 1500 + 50 * size + size**2 <= 7200)
  assert fit.batch_size == right
  assert fit.peaks[right] == 1500 + 50 * right + right**2


def test_a_limit_that_is_too_small_for_one_image_says_what_that_takes():
  with pytest.raises(ValueError, match='fits into the memory of 90 MB: it takes 612 MB'):
    batch_size.find(lambda size: 612 * 10**6, 90 * 10**6, 64)


@pytest.mark.parametrize(('most', 'largest', 'found'), [(100, 65536, 96), (3, 65536, 3), (9, 6, 6)])
def test_without_a_budget_until_memory_runs_out(most, largest, found):
  def trial(size: int) -> int | None:
    return size if size <= most else None

  assert batch_size.find(trial, None, largest).batch_size == found


def test_a_trial_that_the_system_kills_is_too_much(tmp_path, monkeypatch):
  """A process as the trial's, which is killed as by the system where its memory runs out."""
  script = tmp_path / 'killed.py'
  script.write_text('import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n')
  monkeypatch.setenv('PYTHONPATH', str(tmp_path))
  monkeypatch.setattr(batch_size, '_MODULE', 'killed')
  settings = tiny.config(batch_size='auto', memory_limit='1GB', train_dir=str(tmp_path / 'run'))
  assert batch_size.try_batch(settings, 8) == {}
  with pytest.raises(ValueError, match='the trial of 4 images was killed'):
    batch_size.resolve(settings)


def test_auto_is_refused_where_it_finds_nothing(tmp_path):
  for flags, message in (
    ({'global_batch_size': 64}, '--global_batch_size says the batch'),
    (
      {'image_size_schedule': '0:32:4,1:40:4', 'aux_loss_weight': 0},
      '--image_size_schedule says the batch',
    ),
  ):
    with pytest.raises(ValueError, match=message):
      batch_size.resolve(tiny.config(batch_size='auto', train_dir=str(tmp_path), **flags))
  with pytest.raises(ValueError, match='has not found a number yet'):
    from slim_inception.train.plan import make_plan

    make_plan(tiny.config(batch_size='auto'), 10, 3, 1)
  with pytest.raises(ValueError, match='--batch_size=0.5: must be a whole number, .* or auto'):
    tiny.config(batch_size=0.5)


def test_what_needs_no_trial_is_said_before_any(tmp_path, monkeypatch):
  """A trial takes half a minute."""
  monkeypatch.setattr(batch_size, 'try_batch', None)
  settings = {'batch_size': 'auto', 'clone_on_cpu': True, 'train_dir': str(tmp_path)}
  with pytest.raises(ValueError, match='auto needs --memory_limit on processors, e.g. 8GB'):
    batch_size.resolve(tiny.config(**settings))
  cluster = {'worker': ['a:1', 'b:1']}
  environment = json.dumps({'cluster': cluster, 'task': {'type': 'worker', 'index': 0}})
  monkeypatch.setenv('TF_CONFIG', environment)
  with pytest.raises(ValueError, match='auto is for one process: unset TF_CONFIG'):
    batch_size.resolve(tiny.config(**settings, memory_limit='1GB'))


def test_shuffling_that_leaves_nothing_is_named(tmp_path, monkeypatch):
  first = batch_size.Trial(peak_bytes=10, gpus=0, shuffle_bytes=10**9, num_samples=9)
  monkeypatch.setattr(batch_size, 'try_batch', lambda config, size: first)
  settings = tiny.config(batch_size='auto', memory_limit='1GB', train_dir=str(tmp_path))
  with pytest.raises(ValueError, match='shuffling alone holds 1 GB of --memory_limit=1GB: choose'):
    batch_size.resolve(settings)


@pytest.mark.slow
@pytest.mark.integration
def test_auto_of_a_real_net(tmp_path):
  """Its peak is within the limit, and that of half as much again is not; both in new processes."""
  data = records.write_set(tmp_path / 'data', count=640)
  config = resolve(
    {
      'dataset_name': 'image_folder',
      'dataset_dir': str(data),
      'train_dir': str(tmp_path / 'run'),
      'model_name': 'inception_v1',
      'train_image_size': 128,
      'batch_size': 'auto',
      'memory_limit': '2GB',
      'clone_on_cpu': True,
    }
  )
  found = batch_size.resolve(config).batch.batch_size
  assert found > 16
  assert batch_size.try_batch(config, found)['peak_bytes'] <= 2e9
  assert batch_size.try_batch(config, 3 * found // 2)['peak_bytes'] > 0.9 * 2e9


# Running out


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  return records.write_set(tmp_path_factory.mktemp('memory') / 'data', count=64)


class Exhausted(trainer.TrainStep):
  """Passes of more than two images ask the allocator for 140 TB, from the second step on."""

  def __call__(self, batch, step, rate):
    if int(step) and self._num_passes < 4:
      tf.fill([2**45], 0.0)
    return super().__call__(batch, step, rate)


def test_what_says_that_memory_ran_out():
  """oneDNN's text was seen in a process with little address space; its status 1 is no memory."""
  of_onednn = 'Operation received an exception:Status: {}, message: could not create a primitive'
  lines = f'Graph execution error:\n{of_onednn}\n\t [[node]]'
  aborted = [tf.errors.AbortedError(None, None, lines.format(status)) for status in (1, 3)]
  assert [memory.exhausted(error) for error in aborted] == [of_onednn.format(1), '']
  with pytest.raises(tf.errors.ResourceExhaustedError) as error:
    tf.fill([2**45], 0.0)
  assert 'OOM when allocating tensor with shape[35184372088832]' in memory.exhausted(error.value)


@pytest.mark.integration
def test_passes_are_halved_until_they_fit_and_the_images_are_the_same(
  data, tmp_path, monkeypatch, caplog
):
  """TensorFlow's own error; the step is done again with the images that it had."""
  seen = []

  class Seen(Exhausted):
    def __call__(self, batch, step, rate):
      result = super().__call__(batch, step, rate)
      seen.append(batch['record_index'].numpy().tolist())
      return result

  monkeypatch.setattr(trainer, 'TrainStep', Seen)
  flags = {'batch_size': 8, 'max_number_of_steps': 4, 'save_interval_steps': 1}
  with caplog.at_level('WARNING', 'absl'):
    trainer.train(processes.config(tmp_path, data, **flags))
  told = [record for record in caplog.messages if 'Out of memory' in record]
  assert [re.sub(r'OOM when allocating .*(?=\):)', 'OOM', line) for line in told] == [
    f'Out of memory at step 1 with {each} images of 32 x 32 pixels a pass (OOM): '
    f'going on from {tmp_path}/model.ckpt-1 with {each // 2} image(s) a pass and {16 // each} '
    'passes, the same 8 images a step (batch norm takes the statistics of a pass)'
    for each in (8, 4)
  ]
  assert seen == [list(range(8 * step, 8 * step + 8)) for step in range(4)]
  facts = config_json.read(str(tmp_path))['run']
  assert (facts['per_replica_batch'], facts['accumulate_steps']) == (2, 4)
  assert config_json.read(str(tmp_path))['batch_size'] == 8  # the flag is as it was
  # A new process on these devices begins with what was learned.
  caplog.clear()
  trainer.train(processes.config(tmp_path, data, **{**flags, 'max_number_of_steps': 5}))
  assert 'Out of memory' not in caplog.text
  assert seen[-1] == list(range(32, 40))


@pytest.mark.slow
@pytest.mark.integration
def test_a_divided_run_is_one_that_had_these_passes(data, tmp_path, monkeypatch):
  """Only the images that were too many for a pass are divided: those of another size are not."""
  flags = {'image_size_schedule': '0:32:2,0.03125:40:8', 'aux_loss_weight': 0.0}
  flags |= {'dropout_keep_prob': 1.0, 'max_number_of_steps': 4, 'log_every_n_steps': 1}
  with monkeypatch.context() as patch:
    patch.setattr(trainer, 'TrainStep', Exhausted)
    trainer.train(processes.config(tmp_path / 'run', data, **flags))
  facts = config_json.read(str(tmp_path / 'run'))['run']
  assert facts['pass_pixels'] == 2 * 40**2
  monkeypatch.setattr(passes, 'known_pass_pixels', lambda config, cluster: 2 * 40**2)
  trainer.train(processes.config(tmp_path / 'other', data, **flags))
  one, two = processes.metrics(tmp_path / 'run'), processes.metrics(tmp_path / 'other')
  assert [entry['step'] for entry in one] == [1, 2, 3, 4]
  for entry, other in zip(one, two, strict=True):
    assert entry['loss'] == pytest.approx(other['loss'], rel=1e-3)
  assert int(tf.train.load_variable(str(tmp_path / 'run'), 'input_position')) == 2 + 3 * 8


@pytest.mark.integration
def test_what_cannot_be_divided_ends_with_advice(data, tmp_path, monkeypatch):
  class Exhausted(trainer.TrainStep):
    def __call__(self, *args):
      raise tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating\nand a page')

  monkeypatch.setattr(trainer, 'TrainStep', Exhausted)
  with pytest.raises(ValueError) as error:
    trainer.train(processes.config(tmp_path, data, batch_size=3, recompute=True))
  assert str(error.value) == (
    'Out of memory with 1 image of 32 x 32 pixels a pass: try --precision=bfloat16, or a smaller '
    'net or smaller images (OOM when allocating)'
  )


@pytest.mark.integration
def test_more_than_the_limit_goes_on_with_half(data, tmp_path, monkeypatch, caplog):
  """After the step, which counts: nothing is done again. The process's figure is the real one."""
  bytes_now, real = [0], memory.peak_resident_bytes
  monkeypatch.setattr(memory, 'peak_resident_bytes', lambda: real() + bytes_now[0])
  limit = real() + 10**12
  step = trainer.TrainStep

  class Large(step):
    def __call__(self, batch, number, rate):
      bytes_now[0] = 2 * 10**12 if self._num_passes == 1 and int(number) == 2 else 0
      return super().__call__(batch, number, rate)

  monkeypatch.setattr(trainer, 'TrainStep', Large)
  with caplog.at_level('WARNING', 'absl'):
    trainer.train(processes.config(tmp_path, data, memory_limit=f'{limit / 1e9:.3f}GB'))
  (told,) = (line for line in caplog.messages if 'Out of memory' in line)
  assert 'are more than --memory_limit' in told
  assert f'going on from {tmp_path}/model.ckpt-3 with 2 image(s) a pass and 2 passes' in told
  assert [e['step'] for e in processes.metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
  watch = memory.Watch(10**6)  # less than Python itself takes
  assert 'it is not watched' in caplog.text
  assert watch.excess() == ''
