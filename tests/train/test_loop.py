"""What a run does besides training: evaluating itself, stopping early, surviving a bad loss."""

import json
import math
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints

from slim_inception import flags
from slim_inception.evaluate import during_training
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.run import evaluate as run_evaluation
from slim_inception.train import (
  checkpoint_manager,
  evaluation_history,
  loop,
  recovery,
  train_state,
  trainer,
)
from slim_inception.train.plan import make_plan
from tests import records
from tests.datasets import slim_records
from tests.train import processes

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def data(data):
  return records.write_set(data, count=9, split='validation')


def config(data, train_dir, **kwargs):
  defaults = {'batch_size': 8, 'moving_average_decay': 0.5}
  return processes.config(train_dir, data, **{**defaults, **kwargs})


def train(settings):
  trainer.train(settings, during_training.evaluator_of(settings))


def evaluations(train_dir):
  return {e['step']: e['eval_top_1'] for e in processes.metrics(train_dir) if 'eval_top_1' in e}


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
  """Three steps an epoch; evaluated after each epoch and at the end."""
  train_dir = tmp_path_factory.mktemp('run')
  train(config(data, train_dir, eval_interval_epochs=1.0, max_number_of_steps=7, max_to_keep=9))
  return train_dir


def evaluate(checkpoint, folder):
  settings = {'checkpoint_path': str(checkpoint), 'eval_dir': str(folder / 'eval')}
  return run_evaluation(resolve_eval(settings))


def test_a_run_evaluates_itself(run, tmp_path):
  found = evaluations(run)
  assert list(found) == [3, 6, 7]
  settings = {'checkpoint_path': str(run), 'eval_dir': str(tmp_path / 'eval')}
  evaluation = Evaluation(resolve_eval(settings))
  for step, top_1 in found.items():
    outcome = evaluation.evaluate([str(run / f'model.ckpt-{step}')])
    assert outcome.metrics['top_1'] == top_1
  entry = next(e for e in processes.metrics(run) if 'eval_top_1' in e)
  assert (entry['eval_num_images'], entry['epoch']) == (9, 1.0)
  steps = [e['step'] for e in processes.metrics(run) if 'loss' in e]
  assert steps == [1, 2, 3, 4, 5, 6, 7]


def test_the_best_checkpoint_is_kept_and_can_be_evaluated(run, tmp_path):
  found = evaluations(run)
  best = max(found, key=lambda step: (found[step], -step))
  names = sorted(path.name for path in (run / 'best').iterdir())
  assert names == [
    'checkpoint', 'config.json', 'metrics.json', f'model.ckpt-{best}.data-00000-of-00001',
    f'model.ckpt-{best}.index',
  ]  # fmt: skip
  kept = json.loads((run / 'best' / 'metrics.json').read_text())
  assert (kept['top_1'], kept['checkpoint']) == (found[best], f'model.ckpt-{best}')
  assert evaluate(run / 'best', tmp_path)['top_1'] == found[best]


def test_epochs_are_counted_by_images(data, tmp_path):
  """Ten steps of 16 images, and then steps of 8, of which an epoch has 2.5."""
  settings = config(
    data, tmp_path, max_number_of_steps=None, num_epochs=11.0, eval_interval_epochs=0.1
  )
  plan = make_plan(settings, 20, 3, 1)
  assert plan.total_steps == 28  # 27.5
  plan = plan.start_from(train_state.Counters(10, 170, 160), settings.schedule)
  assert [plan.epoch(step) for step in (10, 11, 15)] == [8.0, 8.4, 10.0]
  assert plan.total_steps == 10 + 8  # 60 of 220 images are left
  assert [plan.steps_until(epoch) for epoch in (8.0, 8.1, 10.0)] == [10, 11, 15]
  assert plan.start_from(plan.start, config(data, tmp_path).schedule).total_steps == 6

  def evaluated(every):
    each = flags.replace(settings, eval_interval_epochs=every)
    steps = range(11, 19)
    return [step for step in steps if loop.what_is_due(each, plan, step, False).evaluate]

  assert evaluated(1.0) == [13, 15, 18]  # at 9.2, 10, and 11.2, the end
  assert evaluated(0.1) == list(range(11, 19))
  assert evaluated(2.0) == [15, 18]


