"""Whole runs, small: records on disk, the real loop, files in train_dir."""

import contextlib
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.datasets.runners import num_cores
from slim_inception.nets import checkpoint_files, checkpoints, inception, nets_factory, slim
from slim_inception.nets.convert import conversion, torch_family

from slim_inception.cluster import Cluster
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.run import evaluate as run_evaluation
from slim_inception.evaluate.stored_weights import open_weights
from slim_inception.train import checkpoint_manager, description, progress, run_input, trainer
from slim_inception.train.train_state import Counters
from tests import records, tiny
from tests.train import processes

pytestmark = pytest.mark.integration

tf1 = tf.compat.v1


@pytest.fixture(scope='module')
def data(data) -> pathlib.Path:
  return records.write_set(data, count=23, split='validation')


def config(data, train_dir, **kwargs):
  return processes.config(train_dir, data, **{'recipe': 'paper', 'batch_size': 8, **kwargs})


@pytest.fixture(scope='module')
def run(data, tmp_path_factory) -> pathlib.Path:
  """A run of six steps that nothing disturbed."""
  train_dir = tmp_path_factory.mktemp('run')
  trainer.train(config(data, train_dir))
  return train_dir


def test_files_of_a_run(run, data):
  names = {path.name for path in run.iterdir()}
  assert {'checkpoint', 'config.json', 'metrics.jsonl', 'model.ckpt-6.index'} <= names
  assert any(name.startswith('events.out.tfevents') for name in names)
  assert not [name for name in names if '.part' in name]
  saved = json.loads((run / 'config.json').read_text())
  assert saved['recipe'] == 'paper'
  assert saved['run']['num_classes'] == 3
  assert saved['run']['steps_per_epoch'] == 3.0


@pytest.mark.parametrize(
  ('settings', 'window', 'text'),
  [
    (
      {}, 133, 'Shuffling 133 records together: up to 1,995 MB of memory, 5,000 kB a record; '
      '--shuffle_buffer=4096 would take 15,000 MB, more than --shuffle_buffer_mb=2000',
    ),
    (
      {'shuffle_buffer_mb': 20_000}, 1333,
      'Shuffling 1,000 records together: up to 15,000 MB of memory, 5,000 kB a record',
    ),
    ({'shuffle_buffer': 2}, 2, ''),
  ],
)  # fmt: skip
def test_large_records_are_shuffled_in_smaller_windows(data, tmp_path, settings, window, text):
  """A thousand records of 5 MB in a file that is sparse: its size alone is looked at."""
  path = tmp_path / 'train-00000-of-00001'
  path.touch()
  os.truncate(path, 5 * 10**9)
  dataset = dataset_factory.Dataset('x', 'train', (str(path),), 1000, 2, {}, (0, 1))
  chosen = config(data, tmp_path, **{'shuffle_buffer': 4096} | settings).data
  assert run_input.shuffle_window(chosen, dataset) == window
  assert description.describe_shuffling(chosen, dataset) == text


def test_metrics(run):
  entries = processes.metrics(run)
  assert [entry['step'] for entry in entries] == [1, 2, 3, 4, 5, 6]
  assert entries[2]['epoch'] == 1.0
  for key in ('loss', 'cross_entropy', 'regularization_loss', 'top_1', 'learning_rate'):
    assert all(np.isfinite(entry[key]) for entry in entries)
  assert all(entry['images_per_second'] > 0 for entry in entries[1:])


def test_a_run_scales_its_rates_and_says_so(run, data, tmp_path, caplog):
  """Of an older run, whose config.json does not have the flag, the change is told.

  And that it was on another processor.
  """
  for path in run.iterdir():
    if path.name != 'eval':
      shutil.copy(path, tmp_path / path.name)
  saved = json.loads((run / 'config.json').read_text())
  assert saved['run']['learning_rate'] == saved['learning_rate'] == 0.045
  assert saved.pop('learning_rate_per') is None
  here, saved['run']['kernels'] = saved['run']['kernels'], 'oneDNN kernels, SSE9'
  (tmp_path / 'config.json').write_text(json.dumps(saved))
  flags = {'learning_rate_per': 256, 'max_number_of_steps': 7, 'accumulate_steps': 2}
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(data, tmp_path, batch_size=4, **flags))
  assert 'Changed since the last start: --learning_rate_per from not set to 256' in caplog.messages
  changed = f'oneDNN kernels, SSE9, now {here}: the same steps give other last bits'
  assert f'Changed since the last start: {changed}' in caplog.messages
  assert any(f'on CPU ({num_cores()} cores, {here}), ' in message for message in caplog.messages)
  said = (
    'The learning rate of 0.045 for 256 images a step is 0.00140625 for 8 (--learning_rate_per)'
  )
  assert said in caplog.messages
  assert processes.metrics(tmp_path)[-1]['learning_rate'] == pytest.approx(0.045 * 8 / 256)
  saved = json.loads((tmp_path / 'config.json').read_text())
  assert (saved['learning_rate'], saved['learning_rate_per']) == (0.045, 256)
  assert saved['run']['learning_rate'] == pytest.approx(0.045 * 8 / 256)


