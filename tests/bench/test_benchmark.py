"""The benchmark: what it counts, what it measures, what it writes and refuses."""

import io
import json
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from slim_inception.datasets import dataset_factory

from slim_inception import files
from slim_inception.bench import common, net_rate, peers, photographs, report, roofline, timing
from slim_inception.bench.config import resolve
from slim_inception.bench.peers import PeerProcess
from slim_inception.cli import benchmark as script
from tests import tiny, zygote

pytestmark = pytest.mark.integration


@pytest.fixture
def small_roofline(monkeypatch):
  """The large products take seconds."""
  for rate in ('convolution_rate', 'product_rate'):
    monkeypatch.setattr(roofline, rate, lambda precision: 1e12)
  monkeypatch.setattr(timing, 'ROUND_SECONDS', 0.01)


@pytest.fixture(scope='module')
def generated(tmp_path_factory):
  directory = tmp_path_factory.mktemp('generated')
  photographs.write_records(directory, num_images=24, num_distinct=6, num_shards=2, num_classes=5)
  return directory


def tiny_config(mode, **flags):
  return resolve({'mode': mode, 'model_name': tiny.NAME, 'batch_size': 2, 'num_rounds': 2, **flags})


def records_config(mode, directory, **flags):
  same = {'mode': mode, 'dataset_dir': str(directory), 'image_size': 75, 'batch_size': 2}
  return resolve(same | flags)


# Measuring


def test_the_clock(monkeypatch):
  now, started, finished = [0.0], [], []

  def start():
    now[0] += 3.0 if not started else 0.1
    started.append(len(started))
    return started[-1]

  monkeypatch.setattr(timing.time, 'perf_counter', lambda: now[0])
  times = timing.measure(start, finished.append, warmup_steps=2, num_rounds=3)
  assert times.first == pytest.approx(3.0)
  assert times.steps_per_round == 5  # of 0.1 s in half a second
  assert times.rounds == pytest.approx((0.1,) * 3)
  assert finished == [0, 1, 6, 11, 16]  # waited for at the end of each round alone


@pytest.mark.parametrize(
  ('stolen', 'rounds', 'kept'),
  [
    ([0.0, 0.5, 0.0, 0.0], 4, [0, 2, 3]),  # of the time of two processors
    ([0.5, 0.04, 0.3, 0.2, 0.1, 0.4, 0.0], 6, [1, 3, 4]),
  ],
)
def test_rounds_that_neighbours_disturb_are_run_again(monkeypatch, stolen, rounds, kept):
  done = []

  def run_round():
    done.append(len(done))
    return done[-1]

  monkeypatch.setattr(timing.time, 'perf_counter', lambda: float(len(done)))
  monkeypatch.setattr(timing.os, 'cpu_count', lambda: 2)
  monkeypatch.setattr(timing, '_stolen_seconds', lambda: 2 * sum(stolen[: len(done)]))
  found = timing.undisturbed(run_round, 3)
  assert len(done) == rounds
  assert [number for number, _ in found] == kept
  assert [share for _, share in found] == pytest.approx([stolen[number] for number in kept])


# Of tests/tiny.py at 32 x 32 in training: places x window x filters.
TINY_MULTIPLY_ADDS = (
  15 * 15 * 27 * 8,
  *(15 * 15 * n for n in (8 * 8, 72 * 8, 24 * 8, 24 * 8)),  # Mixed_2a: 24 filters
  *(15 * 15 * n for n in (24 * 8, 32 * 24)),  # Block
  7 * 7 * 216 * 16,  # Mixed_3a: 40 filters
  40 * 1001,
  *(40 * 128, 128 * 768, 768 * 1001),  # the auxiliary head, pooled to 1 x 1
)


@pytest.mark.parametrize(
  ('replicas', 'flags'),
  [
    pytest.param(2, {'precision': 'bfloat16'}, marks=pytest.mark.slow),
    (1, {}),
    pytest.param(1, {'jit_compile': True}, marks=pytest.mark.slow),
  ],
)
def test_train_mode_runs_the_training_step(small_roofline, monkeypatch, replicas, flags):
  calls = []

  class Counted(net_rate.TrainStep):
    def __call__(self, *batch):
      calls.append(self._state)
      return super().__call__(*batch)

  monkeypatch.setattr(net_rate, 'TrainStep', Counted)
  config = tiny_config('train', num_clones=replicas, clone_on_cpu=True, **flags)
  (result,) = script.benchmark(config)
  steps = len(calls) - config.warmup_steps
  assert steps >= 2 * result['steps_per_round']  # rounds that neighbours disturb are run again
  assert steps % result['steps_per_round'] == 0
  assert result['num_replicas'] == replicas
  assert result['images_per_second'] == pytest.approx(2 * replicas / result['step_seconds'])
  assert result['num_parameters'] == sum(v.shape.num_elements() for v in calls[0].trained.values())
  assert result['gflops'] == pytest.approx(
    2 * result['gmacs_per_image'] * result['images_per_second']
  )
  # Forward and two gradients, without the one of the images.
  macs = 3 * sum(TINY_MULTIPLY_ADDS) - TINY_MULTIPLY_ADDS[0]
  assert result['gmacs_per_image'] == pytest.approx(macs / 1e9)
  assert result['slowest_images_per_second'] <= result['images_per_second']
  assert 100e6 < result['peak_bytes'] < 100e9


