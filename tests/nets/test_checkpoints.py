"""Checkpoints by name: against tf.compat.v1.train.Saver, and what can go wrong."""

import os
import platform

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import files
from slim_inception.nets import checkpoint_files, checkpoints

tf1 = tf.compat.v1


@pytest.fixture
def variables() -> dict[str, tf.Variable]:
  return {
    'Net/Conv/weights': tf.Variable(tf.ones((3, 2))),
    'Net/Logits/biases': tf.Variable(tf.zeros(2)),
  }


def test_round_trip(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt-1'
  checkpoints.save(prefix, {**variables, 'global_step': tf.constant(7, tf.int64)})
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'model.ckpt-1.data-00000-of-00001',
    'model.ckpt-1.index',
  ]
  for variable in variables.values():
    variable.assign(variable + 5)
  restored = checkpoints.restore(variables, prefix)
  assert set(restored.restored) == set(variables)
  assert restored.unused == ('global_step',)
  np.testing.assert_array_equal(variables['Net/Conv/weights'], np.ones((3, 2)))
  assert checkpoints.read(prefix, ['global_step'])['global_step'].numpy() == 7


@pytest.mark.parametrize('version', [tf1.train.SaverDef.V1, tf1.train.SaverDef.V2])
def test_slims_savers_open_here(variables, tmp_path, version):
  prefix = str(tmp_path / 'inception.ckpt')
  values = {name: variable.numpy() + 2 for name, variable in variables.items()}
  with tf.Graph().as_default(), tf1.Session() as session:
    saved = [tf1.get_variable(name, initializer=value) for name, value in values.items()]
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver(saved, write_version=version).save(session, prefix)
  checkpoints.restore(variables, prefix)
  np.testing.assert_array_equal(variables['Net/Logits/biases'], [2, 2])


@pytest.mark.parametrize(
  'saver',
  [{'write_version': tf1.train.SaverDef.V1}, {'write_version': tf1.train.SaverDef.V2}],
  ids=['V1', 'V2'],
)
def test_partitioned_variables_are_whole(tmp_path, saver):
  values = np.random.default_rng(0).normal(size=(7, 2)).astype(np.float32)
  with tf.Graph().as_default(), tf1.Session() as session:
    parts = tf1.get_variable(
      'Net/Conv/weights',
      shape=(7, 2),
      initializer=lambda shape, dtype=None, partition_info=None: values[
        partition_info.var_offset[0] :
      ][: shape[0]],
      partitioner=tf1.fixed_size_partitioner(3),
    )
    assert len(list(parts)) == 3
    session.run(tf1.global_variables_initializer())
    tf1.train.Saver(**saver).save(session, str(tmp_path / 'model.ckpt'))
  variable = tf.Variable(tf.zeros((7, 2)))
  checkpoints.restore({'Net/Conv/weights': variable}, tmp_path / 'model.ckpt')
  np.testing.assert_array_equal(variable, values)


def test_several_data_files_are_one_checkpoint(variables, tmp_path):
  """As tf.compat.v1.train.Saver(sharded=True) writes it on several devices."""
  prefix = str(tmp_path / 'model.ckpt-5')
  parts = [f'{tmp_path}/part{i}' for i in range(2)]
  for part, name in zip(parts, variables, strict=True):
    checkpoints.save(part, {name: variables[name] + 3})
  tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=parts, destination_prefix=prefix)
  files = sorted(path.name for path in tmp_path.iterdir())
  ends = ['data-00000-of-00002', 'data-00001-of-00002', 'index']
  assert files == [f'model.ckpt-5.{end}' for end in ends]
  tf1.train.update_checkpoint_state(str(tmp_path), prefix)
  assert checkpoints.latest_sound(tmp_path) == prefix
  assert {checkpoint_files.resolve(tmp_path / name) for name in files} == {prefix}
  checkpoints.restore(variables, tmp_path)
  np.testing.assert_array_equal(variables['Net/Logits/biases'], [3, 3])
  (tmp_path / files[1]).unlink()
  assert not checkpoint_files.is_complete(prefix)
  with pytest.raises(FileNotFoundError, match='model.ckpt-5 is not there, nor any other'):
    checkpoint_files.latest(tmp_path)