def test_tensorboard_gets_the_same(run):
  events = next(run.glob('events.out.tfevents*'))
  tags = {}
  for record in tf.data.TFRecordDataset(str(events)):
    event = tf1.Event.FromString(record.numpy())
    for value in event.summary.value:
      if value.metadata.plugin_data.plugin_name == 'scalars':  # there are images too
        tags[value.tag] = (event.step, float(tf.make_ndarray(value.tensor)))
  last = processes.metrics(run)[-1]
  assert tags['loss'] == (6, pytest.approx(last['loss'], rel=1e-5))
  assert tags['learning_rate'] == (6, pytest.approx(last['learning_rate']))


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(run, data, tmp_path):
  trainer.train(config(data, tmp_path, max_number_of_steps=4))
  with (tmp_path / 'metrics.jsonl').open('a') as file:  # killed after the checkpoint, in a line
    file.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')
  trainer.train(config(data, tmp_path))
  expected, resumed = processes.metrics(run), processes.metrics(tmp_path)
  assert [entry['step'] for entry in resumed] == [1, 2, 3, 4, 5, 6]
  for a, b in zip(expected, resumed, strict=True):
    assert a['loss'] == pytest.approx(b['loss'], rel=1e-3), a['step']


@pytest.mark.parametrize(
  ('every_secs', 'shown'),
  [(3600, [1, 4, 5]), pytest.param(0, [1, 2, 3, 4, 5], marks=pytest.mark.slow)],
)
def test_lines_come_at_once_and_by_time_but_metrics_by_steps(
  data, tmp_path, caplog, monkeypatch, every_secs, shown
):
  monkeypatch.setattr(progress, 'EVERY_SECS', every_secs)
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(data, tmp_path, max_number_of_steps=5, log_every_n_steps=4))
  lines = [line for line in caplog.messages if line.startswith('step ')]
  assert [line.split()[1] for line in lines] == [f'{step}/5' for step in shown]
  assert 'images/s' not in lines[0] and 'images/s' in lines[1]
  tracing = 'Tracing and compiling the step: the first one takes longer'
  assert caplog.messages.count(tracing) == 1
  assert caplog.messages.index(tracing) < caplog.messages.index(lines[0])
  assert [entry['step'] for entry in processes.metrics(tmp_path)] == [4, 5]


def test_a_finished_run_is_left_alone(run, data, caplog):
  before = {path.name: path.stat().st_mtime_ns for path in run.glob('model.ckpt*')}
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(data, run))
  assert 'Nothing to do' in caplog.text
  assert before == {path.name: path.stat().st_mtime_ns for path in run.glob('model.ckpt*')}


def test_slims_training_graph_opens_the_checkpoint(run):
  """Every variable that slim's script would have made is there, under its name."""
  with tf.Graph().as_default(), tf1.Session() as session:
    with slim.arg_scope(inception.inception_v3_arg_scope()):
      logits, end_points = tiny.inception_tiny(tf.zeros((1, 32, 32, 3)), 3, is_training=True)
    global_step = tf1.train.get_or_create_global_step()
    model_variables = tf.compat.v1.model_variables()
    averages = tf1.train.ExponentialMovingAverage(0.9999, global_step)
    averages.apply(model_variables)
    optimizer = tf1.train.RMSPropOptimizer(0.1, decay=0.9, momentum=0.9, epsilon=1.0)
    loss = tf.reduce_sum(logits) + tf.reduce_sum(end_points['AuxLogits'])
    optimizer.minimize(loss, global_step)
    wanted = tf1.global_variables()
    stored = checkpoints.shapes(run)
    assert {v.op.name for v in wanted} == set(stored) - {'input_position', 'trained_images'}
    tf1.train.Saver(wanted).restore(session, tf.train.latest_checkpoint(str(run)))
    assert session.run(global_step) == 6


