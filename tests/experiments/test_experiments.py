"""The experiments of the papers: with a net of test size, and what they say of numbers made up."""

import csv
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from slim_inception.nets import nets_factory

pytest.importorskip('matplotlib', reason='extra plots')

from experiments import (
  activation_scaling,
  activations,
  distillation,
  page,
  progressive,
  residual_speed,
  runs,
  sampling,
)
from experiments import config as config_lib
from experiments.activation_scaling import Life
from experiments.residual_speed import Pair, Side
from slim_inception import flags
from slim_inception.train import trainer
from tests import records, tiny

ROOT = Path(__file__).resolve().parents[2]
PLAIN = 'tiny_plain'


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=8, split='validation')


@pytest.fixture(autouse=True)
def plain_net(monkeypatch):
  """A second net, which only has another name."""
  net = dataclasses.replace(nets_factory.get_net(tiny.NAME), name=PLAIN)
  monkeypatch.setitem(nets_factory.NETS, PLAIN, net)


def small(config_class, output_dir, data, **values):
  """The configuration of an experiment of four steps a run."""
  shared = {
    'output_dir': str(output_dir),
    'dataset_name': 'image_folder',
    'dataset_dir': str(data),
    'depth_multiplier': 1,
    'train_image_size': 32,
    'batch_size': 12,
    'num_epochs': 2,
    'eval_interval_epochs': 1,
  }
  return flags.build(config_class, {**shared, **values})


def speed(output_dir, data, **values):
  pairs = {'pairs': f'{PLAIN}:{tiny.NAME}'}
  return small(residual_speed.ResidualSpeedConfig, output_dir, data, **{**pairs, **values})


def scaling(output_dir, data, **values):
  net = {'model_name': tiny.NAME, 'scales': '0.1,1', 'num_images': 6}
  return small(activation_scaling.ActivationScalingConfig, output_dir, data, **{**net, **values})


def taught(output_dir, data, **values):
  net = {'model_name': tiny.NAME, 'teacher': 'large.ckpt', 'num_seeds': 3}
  return small(distillation.ExperimentFlags, output_dir, data, **{**net, **values})


def json_of(folder, name='results.json'):
  return json.loads((folder / name).read_text())


# The runs


@pytest.mark.integration
def test_residual_speed_from_flags_to_page(tmp_path, data, monkeypatch):
  config = speed(tmp_path, data)
  assert residual_speed.run(config, 'the command')
  results = json_of(tmp_path)
  assert [row['net'] for row in results['runs']] == [PLAIN, tiny.NAME]
  (pair,) = results['pairs']
  text = (tmp_path / 'page.html').read_text()
  for statement in pair['statements']:
    assert statement in text
  assert text.count('<svg') == 1 and 'the command' in text
  ids = re.findall(r'\bid="([^"]+)"', text)
  assert len(set(ids)) == len(ids) and not any(' ' in each for each in ids)
  targets = {f'#{name}' for name in ids}
  assert set(re.findall(r'url\((#[^)]+)\)', text)) <= targets
  assert set(re.findall(r'xlink:href="(#[^"]+)"', text)) <= targets
  rows = list(csv.DictReader((tmp_path / 'evaluations.csv').read_text().splitlines()))
  assert [(row['net'], row['step']) for row in rows] == [
    (name, step) for name in (PLAIN, tiny.NAME) for step in ('2', '4')
  ]
  # slim-inception compare takes the runs; both had the same seed and are the same net.
  assert rows[0]['top_1_error'] == rows[2]['top_1_error']
  assert {['--seed', '0'][0]} & {'--seed'} and '--num_epochs=2.0' in text
  # Finished runs are not run again, and other flags are refused before anything is done.
  monkeypatch.setattr(trainer, 'train', lambda *_: pytest.fail('trained again'))
  assert residual_speed.run(config, 'the command')
  assert json_of(tmp_path)['pairs'] == results['pairs']
  with pytest.raises(ValueError, match=f'{PLAIN} holds a run with --seed=0, not 1: choose another'):
    residual_speed.run(speed(tmp_path, data, seed=1), 'the command')