def test_infer_mode(small_roofline):
  (result,) = script.benchmark(tiny_config('infer', precision='bfloat16', jit_compile=True))
  assert result['precision'] == 'bfloat16'
  assert result['first_step_seconds'] > result['step_seconds']
  assert result['roofline_share'] == pytest.approx(result['gflops'] / result['convolution_gflops'])


def test_input_mode(small_roofline, generated):
  config = records_config('input', generated, warmup_steps=2, num_rounds=2)
  (result,) = script.benchmark(config)
  assert result['dataset'] == 'image_folder, 24 images'
  assert 100e3 < result['image_bytes'] < 120e3
  assert result['decode_share'] == pytest.approx(
    result['images_per_second'] / result['decode_images_per_second']
  )


@pytest.mark.slow
def test_startup_mode(generated):
  (result,) = script.benchmark(records_config('startup', generated, num_rounds=1))
  (described,), (first,) = result['described_seconds'], result['command_to_first_step_seconds']
  assert 0 < described < first  # two moments of one run
  assert result['import_seconds'][0] > 0


def test_photographs_are_like_those_of_imagenet(generated):
  sizes = []
  for number in range(4):
    encoded = photographs.photograph(number)
    with Image.open(io.BytesIO(encoded)) as image:
      assert (image.format, image.size, image.mode) == ('JPEG', (500, 375), 'RGB')
      pixels = np.asarray(image.convert('L'), np.float64)
    sizes.append(len(encoded))
    # Power falls with the square of the frequency in photographs; of noise it does not fall.
    power = np.abs(np.fft.rfft(pixels - pixels.mean(), axis=1)).mean(0) ** 2
    slope = np.polyfit(np.log(np.arange(4, 60)), np.log(power[4:60]), 1)[0]
    assert -2.7 < slope < -1.2
  assert statistics.mean(sizes) == pytest.approx(110e3, rel=0.1)
  dataset = dataset_factory.get_dataset('image_folder', 'train', generated)
  assert (dataset.num_samples, dataset.num_classes, dataset.label_range) == (24, 5, (1, 4))


# Peers


@pytest.fixture
def fake_peer(monkeypatch, tmp_path):
  """Makes 'keras' a program of a few lines."""

  def make(*lines):
    folder = str(pathlib.Path(timing.__file__).parent)
    path = tmp_path / 'peer.py'
    head = f'import sys; sys.path.insert(0, {folder!r}); import timing; print("chatter")'
    path.write_text('\n'.join([head, *lines]))
    peer = peers.PEERS['keras']._replace(script=str(path), nets={tiny.NAME: 'Tiny'})
    monkeypatch.setitem(peers.PEERS, 'keras', peer)

  return make


WARM = 'timing.send(first=9.0, steps_per_round=1)'


def test_a_peer_beside_ours(small_roofline, monkeypatch, fake_peer):
  fake_peer(
    WARM,
    'for line, seconds in zip(sys.stdin, [0.5, 0.25, 1.0]): timing.send(seconds=seconds)',
    'timing.send(peak_bytes=5e8, num_parameters=23851784, version="keras 0")',
  )
  monkeypatch.setattr(timing, '_stolen_seconds', lambda: 0.0)
  results = script.benchmark(tiny_config('infer', peers='keras', num_rounds=3))
  assert [r['program'] for r in results] == ['slim-inception', 'keras']
  assert [r['rounds'] for r in results] == [3, 3]
  assert results[1]['images_per_second'] == 4.0  # 2 images in the median of the rounds
  assert results[1]['first_step_seconds'] == 9.0
  lines = report.table(results).splitlines()
  assert lines[0].startswith('infer: inception_tiny, 32 x 32 pixels, batch 2 x 1, float32')
  assert '4.00' in lines[3]
  assert '2.00..8.00' in lines[3]