def test_fine_tuning_leaves_the_head_fresh_and_says_so(run, tmp_path, caplog):
  other = records.write_set(tmp_path / 'other', classes=2)
  flags = {'recipe': 'finetune', 'checkpoint_path': str(run), 'max_number_of_steps': 1}
  flags |= {'num_clones': 2, 'precision': 'bfloat16'}
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(other, tmp_path / 'tuned', **flags))
  assert 'Starting from' in caplog.text
  assert 'restored: 38 of 42 variables' in caplog.text
  assert 'ignored: 0 that the net does not have' in caplog.text
  assert caplog.text.count('fresh: ') == 4
  for head, width in (('Logits', 40), ('AuxLogits', 768)):
    fresh = f'fresh: InceptionTiny/{head}/Logits/weights [{width}, 2] (checkpoint: [{width}, 3])'
    assert fresh in caplog.text
  (entry,) = processes.metrics(tmp_path / 'tuned')
  assert np.isfinite(entry['loss'])
  assert 'images_per_second' not in entry  # one step, which was spent on tracing


@pytest.mark.parametrize(
  'name', ['model.safetensors', pytest.param('wrapped.ckpt', marks=pytest.mark.slow)]
)
def test_a_run_starts_from_other_libraries_files(name, run, data, tmp_path, caplog, monkeypatch):
  pytest.importorskip('safetensors', reason='safetensors is not installed')
  scopes = nets_factory.get_net(tiny.NAME).weighted
  rows = {row: tuple(path.replace('/', '_') for path in paths) for row, paths in scopes.items()}
  monkeypatch.setitem(torch_family.NAMES, tiny.NAME, rows)
  monkeypatch.setitem(torch_family.LIBRARIES, tiny.NAME, 'a library')
  stored = checkpoints.read(run, list(checkpoints.shapes(run)))
  if name == 'wrapped.ckpt':
    wrapped = {f'model/{n}': value for n, value in stored.items()}
    wrapped |= {f'teacher/{n}': value + 1 for n, value in stored.items() if n.startswith('Incep')}
    checkpoints.save(tmp_path / name, wrapped)
  else:
    conversion.write_timm(tmp_path / name, conversion.read(run, tiny.NAME))
  flags = {'checkpoint_path': str(tmp_path / name), 'max_number_of_steps': 1}
  flags |= {'source_scope': ('model',)} if name == 'wrapped.ckpt' else {}
  flags |= {'learning_rate': 0.0, 'weight_decay': 0.0, 'batch_norm_decay': 1.0}
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(data, tmp_path / 'from', **flags))
  assert f'Starting from {tmp_path / name}' in caplog.text
  assert 'variables filled, left fresh: none' in caplog.text
  averages = {n: v for n, v in stored.items() if n.endswith(checkpoints.EMA_SUFFIX)}
  now = checkpoints.read(
    tmp_path / 'from', [n.removesuffix(checkpoints.EMA_SUFFIX) for n in averages]
  )
  for value, average in zip(now.values(), averages.values(), strict=True):
    np.testing.assert_allclose(value, average, rtol=1e-5, atol=1e-6)


def test_a_head_that_was_never_trained_starts_fresh(run, data, tmp_path, caplog):
  values = checkpoints.read(run, list(checkpoints.shapes(run)))
  fresh = [name for name in values if name.startswith('InceptionTiny/AuxLogits/')]
  checkpoints.save(tmp_path / 'marked.ckpt', values, fresh=fresh)
  flags = {'checkpoint_path': str(tmp_path / 'marked.ckpt'), 'max_number_of_steps': 1}
  with caplog.at_level('INFO', 'absl'):
    trainer.train(config(data, tmp_path / 'run', **flags))
  said = 'fresh: InceptionTiny/AuxLogits/Logits/weights [768, 3] (checkpoint: not trained)'
  assert said in caplog.text
  assert 'ignored: 0 that the net does not have' in caplog.text


def test_start_refuses_what_does_not_fit(run, data, tmp_path):
  stored = checkpoints.shapes(run)
  name = 'InceptionTiny/Conv2d_1a_3x3/weights'
  other = checkpoints.read(run, [n for n in stored if not n.endswith(checkpoints.EMA_SUFFIX)])
  other[name] = tf.zeros((1, 1, 3, 8))
  checkpoints.save(tmp_path / 'other.ckpt', other)
  settings = config(data, tmp_path / 'a', checkpoint_path=str(tmp_path / 'other.ckpt'))
  with pytest.raises(ValueError, match=rf'{name} has shape .* but .*--checkpoint_exclude_scopes'):
    trainer.train(settings)
  settings = config(
    data, tmp_path / 'b', checkpoint_path=str(run), checkpoint_exclude_scopes='Nothing'
  )
  with pytest.raises(ValueError, match='exclude_scopes: Nothing has no variable; scopes are'):
    trainer.train(settings)