@pytest.fixture
def sigterm_fails() -> Iterator[None]:
  """A SIGTERM that nothing handles fails the test; else it would end the process of the tests."""
  before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail('SIGTERM'))
  yield
  signal.signal(signal.SIGTERM, before)


@pytest.mark.integration
@pytest.mark.usefixtures('sigterm_fails')
def test_activation_scaling_goes_on_where_it_was_stopped(tmp_path, data, monkeypatch):
  config = scaling(tmp_path, data)
  make = activation_scaling.evaluator_of
  evaluated = []

  def stopping(config, num_images):
    evaluate = make(config, num_images)

    def both(prefix):
      evaluated.append(prefix)
      if len(evaluated) == 3:  # the first of the second run
        os.kill(os.getpid(), signal.SIGTERM)
      return evaluate(prefix)

    return both

  monkeypatch.setattr(activation_scaling, 'evaluator_of', stopping)
  assert not activation_scaling.run(config, 'the command')
  assert not (tmp_path / 'page.html').exists()
  assert activation_scaling.run(config, 'the command')
  names = ['scale_1.0', 'scale_0.1']
  assert [Path(prefix).parent.name for prefix in evaluated] == [n for n in names for _ in (0, 1)]
  results = json_of(tmp_path)
  assert [life['scale'] for life in results['lives']] == [1.0, 0.1]
  assert [life['steps'] for life in results['lives']] == [[2, 4], [2, 4]]
  assert results['row'] == 'Mixed_3a'
  rows = list(csv.DictReader((tmp_path / 'activations.csv').read_text().splitlines()))
  assert [(row['scale'], row['row'], row['step']) for row in rows] == [
    (scale, row, step) for scale in ('1.0', '0.1') for row in ('Block', 'Mixed_3a') for step in '24'
  ]
  assert results['lives'][0]['zeros'][1] == float(rows[3]['zeros'])
  assert len(runs.read_starts(str(tmp_path))) == 2
  assert json_of(tmp_path / 'runs' / names[1], 'config.json')['activation_scale'] == 0.1
  text = (tmp_path / 'page.html').read_text()
  assert all(statement in text.replace('&#34;', '"') for statement in results['statements'])


@pytest.mark.integration
def test_a_run_that_diverges_is_a_result(tmp_path, data, monkeypatch):
  config = scaling(tmp_path, data, learning_rate=1e30, scales='1,0.5')
  assert activation_scaling.run(config, 'the command')
  (first, second) = json_of(tmp_path)['statements'][:2]
  assert re.match(r'Residuals times 1: .* diverged at step \d', first)
  assert re.match(r'Residuals times 0\.5: .* diverged at step \d', second)
  monkeypatch.setattr(trainer, 'train', lambda *_: pytest.fail('trained again'))
  assert activation_scaling.run(config, 'the command')


@pytest.mark.integration
def test_the_probe_sees_what_training_sees(tmp_path, data):
  """With the whole classifier, NumPy and the images of the records."""
  config = next(iter(activation_scaling.configs_of(scaling(tmp_path, data)).values()))
  model = nets_factory.create_model(tiny.NAME, 3, activation_scale=1.0)
  for name, variable in model.variables_by_name.items():
    if name.endswith('beta'):
      variable.assign(np.linspace(-2, 1, variable.shape[0]))
  model.save(str(tmp_path / 'model.ckpt'))
  probe = activations.Probe(config, 8)
  figures = probe.measure(str(tmp_path / 'model.ckpt'))
  assert activations.rows_of([*figures]) == probe.rows == ('Block', 'Mixed_3a')
  images = probe._images
  assert images.shape == (8, 32, 32, 3) and -1 <= float(images.numpy().min()) < 0
  _, end_points = model(images, training=True)
  for row in probe.rows:
    values = end_points[row].numpy()
    dead = [not values[..., c].any() for c in range(values.shape[-1])]
    assert figures[f'zeros {row}'] == pytest.approx(1 - np.count_nonzero(values) / values.size)
    assert figures[f'dead_filters {row}'] == pytest.approx(np.mean(dead))
    assert figures[f'mean {row}'] == pytest.approx(values.mean(), rel=1e-4)
  assert figures['zeros Mixed_3a'] > 0.3