@pytest.mark.parametrize(
  ('stored', 'expected'),
  [
    ((), (6, 48, 48)),
    (('input_position',), (6, 50, 50)),
    (('input_position', 'trained_images'), (6, 50, 40)),
  ],
)
def test_older_checkpoints_say_less(tmp_path, stored, expected):
  values = {'global_step': 6, 'input_position': 50, 'trained_images': 40}
  numbers = {name: tf.constant(values[name], tf.int64) for name in ('global_step', *stored)}
  checkpoints.save(tmp_path / 'model.ckpt-6', numbers)
  assert train_state.read_counters(str(tmp_path / 'model.ckpt-6'), 8) == expected


def test_stops_at_a_target(data, tmp_path, caplog):
  with caplog.at_level('INFO', 'absl'):
    train(config(data, tmp_path, eval_interval_epochs=1.0, stop_at_top_1=0.0))
  assert [e['step'] for e in processes.metrics(tmp_path) if 'loss' in e] == [1, 2, 3]
  assert 'has reached --stop_at_top_1=0.0' in caplog.text


@pytest.mark.parametrize(
  ('values', 'stops'),
  [([0.1, 0.2, 0.3], False), ([0.3, 0.2], False), ([0.1, 0.3, 0.2, 0.3], True)],
)
def test_stops_when_nothing_gets_better(data, tmp_path, values, stops):
  settings = config(data, tmp_path, patience=2, eval_interval_epochs=1.0)
  history = evaluation_history.EvaluationHistory(enumerate(values, start=1))
  reason = history.reason_to_stop(settings.evaluation)
  assert bool(reason) == stops
  if stops:
    assert reason.startswith('2 evaluations without a top-1 better than 0.3000 of step 2')


def test_patience_counts_on_after_a_restart(tmp_path):
  lines = [{'step': 3, 'eval_top_1': 0.5}, {'step': 6, 'eval_top_1': 0.4}, {'step': 9, 'loss': 1}]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  found = evaluation_history.EvaluationHistory.read(str(tmp_path), 6)
  assert not found.add(9, 0.45)
  assert found.add(12, 0.6)


def test_the_best_of_a_branch_that_was_left_is_replaced(tmp_path):
  """By the first evaluation after going back: the best before has no files any more."""
  lines = [{'step': 3, 'eval_top_1': 0.5}, {'step': 9, 'eval_top_1': 0.6}]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  best = tmp_path / 'best'
  best.mkdir()
  checkpoint_manager.write_checkpoint_state(str(best), [str(best / 'model.ckpt-9')])
  assert not evaluation_history.EvaluationHistory.read(str(tmp_path), 9).add(10, 0.55)
  history = evaluation_history.EvaluationHistory.read(str(tmp_path), 3)
  assert [history.add(step, top_1) for step, top_1 in ((4, 0.3), (5, 0.2), (6, 0.4))] == [
    True, False, True
  ]  # fmt: skip


def test_a_split_that_is_not_there_is_said_before_the_first_step(data, tmp_path):
  with pytest.raises(ValueError, match="no split 'test' in .*it has: train, validation"):
    train(config(data, tmp_path / 'never', eval_interval_epochs=1.0, eval_split_name='test'))
  assert not (tmp_path / 'never').exists()


# A loss that goes wrong


@pytest.fixture
def poison(monkeypatch):
  """Makes the losses of some batches wrong: those that hold these records."""

  def add(value, *indices):
    class Poisoned(trainer.TrainStep):
      def __call__(self, batch, step, learning_rate):
        result = super().__call__(batch, step, learning_rate)
        if not set(np.ravel(batch['record_index'])) & set(indices):
          return result
        return result._replace(metrics={**result.metrics, 'loss': tf.constant(value)})

    monkeypatch.setattr(trainer, 'TrainStep', Poisoned)

  return add


@pytest.mark.parametrize('loss', [math.nan, math.inf, 1e9])
def test_a_loss_that_is_lost(data, tmp_path, loss):
  settings = config(data, tmp_path)
  guard = recovery.Recovery(settings.run, make_plan(settings, 24, 3, 1))
  assert guard.problem(loss, None, False) == f'The loss is {loss:.4g}'
  assert guard.problem(7.0, None, False) == ''