def test_directory_means_its_latest(variables, tmp_path):
  with pytest.raises(FileNotFoundError, match='holds no checkpoint'):
    checkpoint_files.resolve(tmp_path)
  for step in (1, 2):
    checkpoints.save(tmp_path / f'model.ckpt-{step}', variables)
    tf1.train.update_checkpoint_state(str(tmp_path), str(tmp_path / f'model.ckpt-{step}'))
  assert checkpoint_files.resolve(tmp_path).endswith('model.ckpt-2')
  assert checkpoint_files.resolve(tmp_path / 'model.ckpt-1.index').endswith('model.ckpt-1')
  (tmp_path / 'model.ckpt-2.index').unlink()  # lost: the one before is there
  assert checkpoint_files.latest(tmp_path).endswith('model.ckpt-1')
  (tmp_path / 'checkpoint').unlink()
  assert checkpoint_files.latest(tmp_path).endswith('model.ckpt-1')
  (tmp_path / 'checkpoint').write_text('no proto')
  assert checkpoint_files.latest(tmp_path).endswith('model.ckpt-1')


def test_a_state_file_without_checkpoints_is_an_error(tmp_path):
  assert checkpoint_files.latest(tmp_path / 'nowhere') is None
  (tmp_path / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-7"')
  with pytest.raises(
    FileNotFoundError, match=r'model.ckpt-7 is not there, nor any other of this run$'
  ):
    checkpoint_files.latest(tmp_path)


def test_what_another_process_is_writing_stays(variables, tmp_path):
  """Process 12 does not take what process 123 writes."""
  name = f'.model.ckpt-5.{platform.node().partition(".")[0]}-{os.getpid()}'
  for other in (f'{name}3.partial.index', f'{name}3.partial.data-00000-of-00001', f'{name}.txt'):
    (tmp_path / other).write_text('of another process')
  checkpoints.save(tmp_path / 'model.ckpt-5', variables)
  assert len(list(tmp_path.glob('.model*'))) == 3
  assert len(list(tmp_path.glob('model*'))) == 2


def test_missing_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match='No checkpoint .*nothing.ckpt'):
    checkpoints.shapes(tmp_path / 'nothing.ckpt')