def test_width():
  model = activation_scaling.ModelConfig(
    model_name='inception_resnet_v1', depth_multiplier=0.6, train_image_size=80
  )
  # Three strided convolutions of Mixed_7a, of 384, 256 and 256 filters, and the pooled input, which
  # is as deep as Mixed_6a: 384 and 256 filters, and its input of 256.
  assert activation_scaling.num_filters(model, 'Repeat_2/block8_5') == 2 * 230 + 4 * 153


def test_activations_worked_out_on_paper():
  values = np.zeros((2, 1, 2, 4), np.float32)
  values[0, 0, 0, 1] = 8.0
  values[..., 2] = 1.0
  assert activations.measure(values) == (11 / 16, 0.5, 0.75)


@pytest.mark.parametrize(
  ('name', 'rows'),
  [
    ('inception_resnet_v1', ['Repeat/block35_5', 'Repeat_1/block17_10', 'Repeat_2/block8_5']),
    (
      'inception_resnet_v2',
      ['Repeat/block35_10', 'Repeat_1/block17_20', 'Repeat_2/block8_9', 'Conv2d_7b_1x1'],
    ),
    ('inception_v4', ['Mixed_7d']),
  ],
)
def test_rows_that_are_looked_at(name, rows):
  assert list(activations.probed_rows(nets_factory.get_net(name).body)) == rows


@pytest.mark.slow
@pytest.mark.integration
def test_distillation_from_flags_to_page(tmp_path, data, monkeypatch):
  teacher = str(tmp_path / 'teacher.ckpt')
  tiny.random_net(3, seed=0).save(teacher)
  config = taught(tmp_path, data, teacher=teacher, teacher_model_name=tiny.NAME, seed=4)
  assert distillation.run(config, 'the command')
  results = json_of(tmp_path)
  rows = list(csv.DictReader((tmp_path / 'results.csv').read_text().splitlines()))
  assert [row['run'] for row in rows] == [
    f'{kind}_{seed}' for seed in (4, 5, 6) for kind in ('alone', 'taught')
  ]
  text = (tmp_path / 'page.html').read_text()
  assert all(statement in text for statement in results['statements'])
  for kind in ('alone', 'taught'):
    written = json_of(tmp_path / 'runs' / f'{kind}_5', 'config.json')
    assert (written['teacher'], written['seed']) == ([teacher] * (kind == 'taught'), 5)
  monkeypatch.setattr(trainer, 'train', lambda *_: pytest.fail('trained again'))
  assert distillation.run(config, 'the command')


def test_runs_of_distillation(tmp_path):
  """A teacher is trained unless there is one; digits have a split of few images."""
  common = {'output_dir': str(tmp_path), 'num_seeds': 3}
  made = distillation.configs_of(flags.build(distillation.ExperimentFlags, common))
  assert [*made] == ['teacher', *(f'{k}_{s}' for s in range(3) for k in ('alone', 'taught'))]
  assert made['teacher'].data.dataset_split_name == 'train'
  assert made['taught_1'].distillation.teacher == (str(tmp_path / 'runs' / 'teacher'),)
  first, second = (made[f'{kind}_1'] for kind in ('alone', 'taught'))
  values = flags.flatten(first).items(), flags.flatten(second)
  assert {name for name, value in values[0] if values[1][name] != value} == {'train_dir', 'teacher'}
  experiment = flags.build(distillation.ExperimentFlags, common).experiment
  config_lib.make_records(experiment, made['teacher'], distillation.digits_with_few)
  info = json_of(tmp_path / 'data', 'dataset.json')
  assert info['splits']['few']['num_images'] == 103
  assert min(info['splits']['few']['label_counts']) >= 9


# What is said