def test_a_bad_loss_stops_the_run_and_rollback_skips_the_batches_since(
  data, tmp_path, poison, caplog
):
  poison(math.nan, 24)  # the fourth batch
  with pytest.raises(ValueError) as error:
    train(config(data, tmp_path, save_interval_steps=2))
  message = str(error.value)
  assert message.startswith('The loss is nan at step 4 (learning rate 0.045): try a smaller')
  assert f'the last good checkpoint is {tmp_path}/model.ckpt-2; --on_nan=rollback' in message
  with caplog.at_level('INFO', 'absl'):
    train(config(data, tmp_path, on_nan='rollback'))
  assert f'going back to {tmp_path}/model.ckpt-2 and skipping the batches since' in caplog.text
  entries = processes.metrics(tmp_path)
  assert [entry['step'] for entry in entries] == [1, 2, 3, 4, 5, 6]
  assert all(np.isfinite(entry['loss']) for entry in entries)
  position = tf.train.load_variable(str(tmp_path / 'model.ckpt-6'), 'input_position')
  assert position == 8 * (6 + 2)  # two batches were seen for nothing


def test_rollback_that_does_not_help_ends(data, tmp_path):
  restored, prefix = [], str(tmp_path / 'model.ckpt-1')
  state = types.SimpleNamespace(restore=restored.append)
  checkpoints.save(prefix, {'global_step': tf.constant(1, tf.int64)})
  checkpoint_manager.write_checkpoint_state(str(tmp_path), [prefix])
  settings = config(data, tmp_path, on_nan='rollback')
  guard = recovery.Recovery(settings.run, make_plan(settings, 24, 3, 1))
  assert [guard.go_back(state, step, 0.1, 'The loss is nan') for step in (2, 5, 2)] == [1, 1, 1]
  with pytest.raises(ValueError, match='at step 3 .*went back to .*ckpt-1 3 times without help'):
    guard.go_back(state, 3, 0.1, 'The loss is nan')
  assert restored == [prefix] * 3


def test_full_memory_is_told_from_a_full_disk(data, tmp_path, monkeypatch):
  class Exhausted(trainer.TrainStep):
    def __call__(self, *args):
      raise tf.errors.ResourceExhaustedError(None, None, message)

  monkeypatch.setattr(trainer, 'TrainStep', Exhausted)
  message = '/run/events.out; No space left on device'  # of TensorBoard's events
  with pytest.raises(OSError, match='No space left on device') as error:
    train(config(data, tmp_path))
  assert error.value.filename == '/run/events.out'
  message = 'OOM when allocating\nand a page'
  with pytest.raises(ValueError) as error:
    train(config(data, tmp_path, sync_batch_norm=True))
  assert str(error.value) == (
    'Out of memory with 8 images of 32 x 32 pixels a pass: try --batch_size=4, which with '
    '--accumulate_steps=2 is the same global batch, or --recompute, or --precision=bfloat16, or a '
    'smaller net or smaller images (OOM when allocating)'
  )


def test_profile(data, tmp_path):
  train(config(data, tmp_path, profile_steps='2,3', max_number_of_steps=4))
  script = pathlib.Path(__file__).parents[2] / 'benchmarks' / 'profile_step.py'
  shown = subprocess.run(
    [sys.executable, script, f'--profile={tmp_path}'], check=True, capture_output=True, text=True
  ).stdout
  for kind in ('convolutions', 'filter gradients', 'batch norm', 'optimizer'):
    assert re.search(rf'^{kind} .* [1-9]\d* operations$', shown, re.MULTILINE), shown