@pytest.mark.parametrize('before', ['', f'{WARM}; sys.stdin.readline()'])
def test_a_peer_that_fails(small_roofline, fake_peer, before):
  fake_peer(before, 'raise RuntimeError("no such net")')
  with pytest.raises(ValueError, match='keras failed: RuntimeError: no such net'):
    script.benchmark(tiny_config('infer', peers='keras'))


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['train', 'infer'])
def test_keras_as_a_peer(mode):
  flags = {'image_size': 75, 'precision': 'bfloat16', 'clone_on_cpu': True, 'warmup_steps': 2}
  config = tiny_config(mode, model_name='inception_v3', peers='keras', **flags)
  with PeerProcess('keras', common.peer_command(config, 'keras', num_classes=1000)) as peer:
    (times,) = timing.take_turns([peer.program], 2)
    facts = peer.end()
  assert facts['num_parameters'] == 23817352  # trainable ones of Keras' own summary
  assert len(times.rounds) == 2
  assert min(times.rounds) > 0


# Files


def test_files_grow(tmp_path):
  csv, lines = tmp_path / 'results.csv', tmp_path / 'results.json'
  same = {'mode': 'train', 'model_name': 'inception_v3', 'image_size': 299, 'batch_size': 16}
  same |= {'num_replicas': 2, 'images_per_second': 4.5678, 'step_seconds': 7.0056}
  same |= {'num_parameters': 27145970}
  results = [{**same, 'program': program} for program in ('slim-inception', 'timm')]
  for result in results:
    report.append_csv(csv, [result])
    files.append_json_lines(lines, [result])
  assert csv.read_text() == (
    'model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n'
    'inception_v3,4.57,7005.6,32,299,27.15\n'
    'inception_v3.timm,4.57,7005.6,32,299,27.15\n'
  )
  assert [json.loads(line) for line in lines.read_text().splitlines()] == results
  with pytest.raises(ValueError, match='has columns model,train_samples_per_sec'):
    script.benchmark(resolve({'mode': 'infer', 'output_csv': str(csv)}))
  assert len(csv.read_text().splitlines()) == 3


# Errors


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'mode': 'input', 'precision': 'bfloat16'}, '--precision means nothing with --mode=input'),
    ({'mode': 'startup', 'peers': 'keras'}, '--peers means nothing with --mode=startup'),
    ({'peers': 'pytorch'}, '--peers=pytorch: choose one of keras, keras_jit, timm'),
    ({'peers': 'timm'}, '--peers=timm needs --timm_python=PATH'),
    ({'timm_python': 'python'}, '--timm_python needs --peers=timm'),
    (
      {'peers': 'keras', 'model_name': 'inception_v4'},
      '--peers: keras has no inception_v4; it has inception_v3, inception_resnet_v2',
    ),
    (
      {'peers': 'timm', 'timm_python': 'python', 'precision': 'float16'},
      '--peers: timm is measured with bfloat16 or float32, not float16',
    ),
    ({'peers': 'keras', 'num_clones': 2}, '--peers: keras is measured on one device'),
    ({'warmup_steps': 1}, '--warmup_steps=1: must be a whole number, at least 2'),
    ({'recipe': 'soup'}, '--recipe=soup: choose one of '),
    ({'mode': 'input', 'dataset_name': 'imagenet'}, '--dataset_name=imagenet needs --dataset_dir'),
  ],
)
def test_flags_that_are_refused(flags, message):
  with pytest.raises(ValueError) as error:
    resolve(flags)
  assert str(error.value).startswith(message)


def test_interpreters_without_timm():
  with pytest.raises(ValueError, match='cannot import timm: ModuleNotFoundError'):
    peers.check_timm(sys.executable)
  with pytest.raises(ValueError, match='--timm_python=/no/python: No such file'):
    peers.check_timm('/no/python')


@pytest.mark.slow
def test_the_command(tmp_path):
  flags = [f'--model_name={tiny.NAME}', '--batch_size=2', '--num_rounds=2', '--warmup_steps=2']
  files = [f'--output_json={tmp_path}/r.json', f'--output_csv={tmp_path}/r.csv']
  done = zygote.run('benchmark', '--mode=infer', *flags, *files)
  assert done.returncode == 0
  first, second = done.stderr.splitlines()
  what = f'Measuring infer: {tiny.NAME}, 32 x 32 pixels, batches of 2, float32, on '
  assert first.startswith(what) and first.endswith('; 2 rounds')
  assert second == 'Tracing and compiling the step, and warming up: the first one takes longer'
  assert 'slim-inception' in done.stdout
  (result,) = map(json.loads, (tmp_path / 'r.json').read_text().splitlines())
  row = (tmp_path / 'r.csv').read_text().splitlines()[1]
  assert float(row.split(',')[1]) == pytest.approx(result['images_per_second'], abs=0.01)


def test_peak_memory_is_the_programs_own():
  """Of a child whose parent had more: getrusage would say the parent's."""
  ours = np.ones(300 << 20, np.uint8)
  code = f'import sys; sys.path.insert(0, {str(pathlib.Path(timing.__file__).parent)!r}); '
  code += 'import timing; print(timing.peak_resident_bytes())'
  found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert 5 << 20 < int(found.stdout) < 100 << 20
  del ours