def pair(plain, residual, **values):
  """Of (best, mean, epochs, hours)."""
  shared = {'target': max(plain[0], residual[0]), 'num_images': 1000, 'num_classes': 10}
  return Pair(Side('A', *plain), Side('B', *residual), **{**shared, **values})


FAST, SLOW = (5.0, 20.0, 2.0, 0.2), (10.0, 30.0, 4.0, 0.3)


def test_speed_is_told_by_the_numbers():
  faster, errors = residual_speed.statements_of(pair(SLOW, FAST))
  assert faster.startswith(
    'B and A both come to 10.00 % top-1 error: 2.0 epochs with residuals and 4.0 without '
    '(2.00 times as fast); 0.200 hours with residuals and 0.300 without (1.50 times as fast). '
  )
  assert faster.endswith('the residual net learned faster, as in the paper.')
  assert errors.endswith('1,000 images (± 2.31): B is better.')
  slower, errors = residual_speed.statements_of(pair(FAST, SLOW))
  assert '(0.50 times as fast)' in slower
  assert slower.endswith('more slowly: this does not show what the paper saw.')
  assert errors.endswith(': A is better.')


@pytest.mark.parametrize(
  'residual', [(9.5, 31.0, 3.0, 0.2), (9.5, 29.0, 4.0, 0.2), (9.5, 30.0, 4.0, None)]
)
def test_no_winner_where_the_numbers_disagree(residual):
  said, errors = residual_speed.statements_of(pair(SLOW, residual))
  assert said.endswith('this does not show what the paper saw.') and 'neither' in said
  assert ('hours' in said) == (residual[3] is not None)
  assert 'cannot tell from none' in errors


def test_what_has_not_learned_says_nothing_of_speed():
  for bad in (pair(SLOW, (85.0, 90.0, 1.0, 1.0)), pair((85.0, 90.0, 1.0, 1.0), SLOW)):
    (said,) = residual_speed.statements_of(bad)
    assert 'did not learn' in said and 'guessing gives 90.0 %' in said
  assert len(residual_speed.statements_of(pair(SLOW, (44.0, 60.0, 1.0, 1.0), k=5))) == 2
  assert len(residual_speed.statements_of(pair(SLOW, (46.0, 60.0, 1.0, 1.0), k=5))) == 1


def life(scale, zeros, dead, errors=(50.0, 40.0), **values):
  steps = [100, 200][: len(zeros)]
  return Life(scale, steps, zeros, dead, list(errors)[: len(zeros)], 1000, 10, **values)


ALIVE = ([0.2, 0.3], [0.0, 0.1])
DYING = ([0.2, 0.9], [0.1, 0.7])
DIED = ([0.2, 1.0], [0.1, 1.0])


@pytest.mark.parametrize(
  ('unscaled', 'scaled', 'verdict'),
  [
    (DYING, ALIVE, 'This shows what the paper saw: with residuals times 1 the net was dying at'),
    (DIED, DYING, 'This shows what the paper saw: with residuals times 1 the net was dead at'),
    (ALIVE, ALIVE, 'This does not show what the paper saw: at the end the net was alive with'),
    (DIED, DIED, 'This does not show what the paper saw: at the end the net was dead with'),
    (
      ALIVE,
      DYING,
      'This is the opposite of what the paper saw: with residuals times 1 the net was',
    ),
  ],
)
def test_life_is_told_by_the_numbers(unscaled, scaled, verdict):
  said = activation_scaling.statements_of([life(0.1, *scaled), life(1.0, *unscaled)])
  assert said[2].startswith(verdict)
  assert said[2].endswith('these runs had at most 200 steps.')
  for statement, (zeros, dead) in zip(said, (unscaled, scaled), strict=False):
    assert f'{zeros[1]:.1%} at step 200, where {dead[1]:.1%} of the filters' in statement
    ends = {1.0: 'had died by step 200.', 0.9: 'any image.', 0.3: 'was alive.'}
    assert statement.endswith(ends[zeros[1]])