def test_tensorboard_shows_images_as_the_net_sees_them(data, tmp_path):
  train(config(data, tmp_path, max_number_of_steps=2, save_summaries_secs=0.0, histograms=True))
  tags = {}
  for event in next(tmp_path.glob('events.out.tfevents*')).parent.glob('events*'):
    for record in tf.data.TFRecordDataset(str(event)):
      for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
        tags.setdefault(value.tag, tf.make_ndarray(value.tensor))
  width, height, *images = tags['train/images']
  assert (int(width), int(height), len(images)) == (32, 32, 8)
  pixels = tf.stack([tf.io.decode_png(image) for image in images]).numpy()
  assert pixels.shape == (8, 32, 32, 3)
  assert pixels.std() > 10
  names = tags['train/labels'].item().decode().split(', ')
  assert len(names) == 8
  assert set(names) == {'color 0', 'color 1', 'color 2'}
  assert tags['InceptionTiny/Conv2d_1a_3x3/weights'].shape[1] == 3  # buckets: left, right, count


# Fine-tuning


def fine_tune(data, train_dir, start, **flags):
  flags |= {'recipe': 'finetune', 'checkpoint_path': start, 'moving_average_decay': None}
  train(config(data, train_dir, **flags))


def test_frozen_batch_norm_stays_as_it_was_restored(run, data, tmp_path):
  """slim's --trainable_scopes let the moving averages of frozen layers drift."""
  start = str(run / 'model.ckpt-7')
  flags = {'freeze_batch_norm': True, 'max_number_of_steps': 2, 'warmup_epochs': 0.0}
  fine_tune(data, tmp_path, start, **flags)
  before, after = processes.weights(start), processes.weights(tmp_path)
  averaged = {n: before.get(n + checkpoints.EMA_SUFFIX) for n in after}  # what is restored
  names = [name for name, value in averaged.items() if value is not None]
  norms = [name for name in names if '/BatchNorm/' in name]
  assert len(norms) > 10
  for name in norms:
    np.testing.assert_array_equal(after[name], averaged[name])
  changed = [n for n in names if n not in norms and not np.array_equal(after[n], averaged[n])]
  assert len(changed) > 5


def test_heads_are_trained_first(run, data, tmp_path):
  """slim's flowers script in one command: the new heads, then everything."""
  start = str(run / 'model.ckpt-7')
  flags = {'head_epochs': 1.0, 'max_number_of_steps': 4, 'save_interval_steps': 1}  # 3 an epoch
  fine_tune(data, tmp_path, start, checkpoint_exclude_scopes='InceptionTiny/Logits', **flags)
  before = processes.weights(start)
  heads, rest = (processes.weights(tmp_path / f'model.ckpt-{step}') for step in (3, 4))
  of_heads = ('InceptionTiny/Logits', 'InceptionTiny/AuxLogits')
  names = [name for name in heads if name.endswith('/weights')]
  assert len(names) > 8
  for name in names:
    value, is_head = heads[name], name.startswith(of_heads)
    assert np.array_equal(value, before[name + checkpoints.EMA_SUFFIX]) != is_head, name
    assert not np.array_equal(rest[name], value), name


def test_without_a_checkpoint_there_is_no_head_first(data, tmp_path, caplog):
  with caplog.at_level('INFO', 'absl'):
    train(config(data, tmp_path, recipe='finetune', max_number_of_steps=1))
  assert '--head_epochs' not in caplog.text


def test_several_labels_a_image(tmp_path):
  """Images of two classes each; the whole way from records to the evaluation."""
  directory = tmp_path / 'data'
  directory.mkdir()
  for split, count in (('train', 16), ('validation', 6)):
    examples = [
      slim_records.example(
        image_encoded=records.image(i, i), image_class_label=[i % 3, 3], image_format=b'JPEG'
      )
      for i in range(count)
    ]
    slim_records.write(directory / f'{split}-00000-of-00001', examples)
  (directory / 'labels.txt').write_text('0:a\n1:b\n2:c\n3:all\n')
  run = tmp_path / 'run'
  kwargs = {'loss': 'sigmoid', 'max_number_of_steps': 2, 'accumulate_steps': 2, 'batch_size': 4}
  train(config(directory, run, **kwargs, eval_interval_epochs=1.0, save_summaries_secs=0.0))
  assert all(np.isfinite(entry['loss']) for entry in processes.metrics(run) if 'loss' in entry)
  found = evaluate(run, tmp_path)
  assert (found['num_images'], found['top_5']) == (6, 1.0)  # of four classes
  with pytest.raises(ValueError, match='sigmoid'):
    train(config(directory, tmp_path / 'other', max_number_of_steps=2))