def test_a_refused_start_leaves_the_run_as_it_was(run, data):
  before = {path.name: path.read_bytes() for path in run.iterdir()}
  for kwargs in ({'max_number_of_steps': 3}, {'trainable_scopes': 'Nothing'}):
    with contextlib.suppress(ValueError):
      trainer.train(config(data, run, batch_norm_decay=0.1, **kwargs))
  assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_a_lost_checkpoint_falls_back_to_the_one_before(data, tmp_path):
  trainer.train(config(data, tmp_path, max_number_of_steps=2, save_interval_steps=1))
  (tmp_path / 'model.ckpt-2.index').unlink()
  (tmp_path / '.model.ckpt-9.host-77.partial.index').write_text('of a killed run')
  trainer.train(config(data, tmp_path, max_number_of_steps=3, optimizer='momentum'))
  assert [entry['step'] for entry in processes.metrics(tmp_path)] == [1, 2, 3]
  names = {path.name for path in tmp_path.iterdir()}
  assert {'model.ckpt-1.index', 'model.ckpt-3.index'} <= names
  assert not {'model.ckpt-2.index', '.model.ckpt-9.host-77.partial.index'} & names


def test_a_train_dir_of_another_net_is_refused(run, data):
  with pytest.raises(ValueError, match='model_name inception_tiny, not inception_v4'):
    trainer.train(config(data, run, model_name='inception_v4'))


def test_labels_that_do_not_fit_are_named_before_the_first_step(data, tmp_path):
  with pytest.raises(ValueError, match='--labels_offset=1'):
    trainer.train(config(data, tmp_path / 'never', labels_offset=1))
  assert not (tmp_path / 'never').exists()


def test_too_many_gpus_are_refused(data, tmp_path):
  with pytest.raises(ValueError, match='--num_clones=8: this machine has 0 GPUs; --clone_on_cpu'):
    trainer.train(config(data, tmp_path, num_clones=8, clone_on_cpu=False))


class State:
  """Of a run whose checkpoints have the step alone."""

  def save(self, prefix, counters):
    checkpoints.save(prefix, {'global_step': tf.constant(counters.step)})


def manager(directory, step=0, max_to_keep=2):
  alone = Cluster(tf.distribute.get_strategy())
  return checkpoint_manager.CheckpointManager(str(directory), max_to_keep, alone, step)


def steps_in(directory):
  return {int(path.stem.split('-')[-1]) for path in directory.glob('model*.index')}


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path):
  (tmp_path / 'best').mkdir()
  left = ['.model.ckpt-9.host-77.partial.index', '.metrics.jsonl.host-77.partial']
  left.append('best/.metrics.json.host-77.partial')
  own = ['notes.part-2.txt', '.notes.host-77.partial', 'model.ckpt-old.txt', 'best/model.ckpt-1.md']
  for name in (*left, *own):
    (tmp_path / name).write_text('of somebody')
  folders = ['model.part-3', '.model.ckpt-9.host-77.partial', 'best/model.ckpt-8.index.d']
  for name in folders:  # as an export makes them
    (tmp_path / name).mkdir()
  manager(tmp_path).save(State(), Counters(1))
  manager(tmp_path).keep_best(str(tmp_path / 'model.ckpt-1'), {'top_1': 0.5})
  assert not any((tmp_path / name).exists() for name in left)
  assert all((tmp_path / name).exists() for name in (*own, *folders))


def test_the_oldest_checkpoints_are_deleted(tmp_path):
  for step in range(1, 4):  # a new manager each time, as after restarts
    manager(tmp_path, step - 1).save(State(), Counters(step))
  assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / 'model.ckpt-3')
  assert steps_in(tmp_path) == {2, 3}
  assert len(list(tmp_path.glob('model*'))) == 4
  moved = tmp_path.rename(tmp_path.with_name('moved'))
  assert tf.train.latest_checkpoint(str(moved)) == str(moved / 'model.ckpt-3')