def test_states_of_a_run():
  assert life(1, [1.0, 0.4], [1.0, 0.2]).died is None  # it came back
  assert life(1, [1.0, 1.0], [1.0, 1.0]).died == 100
  assert not life(1, [0.7, 0.7], [0.6, 0.6]).is_dying  # so it was from the start
  assert life(1, [], [], diverged=7).health < life(1, *DYING).health
  (said, _, verdict, errors) = activation_scaling.statements_of(
    [life(1, [], [], diverged=7), life(0.1, *ALIVE)]
  )
  assert said.endswith('the run diverged at step 7, before its first evaluation.')
  assert verdict.startswith('Scaling helped, but not against what the paper saw: ')
  assert 'cannot be compared' in errors
  both = [life(s, *ALIVE, diverged=250) for s in (1, 0.1)]
  verdict = activation_scaling.statements_of(both)[2]
  assert verdict.startswith(
    'This does not show what the paper saw: at the end the net had diverged'
  )


def test_cost_of_scaling():
  def said(*errors):
    lives = [life(1, *ALIVE, errors=errors[:2]), life(0.1, *ALIVE, errors=errors[2:])]
    return activation_scaling.statements_of(lives)[-1]

  assert said(50, 40, 50, 42).endswith('than the sampling error of 1,000 images.')
  assert 'Scaling did not cost' in said(50, 40, 50, 42)
  assert 'Scaling did not cost' in said(50, 40, 50, 20)
  assert 'Scaling cost accuracy here with 0.1, unlike' in said(50, 40, 50, 46)
  assert 'no run did better than guessing' in said(90, 89, 90, 88)


@pytest.mark.parametrize(
  ('taught_errors', 'verdict'),
  [
    ((5.0, 6.0, 7.0), '4.00 points fewer, ± 0.00 .* The net learned more with the teacher than al'),
    ((9.0, 4.0, 11.0), '2.00 points fewer, .* So few seeds cannot tell this from no difference.'),
    ((20.0, 21.0, 22.0), '11.00 points more, .* this does not show what the paper saw.'),
  ],
)
def test_teachers_are_told_by_the_numbers(taught_errors, verdict):
  errors = distillation.Errors((9.0, 10.0, 11.0), taught_errors, 1.5, 10)
  first, better, teacher = distillation.statements_of(errors)
  assert re.search(verdict, first)
  assert better.startswith(f'With the teacher {sum(e < 9 for e in taught_errors)} of 3 seeds')
  assert teacher == 'The error of the teacher is 1.50 %.'
  (said,) = distillation.statements_of(errors._replace(alone=(88.0, 90.0, 91.0)))
  assert said.startswith('The net did not learn (alone: 89.7 % mean error)')


@pytest.mark.parametrize('count', [2, 3, 8, sampling.MOST_VALUES])
def test_intervals_of_means_are_scipys(count):
  stats = pytest.importorskip('scipy.stats')
  values = np.random.default_rng(count).normal(size=count)
  low, high = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
  assert sampling.mean_width([*values]) == pytest.approx((high - low) / 2, rel=1e-3)


def test_what_so_many_images_can_tell():
  """The interval covers the difference of two simulated classifiers as often as it says."""
  rng = np.random.default_rng(0)
  drawn = rng.binomial(200, [[0.1], [0.15]], (2, 4000)) / 2
  covered = [abs(a - b + 5) <= sampling.difference_width(a, b, 200) for a, b in drawn.T]
  assert 0.93 < np.mean(covered) < 0.98
  assert sampling.difference_width(0, 0, 360) > 0


# Bad input