def test_mismatch_names_variable_and_both_shapes(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt'
  checkpoints.save(prefix, variables)
  variables['Net/Logits/biases'] = tf.Variable(tf.ones(5))
  before = variables['Net/Conv/weights'].assign(tf.zeros((3, 2)))
  with pytest.raises(ValueError, match=r'Net/Logits/biases has shape \[5\], but \[2\] in'):
    checkpoints.restore(variables, prefix)
  np.testing.assert_array_equal(before, np.zeros((3, 2)))  # nothing was changed
  restored = checkpoints.restore(variables, prefix, ignore_mismatched=True)
  assert restored.mismatched == ('Net/Logits/biases',)
  restored = checkpoints.restore(variables, prefix, exclude_scopes='Net/Logits')
  assert restored.excluded == ('Net/Logits/biases',)
  np.testing.assert_array_equal(variables['Net/Conv/weights'], np.ones((3, 2)))


def test_channels_are_summed_where_asked(tmp_path):
  weights = np.random.default_rng(0).normal(size=(2, 2, 3, 4)).astype(np.float32)
  checkpoints.save(tmp_path / 'model.ckpt', {'first': tf.constant(weights)})
  first = {'first': tf.Variable(tf.zeros((2, 2, 1, 4)))}
  with pytest.raises(ValueError, match=r'first has shape \[2, 2, 1, 4\], but \[2, 2, 3, 4\] in'):
    checkpoints.restore(first, tmp_path / 'model.ckpt', sum_channels='other')
  checkpoints.restore(first, tmp_path / 'model.ckpt', sum_channels='first')
  np.testing.assert_allclose(first['first'], weights.sum(2, keepdims=True), rtol=1e-6)


def test_missing_variables(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt'
  checkpoints.save(prefix, {'Net/Conv/weights': variables['Net/Conv/weights']})
  with pytest.raises(ValueError, match='has no Net/Logits/biases'):
    checkpoints.restore(variables, prefix)
  restored = checkpoints.restore(variables, prefix, ignore_missing=True)
  assert restored.missing == ('Net/Logits/biases',)


def test_another_nets_checkpoint_is_refused(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt'
  checkpoints.save(prefix, {'Other/weights': tf.ones(1)})
  with pytest.raises(ValueError, match='has nothing for this net: it holds Other/weights'):
    checkpoints.restore(variables, prefix, ignore_missing=True)


def test_moving_averages_are_taken_where_there(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt'
  average = {'Net/Conv/weights' + checkpoints.EMA_SUFFIX: tf.fill((3, 2), 9.0)}
  checkpoints.save(prefix, {**variables, **average})
  checkpoints.restore(variables, prefix, use_ema=True)
  np.testing.assert_array_equal(variables['Net/Conv/weights'], np.full((3, 2), 9))
  np.testing.assert_array_equal(variables['Net/Logits/biases'], [0, 0])


def test_flipped_byte_and_cut_file_are_said(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt'
  checkpoints.save(prefix, variables)
  data = tmp_path / 'model.ckpt.data-00000-of-00001'
  whole = data.read_bytes()
  data.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
  with pytest.raises(ValueError, match='model.ckpt is damaged: TensorBundle at'):
    checkpoints.restore(variables, prefix)
  data.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match='model.ckpt is damaged'):
    checkpoints.restore(variables, prefix)
  (tmp_path / 'model.ckpt.index').write_bytes(b'no index')
  with pytest.raises(ValueError, match='model.ckpt is not a readable checkpoint'):
    checkpoints.restore(variables, prefix)


def test_failed_save_leaves_the_earlier_one(variables, tmp_path):
  prefix = tmp_path / 'model.ckpt'
  checkpoints.save(prefix, variables)
  before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
  with pytest.raises(Exception, match='.'):
    checkpoints.save(prefix, {'a': tf.ones(1), 'b': object()})
  assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_another_process_may_write_beside_it(variables, tmp_path):
  """Its number may begin with ours; what ours, killed, left earlier is not in the way."""
  ours = f'.model.ckpt.{platform.node().partition(".")[0]}-{os.getpid()}'
  theirs = tmp_path / f'{ours}3.partial.data-00000-of-00001'
  theirs.write_text('half')
  (tmp_path / f'{ours}.partial.index').write_text('of an earlier process')
  checkpoints.save(tmp_path / 'model.ckpt', variables)
  assert {p.name for p in tmp_path.iterdir()} == {
    theirs.name,
    'model.ckpt.data-00000-of-00001',
    'model.ckpt.index',
  }
  files.sweep(tmp_path, r'model\.ckpt')
  assert not theirs.exists()


def test_files_are_on_the_disk_before_they_get_their_names(variables, tmp_path, monkeypatch):
  flushed, renamed = set(), []
  fsync, replace = os.fsync, os.replace

  def rename(source, target):
    assert os.stat(source).st_ino in flushed
    renamed.append(target)
    replace(source, target)

  def flush(descriptor):
    flushed.add(os.fstat(descriptor).st_ino)
    fsync(descriptor)

  monkeypatch.setattr(os, 'fsync', flush)
  monkeypatch.setattr(os, 'replace', rename)
  checkpoints.save(tmp_path / 'model.ckpt', variables)
  assert [path[-6:] for path in renamed] == ['-00001', '.index']


def test_far_more_than_the_files_hold_is_refused_before_it_is_allocated(variables, tmp_path):
  checkpoints.save(tmp_path / 'model.ckpt', {'Net/Conv/weights': tf.zeros((1000, 1000))})
  data = tmp_path / 'model.ckpt.data-00000-of-00001'
  data.write_bytes(data.read_bytes()[:100])
  with pytest.raises(ValueError, match='it declares 4,000,000 bytes, and has 2'):
    checkpoints.read(tmp_path / 'model.ckpt', ['Net/Conv/weights'])


def test_a_save_that_the_system_refuses_names_the_checkpoint(tmp_path):
  (tmp_path / 'file').write_text('')
  prefix = tmp_path / 'file' / 'model.ckpt-1'
  with pytest.raises(NotADirectoryError) as error:
    checkpoints.save(prefix, {'a': tf.ones(3)})
  assert error.value.filename == str(prefix)