@pytest.mark.parametrize('how', ['first line', 'new file', 'written by TF1', 'of 0.1.0'])
def test_a_run_that_went_back_keeps_its_own(tmp_path, caplog, how):
  """The branch that was left stays there: not counted, not deleted, not gone on from."""
  before = manager(tmp_path, max_to_keep=3)
  for step in (10, 20, 30):
    before.save(State(), Counters(step))
  state = tmp_path / 'checkpoint'
  first = 'model_checkpoint_path: "model.ckpt-10"'
  if how == 'first line':
    state.write_text(state.read_text().replace('th: "model.ckpt-30"', 'th: "model.ckpt-10"', 1))
  elif how == 'new file':
    state.write_text(first)
  elif how == 'written by TF1':
    tf.compat.v1.train.update_checkpoint_state(str(tmp_path), str(tmp_path / 'model.ckpt-10'))
  else:  # what its bug left
    listed = (f'all_model_checkpoint_paths: "model.ckpt-{step}"' for step in (20, 30, 10))
    state.write_text('\n'.join([first, *listed]))
  assert checkpoints.latest_sound(tmp_path) == str(tmp_path / 'model.ckpt-10')

  after = manager(tmp_path, 10, max_to_keep=3)
  assert 'not of this run, which is at step 10: model.ckpt-20, model.ckpt-30;' in caplog.text
  for step in (11, 12, 13, 14):
    after.save(State(), Counters(step))
  assert steps_in(tmp_path) == {12, 13, 14, 20, 30}
  for newest in (14, 13):
    assert checkpoint_files.latest(tmp_path) == str(tmp_path / f'model.ckpt-{newest}')
    (tmp_path / f'model.ckpt-{newest}.index').unlink()
  os.truncate(tmp_path / 'model.ckpt-12.data-00000-of-00001', 1)
  with pytest.raises(ValueError, match='ckpt-12 is damaged.* no other checkpoint of this run'):
    checkpoints.latest_sound(tmp_path)
  (tmp_path / 'model.ckpt-12.index').unlink()
  with pytest.raises(
    FileNotFoundError, match='ckpt-14 is not .* to take .*ckpt-30, name it in the'
  ):
    checkpoint_files.latest(tmp_path)

  manager(tmp_path, 19).save(State(), Counters(20))  # the run comes to this step itself
  manager(tmp_path, 20).save(State(), Counters(21))
  assert steps_in(tmp_path) == {20, 21, 30}
  manager(tmp_path, 21).save(State(), Counters(22))
  assert steps_in(tmp_path) == {21, 22, 30}


def test_a_damaged_checkpoint_does_not_push_out_the_one_before(tmp_path):
  for step in (1, 2, 3):
    manager(tmp_path, step - 1).save(State(), Counters(step))
  os.truncate(tmp_path / 'model.ckpt-3.data-00000-of-00001', 1)
  again = manager(tmp_path, 2)  # gone on from there
  again.save(State(), Counters(4))
  assert steps_in(tmp_path) == {2, 3, 4}
  os.truncate(tmp_path / 'model.ckpt-4.data-00000-of-00001', 1)
  assert checkpoints.latest_sound(tmp_path) == str(tmp_path / 'model.ckpt-2')


def test_a_checkpoint_of_another_folder_is_not_deleted(tmp_path):
  """Which somebody has named in the file `checkpoint`, to go on from."""
  other, run = tmp_path / 'other', tmp_path / 'run'
  for folder in (other, run):
    folder.mkdir()
  manager(other).save(State(), Counters(5))
  tf.compat.v1.train.update_checkpoint_state(str(run), str(other / 'model.ckpt-5'))
  assert checkpoint_files.latest(run) == str(other / 'model.ckpt-5')
  for step in (6, 7, 8):
    manager(run, step - 1).save(State(), Counters(step))
  assert (steps_in(run), steps_in(other)) == ({7, 8}, {5})


def test_a_folder_that_was_copied_by_its_absolute_names(tmp_path):
  """As TF1's Saver writes them."""
  old, new = tmp_path / 'old', tmp_path / 'new'
  old.mkdir()
  for step in (10, 20, 30):
    manager(old, step, max_to_keep=3).save(State(), Counters(step))
  paths = [str(old / f'model.ckpt-{step}') for step in (10, 20)]
  tf.compat.v1.train.update_checkpoint_state(str(old), paths[1], paths)
  assert checkpoint_files.latest(old) == paths[1]
  linked = tmp_path / 'linked'
  linked.symlink_to(old)
  assert checkpoint_files.of_run(linked) == [
    str(linked / f'model.ckpt-{step}') for step in (10, 20)
  ]
  old.rename(new)
  assert checkpoint_files.latest(new) == str(new / 'model.ckpt-20')
  assert checkpoint_files.of_run(new) == [str(new / f'model.ckpt-{step}') for step in (10, 20)]