@pytest.mark.parametrize(
  ('make', 'values', 'message'),
  [
    (speed, {'pairs': 'inception_v3'}, '--pairs=inception_v3: must be PLAIN:RESIDUAL,'),
    (speed, {'pairs': 'inception_v3:other'}, '--pairs=inception_v3:other: choose one of '),
    (speed, {'pairs': f'{PLAIN}:{PLAIN}'}, 'expected pairs of two nets'),
    (speed, {'setting': 'huge'}, '--setting=huge: choose one of full, small'),
    (speed, {'num_epochs': 0}, '--num_epochs=0: must be a number, greater than 0'),
    (speed, {'dataset_name': 'cifar10', 'dataset_dir': None}, '--dataset_dir must be given: the f'),
    (speed, {'dataset_name': 'synthetic', 'dataset_dir': None}, '--dataset_dir must be given: the'),
    (speed, {'depth_multiplier': 0.5}, f'--depth_multiplier is for .*{PLAIN} has none'),
    (scaling, {'scales': '1'}, '--scales=1: expected two different factors or more'),
    (scaling, {'scales': '1,1,0.1'}, '--scales=1,1,0.1: expected two different factors'),
    (scaling, {'scales': '1,0'}, '--scales=1,0: must be a number, or several with commas, greater'),
    (scaling, {'model_name': 'inception_v4'}, '--activation_scale is for .*inception_v4 has none'),
    (scaling, {'num_images': 1}, '--num_images=1: must be a whole number, at least 2'),
    (taught, {'num_seeds': 2}, '--num_seeds=2: must be a whole number, at least 3, at most 12'),
    (taught, {'distill_weight': 2}, '--distill_weight=2: must be a number, at least 0, at most 1'),
  ],
)
def test_bad_flags_are_one_line(make, values, message, tmp_path, data):
  module = {speed: residual_speed, scaling: activation_scaling, taught: distillation}[make]
  with pytest.raises((ValueError, flags.Error), match=message) as error:
    module.configs_of(make(tmp_path / 'new', data, **values))
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'new').exists()


def test_a_configuration_file_comes_between_setting_and_flags(tmp_path, data):
  (tmp_path / 'mine.toml').write_text('weight_decay = 0.5\nnum_epochs = 9\noptimizer = "sgd"\n')
  config = speed(tmp_path, data, config=str(tmp_path / 'mine.toml'))
  made = residual_speed.configs_of(config)[PLAIN]
  assert made.optimizer.optimizer == 'sgd' and made.optimizer.weight_decay == 0.5
  assert made.schedule.num_epochs == 2 and made.batch.batch_size == 12
  (tmp_path / 'mine.toml').write_text('patience = 2\n')
  with pytest.raises(ValueError, match='--patience ends some runs before others: leave it out'):
    residual_speed.configs_of(config)
  (tmp_path / 'mine.toml').write_text('weight_dekay = 0.5\n')
  with pytest.raises(ValueError, match='mine.toml: weight_dekay: there is no such flag; did you m'):
    residual_speed.configs_of(config)


@pytest.mark.parametrize('setting', ['small', 'full'])
def test_settings_are_configurations(setting, tmp_path):
  common = {'output_dir': str(tmp_path), 'setting': setting, 'dataset_dir': str(tmp_path)}
  nets = residual_speed.configs_of(flags.build(residual_speed.ResidualSpeedConfig, common))
  assert [*nets] == ['inception_v3', 'inception_resnet_v1', 'inception_v4', 'inception_resnet_v2']
  runs_of = activation_scaling.configs_of(
    flags.build(activation_scaling.ActivationScalingConfig, common)
  )
  assert [each.model.activation_scale for each in runs_of.values()] == [1.0, 0.3, 0.1]
  for config in (*nets.values(), *runs_of.values()):
    assert config.data.dataset_name == {'small': 'digits', 'full': 'imagenet'}[setting]
    assert config.run.recipe == {'small': 'slim', 'full': 'paper'}[setting]


def test_cifar_is_evaluated_on_its_test_split(tmp_path, data):
  config = residual_speed.configs_of(speed(tmp_path, data, dataset_name='cifar10'))[PLAIN]
  assert config.evaluation.eval_split_name == 'test'


def test_the_commands_say_what_is_wrong_without_waiting_for_tensorflow():
  for name in ('residual_speed', 'activation_scaling', 'distillation'):
    code = (
      f'import sys, runpy; sys.argv[1:] = ["--seed=-1"]\n'
      f'try: runpy.run_module("experiments.{name}", run_name="__main__", alter_sys=True)\n'
      'finally: print("tensorflow" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, 'False\n')
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'python -m experiments.{name}: --seed=-1: must be a whole number')


def test_two_plots_of_a_page_do_not_share_ids(tmp_path):
  svg = (
    '<?xml version="1.0"?>\n<svg><path id="a b"/><use xlink:href="#a b" clip-path="url(#c)"/></svg>'
  )
  (tmp_path / 'a.svg').write_text(svg)
  first, second = (page.inline_svg(tmp_path / 'a.svg', prefix) for prefix in ('p0-', 'p1-'))
  assert first.startswith('<svg><path id="p0-a-b"/>') and 'url(#p0-c)' in first
  assert 'p0-' not in second


# Small images first


def ways(output_dir, data, tmp_path, **values):
  schedule = tmp_path / 'schedule.toml'
  schedule.write_text(
    f'model_name = "{tiny.NAME}"\naux_loss_weight = 0.0\n'
    'image_size_schedule = [[0, 24, 8], [1, 32, 6]]\n'
    'batch_norm_batches = 2\nmoving_average_decay = 0.5\n'
  )
  shared = {
    'output_dir': str(output_dir),
    'dataset_name': 'image_folder',
    'dataset_dir': str(data),
    'config': str(schedule),
    'depth_multiplier': 1,
    'num_epochs': 2,
    'eval_interval_epochs': 1,
  }
  return flags.build(progressive.ProgressiveConfig, {'short_share': 0.5, **shared, **values})


def test_the_ways_differ_in_sizes_and_batches_alone(tmp_path, data):
  configs = progressive.configs_of(ways(tmp_path / 'out', data, tmp_path, num_seeds=2))
  turns = ['progressive_0', 'fixed_0', 'fixed_1', 'progressive_1']
  assert list(configs) == [*turns, 'short_0', 'short_1']
  flat = {name: flags.flatten(config) for name, config in configs.items()}
  schedule, fixed, short = (flat[f'{name}_1'] for name in progressive.WAYS)
  differing = {name for name in fixed if fixed[name] != schedule[name]}
  assert differing == {'train_dir', 'image_size_schedule', 'train_image_size', 'batch_size'}
  assert (fixed['train_image_size'], fixed['batch_size'], fixed['seed']) == (32, 6, 1)
  assert {name for name in fixed if fixed[name] != short[name]} == {'train_dir', 'num_epochs'}
  assert short['num_epochs'] == 0.5 * fixed['num_epochs'] == 1
  for setting in config_lib.SETTINGS:
    values = {'output_dir': str(tmp_path), 'setting': setting, 'dataset_dir': str(data)}
    configs = progressive.configs_of(flags.build(progressive.ProgressiveConfig, values))
    assert configs['progressive_0'].model.image_size_schedule
    assert configs['fixed_0'].model.train_image_size in (160, 299)
  made = progressive.configs_of(
    flags.build(progressive.ProgressiveConfig, {'output_dir': str(tmp_path)})
  )
  assert {config.data.dataset_dir for config in made.values()} == {str(tmp_path / 'data')}
  values = {'output_dir': str(tmp_path), 'dataset_name': 'cifar10'}
  with pytest.raises(ValueError, match='--dataset_dir must be given: .* the records of cifar10'):
    progressive.configs_of(flags.build(progressive.ProgressiveConfig, values))


@pytest.mark.integration
def test_progressive_trains_by_turns_and_says_what_came_of_it(tmp_path, data):
  config = ways(tmp_path / 'out', data, tmp_path, num_seeds=2, eval_interval_epochs=2)
  assert progressive.run(config, 'the command')
  results = json_of(tmp_path / 'out')
  for name in progressive.WAYS:
    way = results['ways'][name]
    for i in range(2):
      (start,) = runs.read_starts(str(tmp_path / 'out' / 'runs' / f'{name}_{i}'))
      assert way['seconds'][i] == start['wall_seconds']
      assert way['cpu_seconds'][i] == start['cpu_seconds'] > 0
      assert 0 < 3600 * way['hours'][i] < way['seconds'][i]
  assert [row['epochs'] for row in results['runs']] == 4 * [2.0] + 2 * [1.0]
  text = (tmp_path / 'out' / 'page.html').read_text()
  assert all(statement in text.replace('&#34;', '"') for statement in results['statements'])
  assert '0.0:24:8,1.0:32:6' in text and text.count('<svg') == 1