# Evaluation of the same run.


def evaluate(run, tmp_path, **kwargs):
  return run_evaluation(
    resolve_eval({'checkpoint_path': str(run), 'eval_dir': str(tmp_path / 'eval'), **kwargs})
  )


@pytest.mark.parametrize('use_ema', [True, False])
def test_evaluation_counts_every_image_once(run, data, tmp_path, use_ema):
  found = evaluate(run, tmp_path, batch_size=5, use_ema=str(use_ema).lower(), num_example_images=9)
  assert found == json.loads((tmp_path / 'eval' / 'metrics.json').read_text())
  assert found['num_images'] == 23
  assert found['skipped_images'] == 0
  assert found['weights'] == ('ema' if use_ema else 'plain')
  assert found['top_5'] == 1.0  # of three classes
  assert found['top_1'] == pytest.approx(_top_1_one_by_one(run, data, use_ema))


def _top_1_one_by_one(run, data, use_ema: bool) -> float:
  """By a graph of slim's, an image at a time."""
  paths = dataset_factory.get_dataset('image_folder', 'validation', data).paths
  right = 0
  with tf.Graph().as_default(), tf1.Session() as session:
    image = tf1.placeholder(tf.uint8, (None, None, 3))
    pixels = tf.image.convert_image_dtype(image, tf.float32)
    pixels = tf.image.central_crop(pixels, 0.875)[tf.newaxis]
    pixels = tf1.image.resize_bilinear(pixels, (32, 32), align_corners=False)
    with slim.arg_scope(inception.inception_v3_arg_scope()):
      logits, _ = tiny.inception_tiny(
        (pixels - 0.5) * 2, 3, is_training=False, create_aux_logits=False
      )
    variables = tf.compat.v1.model_variables()
    averages = tf1.train.ExponentialMovingAverage(0.9)
    names = {averages.average_name(v) if use_ema else v.op.name: v for v in variables}
    tf1.train.Saver(names).restore(session, tf.train.latest_checkpoint(str(run)))
    for path in paths:
      for record in tf1.io.tf_record_iterator(path):
        features = tf.train.Example.FromString(record).features.feature
        encoded = features['image/encoded'].bytes_list.value[0]
        decoded = session.run(tf.io.decode_jpeg(encoded, channels=3))
        prediction = session.run(logits, {image: decoded}).argmax()
        right += int(prediction == features['image/class/label'].int64_list.value[0])
  return right / 23


def test_evaluation_of_what_does_not_fit(run, data, tmp_path):
  two = records.write_set(tmp_path / 'two', classes=2, split='validation')
  with pytest.raises(ValueError, match=r'has shape .* but .*--model_name, --input_channels'):
    evaluate(run, tmp_path, dataset_dir=str(two))
  with pytest.raises(ValueError, match='but not of inception_v3: .*, but is of inception_tiny'):
    evaluate(run, tmp_path, model_name='inception_v3', eval_image_size=75)
  other = resolve_eval({'checkpoint_path': str(run), 'model_name': 'inception_v4'})
  assert other.ensemble.members[0].depth_multiplier == 1.0
  with pytest.raises(ValueError, match='--eval_image_size=-3: must be a whole number'):
    resolve_eval({'checkpoint_path': str(run), 'eval_image_size': -3})
  checkpoints.save(tmp_path / 'model.ckpt', {'a': tf.ones(1)})
  with pytest.raises(ValueError, match='--dataset_name must be given: .* has no config.json'):
    resolve_eval({'checkpoint_path': str(tmp_path / 'model.ckpt'), 'model_name': 'inception_v3'})


def test_ema_of_a_checkpoint_without_is_refused(tmp_path):
  model = nets_factory.create_model(tiny.NAME, 3)
  model.save(str(tmp_path / 'plain.ckpt'))
  with pytest.raises(ValueError, match='has no moving averages .* choose --use_ema=false'):
    open_weights(str(tmp_path / 'plain.ckpt'), tiny.NAME, use_ema=True).load(model)
  assert open_weights(str(tmp_path / 'plain.ckpt'), tiny.NAME).load(model) == 'plain'