# By seed; the mean of FIXED is 1.5 %, its standard deviation 0.5, Student's t of two degrees 4.303.
FIXED = progressive.Way((1.0, 2.0, 1.5), (100.0, 100.0, 100.0), (50.0, 60.0, 80.0), (0.01,) * 3)
FASTER = progressive.Way((1.5, 2.0, 1.3), (60.0, 66.0, 72.0), (25.0, 30.0, 40.0), (0.004,) * 3)
SHORT = progressive.Way((4.0, 5.1, 4.5), (70.0, 70.0, 70.0), (35.0, 42.0, 56.0), (0.007,) * 3)


def said_of(progressive_way=FASTER, short=SHORT):
  ways = {'fixed': FIXED, 'progressive': progressive_way, 'short': short}
  return progressive.statements_of(ways, 10)


def test_what_is_said_of_the_ways():
  errors, times, verdict, differences = said_of()
  assert errors == (
    'The mean top-1 error at the end is 1.60 % with the schedule (1.30 to 2.00), 1.50 % with one '
    'size (1.00 to 2.00), 4.53 % with one size, fewer epochs (4.00 to 5.10), over 3 seeds. That of '
    f'one size is known to ± {4.303 * 0.5 / 3**0.5:.2f} points (95 %): that of the schedule is '
    'within this interval, that of fewer epochs above it.'
  )
  assert 'took 0.66 (0.60 to 0.72 by seed) of the processor time of one size' in times
  assert 'by the clock 0.50 (0.50 to 0.50 by seed)' in times
  assert 'training alone 0.40 (0.40 to 0.40 by seed). One size with fewer epochs took 0.70' in times
  assert verdict.startswith('So the schedule was as good as one size in at most 0.7 of its time, w')
  width = 4.303 * np.std([0.5, 0, -0.2], ddof=1) / 3**0.5  # of the differences seed by seed
  assert f'is 0.10 points higher, ± {width:.2f} (95 %), which so few' in differences
  assert re.search(r' 2\.93 points lower, ± [0-9.]+ \(95 %\), than with one size and', differences)
  assert 'With one size it is 3.03 points lower, ± 0.14 (95 %), than with fewer e' in differences


@pytest.mark.parametrize(
  ('errors', 'seconds', 'short', 'place', 'verdict'),
  [
    ((2.7, 2.8, 2.7), 60.0, 4.0, 'within', 'in at most 0.7 of its time, which fewer epochs were n'),
    ((0.2, 0.2, 0.1), 60.0, 4.0, 'below', 'in at most 0.7 of its time, which fewer epochs were n'),
    ((2.7, 2.8, 2.7), 60.0, 2.7, 'within', 'but so were fewer epochs'),
    ((2.7, 2.8, 2.7), 71.0, 4.0, 'within', 'but took more than 0.7 of its time'),
    ((2.8, 2.8, 2.8), 60.0, 4.0, 'above', 'did not come to the error of one size'),
  ],
)
def test_small_images_saved_time_only_if_all_of_it_is_so(errors, seconds, short, place, verdict):
  """One size is at 1.5 ± 1.24 %."""
  way = FASTER._replace(errors=errors, cpu_seconds=(seconds,) * 3)
  said = said_of(way, SHORT._replace(errors=(short,) * 3))
  assert f'that of the schedule is {place} this interval' in said[0]
  assert verdict in said[2]


def test_what_has_not_learned_says_nothing_of_small_images():
  (only,) = said_of(FASTER._replace(errors=(90.0, 89.0, 90.0)))
  assert only.startswith('The progressive runs did not learn')
