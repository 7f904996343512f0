"""Sizes and batches that change during a run: the plan, what nets take, and runs to the bit."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import checkpoints, geometry, nets_factory

from slim_inception import flags
from slim_inception.cluster import make_cluster
from slim_inception.evaluate import during_training
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.run import evaluate as run_evaluation
from slim_inception.train import checkpoint_manager, config_json, image_sizes, stages, trainer
from slim_inception.train.flag_groups import ModelConfig
from slim_inception.train.image_sizes import Phase
from slim_inception.train.plan import divided, make_plan
from slim_inception.train.train_state import Counters
from tests import records, tiny
from tests.train import processes, steps

SCHEDULE = '0:16:4,1:24:3,2:32:2'


def model(**values):
  return flags.build(ModelConfig, values)


def test_phases():
  assert image_sizes.phases(model(train_image_size=32)) == [Phase(0.0, 32)]
  assert image_sizes.phases(model()) == [Phase(0.0, 299)]
  schedule = '0:128:64,6:192:48,12:224:32'
  leaps = [(0.0, 128, 64), (6.0, 192, 48), (12.0, 224, 32)]
  assert image_sizes.phases(model(image_size_schedule=schedule)) == leaps
  assert image_sizes.phases(model(image_size_schedule=leaps)) == leaps
  ramp = model(image_size_schedule=schedule, image_size_ramp=32)
  assert image_sizes.phases(ramp) == [
    (0.0, 128, 64), (3.0, 160, 48), (6.0, 192, 48), (12.0, 224, 32),
  ]  # fmt: skip
  down = model(image_size_schedule='0:64:0,2:32:0', image_size_ramp=8)
  assert image_sizes.phases(down) == [(0.0, 64, 0), (2.0, 32, 0)]


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'image_size_schedule': '1:32:4'}, 'must begin at epoch 0 and ascend'),
    ({'image_size_schedule': '0:32:4,2:40:4,2:48:4'}, 'must begin at epoch 0 and ascend'),
    ({'image_size_schedule': '0:0:4'}, 'sizes must be at least 1 pixel'),
    ({'image_size_schedule': '0:32'}, 'must be EPOCH:SIZE:BATCH,EPOCH:SIZE:BATCH,...'),
    ({'image_size_schedule': SCHEDULE, 'train_image_size': 32}, 'the schedule has the sizes'),
    ({'image_size_ramp': 8}, '--image_size_ramp is for --image_size_schedule'),
    (
      {'image_size_schedule': '0:16:4,1:32:4'},
      'the auxiliary head of inception_tiny has other weights at 16 x 16 than at 32 x 32 pixels: '
      'choose sizes of at least 23, or --aux_loss_weight=0, which leaves that head out',
    ),
    (
      {'model_name': 'inception_v3', 'image_size_schedule': '0:64:4,1:299:4'},
      'image_size is 64; the smallest that inception_v3 takes is 75',
    ),
    (
      {'model_name': 'inception_v1', 'image_size_schedule': '0:128:4,1:512:4'},
      'image_size is 512, too large for inception_v1',
    ),
    ({'batch_norm_batches': 2, 'freeze_batch_norm': True}, 'choose one'),
    (
      {
        'image_size_schedule': '0:32:4',
        'learning_rate_decay_type': 'cosine',
        'max_number_of_steps': 9,
      },
      'give --num_epochs in place of --max_number_of_steps',
    ),
  ],
)
def test_what_cannot_be_is_one_line(values, message):
  with pytest.raises(ValueError, match='^--') as error:
    tiny.config(**values)
  assert message in str(error.value)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', list(nets_factory.NETS))
def test_every_net_takes_several_sizes_without_its_auxiliary_head(name):
  net = nets_factory.get_net(name)
  least, size = geometry.smallest_input(net.body), net.default_image_size
  chosen = {'model_name': name, 'image_size_schedule': f'0:{least}:4,1:{size}:4'}
  image_sizes.check(model(**chosen), with_auxiliary=False)
  if not net.head.auxiliary:
    image_sizes.check(model(**chosen), with_auxiliary=True)
    return
  with pytest.raises(ValueError, match='choose sizes of at least') as error:
    image_sizes.check(model(**chosen), with_auxiliary=True)
  said = int(str(error.value).partition('at least ')[2].split(',')[0])
  chosen['image_size_schedule'] = f'0:{said}:4,1:{size}:4'
  image_sizes.check(model(**chosen), with_auxiliary=True)


def test_what_is_said_of_the_auxiliary_head_is_what_nets_do():
  """Shapes of the variables of tiny nets made at these sizes."""

  def shapes(size):
    variables = nets_factory.create_model(tiny.NAME, 3, image_size=size).variables_by_name
    return {name: variable.shape for name, variable in variables.items()}

  assert shapes(23) == shapes(32)
  assert shapes(22) != shapes(32)
  assert shapes(40) != shapes(32)


@pytest.mark.integration
def test_a_weight_of_0_leaves_the_auxiliary_head_out():
  state, train_step = steps.make(tiny.config(aux_loss_weight=0))
  assert not [name for name in state.named_variables() if 'AuxLogits' in name]
  results = steps.run(train_step, steps.batch())
  terms = results['cross_entropy'] + results['regularization_loss']
  assert results['loss'] == pytest.approx(terms, rel=1e-5)


def plan_of(num_samples=22, replicas=1, pass_pixels=None, **values):
  values = {'image_size_schedule': SCHEDULE, 'aux_loss_weight': 0, 'num_epochs': 3.5, **values}
  return make_plan(tiny.config(**values), num_samples, 3, replicas, pass_pixels)


def walk(start, num_samples, batches, end):
  """(step, images, size of the next step): one step after the other."""
  step, images, path = start.step, start.images, []
  while True:
    epoch = images / num_samples
    size = next(size for begin, size in ((2, 32), (1, 24), (0, 16)) if epoch >= begin)
    path.append((step, images, size))
    if epoch >= end:
      return path
    step, images = step + 1, images + batches[size]


@pytest.mark.parametrize('replicas', [1, 3])
@pytest.mark.parametrize('start', [Counters(), Counters(5, 20, 19), Counters(7, 23, 22)])
def test_a_plan_is_the_walk_of_its_steps(start, replicas):
  config = tiny.config(image_size_schedule=SCHEDULE, aux_loss_weight=0, num_epochs=3.5)
  plan = plan_of(replicas=replicas).start_from(start, config.schedule)
  batches = {16: 4 * replicas, 24: 3 * replicas, 32: 2 * replicas}
  path = walk(start, 22, batches, 3.5)
  for step, images, size in path:
    assert (plan.images(step), plan.stage(step).image_size) == (images, size)
    assert plan.epoch(step) == images / 22
    assert plan.stage(step).global_batch_size == batches[size]
  assert plan.total_steps == path[-1][0]
  for epoch in (1.0, 1.5, 2.0, 2.25, 3.5):
    expected = next(step for step, images, _ in path if images >= epoch * 22)
    assert plan.steps_until(epoch) == expected or images > epoch * 22
  # Wherever the run is started again, it is as it would have been.
  for step, images, _ in path[:-1]:
    again = plan_of(replicas=replicas).start_from(Counters(step, images, images), config.schedule)
    assert again.total_steps == plan.total_steps
    assert again.stage(step) == plan.stage(step)._replace(
      step=again.stage(step).step, images=again.stage(step).images
    )


def test_global_batches_and_small_stages():
  plan = plan_of(replicas=2, global_batch_size=8, image_size_schedule='0:16:12,1:24:0')
  assert [(s.per_replica_batch, s.global_batch_size) for s in plan.stages] == [(6, 12), (4, 8)]
  with pytest.raises(ValueError, match='--global_batch_size=7 of --image_size_schedule cannot'):
    plan_of(replicas=2, global_batch_size=8, image_size_schedule='0:16:7')
  skipped = plan_of(4, image_size_schedule='0:16:8,0.5:24:2,1:32:2')  # no step begins in the second
  assert [skipped.stage(step).image_size for step in range(3)] == [16, 32, 32]
  assert skipped.stage_after(skipped.stage(0)).image_size == 32
  assert skipped.stage_after(skipped.stage(1)) is None


def test_passes_of_so_many_pixels():
  assert [divided(12, most) for most in (13, 12, 11, 6, 5, 1, 0)] == [1, 1, 2, 2, 3, 12, 12]
  plan = plan_of(pass_pixels=3 * 24 * 24)
  passes = [(s.per_replica_batch, s.accumulate_steps, s.global_batch_size) for s in plan.stages]
  assert passes == [(4, 1, 4), (3, 1, 3), (1, 2, 2)]


# Runs


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = records.write_set(tmp_path_factory.mktemp('sizes') / 'data', count=22)
  return records.write_set(folder, count=9, split='validation')


FLAGS = {
  'image_size_schedule': SCHEDULE,
  'aux_loss_weight': 0.0,
  'max_number_of_steps': '',
  'num_epochs': 2.25,
  'deterministic': False,
  'learning_rate_per': 4,
  'save_interval_steps': 1,
  'max_to_keep': 99,
  'moving_average_decay': 0.5,
  'dropout_keep_prob': 0.5,
}


def train(train_dir, data, **kwargs):
  settings = processes.config(train_dir, data, **{**FLAGS, **kwargs})
  trainer.train(settings, during_training.evaluator_of(settings))
  return settings


@pytest.fixture(scope='module')
def seen():
  """[(shape of the images, their record indices, whether the step was traced)] of each step."""
  return []


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory, seen):
  train_dir = tmp_path_factory.mktemp('whole')
  patch = pytest.MonkeyPatch()

  class Watched(trainer.TrainStep):
    def __call__(self, batch, step, rate):
      result = super().__call__(batch, step, rate)
      shape, indices = tuple(batch['image'].shape), batch['record_index'].numpy().tolist()
      seen.append((shape, indices, self._compiled.experimental_get_tracing_count()))
      return result

  patch.setattr(trainer, 'TrainStep', Watched)
  train(train_dir, data, eval_interval_epochs=1.0, batch_norm_batches=3, eval_image_size=40)
  patch.undo()
  return train_dir


@pytest.mark.integration
def test_steps_see_each_image_once_at_the_size_of_the_epoch(whole, seen):
  shapes = [shape for shape, _, _ in seen]
  assert shapes == [(4, 16, 16, 3)] * 6 + [(3, 24, 24, 3)] * 7 + [(2, 32, 32, 3)] * 3
  indices = [index for _, of_step, _ in seen for index in of_step]
  assert indices == list(range(24 + 21 + 6))
  assert {count for _, _, count in seen} == {1}  # one trace a size
  entries = [e for e in processes.metrics(whole) if 'loss' in e]
  assert [e['learning_rate'] / entries[0]['learning_rate'] for e in entries] == pytest.approx(
    [1] * 6 + [0.75] * 7 + [0.5] * 3
  )
  assert entries[-1]['epoch'] == pytest.approx(51 / 22, abs=1e-4)
  assert all(e['skipped_images'] == 0 for e in entries)
  config = config_json.read(str(whole))
  assert [stage['image_size'] for stage in config['run']['stages']] == [16, 24, 32]
  assert [stage['step'] for stage in config['run']['stages']] == [0, 6, 13]
  assert (config['run']['image_size'], config['run']['total_steps']) == (32, 16)


@pytest.mark.integration
def test_evaluation_has_its_own_size(whole, tmp_path):
  """Of the run itself, and of the checkpoint by what config.json says."""
  (entry,) = (e for e in processes.metrics(whole) if 'eval_top_1' in e and e['step'] == 16)
  settings = {'checkpoint_path': str(whole), 'eval_dir': str(tmp_path / 'eval')}
  config = resolve_eval(settings)
  assert config.ensemble.members[0].spec.image_size == 40
  assert run_evaluation(config)['top_1'] == entry['eval_top_1']


@pytest.mark.integration
def test_statistics_are_those_of_the_averaged_weights_at_the_size_of_evaluation(whole, data):
  """By the estimate of slim-inception eval, of a net restored from the checkpoint."""
  from slim_inception.datasets import dataset_factory

  from slim_inception.evaluate import batch_norm_statistics
  from slim_inception.train.augmentation import make_augmentation

  settings = processes.config(whole, data, **FLAGS)
  net = nets_factory.create_model(
    tiny.NAME,
    3,
    image_size=40,
    create_aux_logits=False,
    arg_scope=nets_factory.get_net(tiny.NAME).arg_scope(batch_norm_decay=0.0),
  )
  checkpoints.restore(net.variables_by_name, str(whole), use_ema=True)
  stored = {n: v.numpy() for n, v in net.variables_by_name.items() if '/moving_' in n}
  augmentation = make_augmentation(settings)
  batch_norm_statistics.estimate(
    net,
    dataset_factory.get_dataset('image_folder', 'train', str(data)),
    augmentation.preprocessing,
    3,
    batch_size=2,
  )
  for name, value in stored.items():
    measured = net.variables_by_name[name].numpy()
    np.testing.assert_allclose(value, measured, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.integration
@pytest.mark.parametrize(
  'step', [pytest.param(5, marks=pytest.mark.slow), 6, pytest.param(13, marks=pytest.mark.slow)]
)
def test_started_again_about_a_change_of_size_it_comes_to_the_same(whole, data, tmp_path, step):
  """Before the step that crosses the boundary, at the boundary, and at the second one."""
  folder = tmp_path / 'again'
  shutil.copytree(whole, folder, ignore=shutil.ignore_patterns('best', 'events*'))
  checkpoint_manager.write_checkpoint_state(str(folder), [str(folder / f'model.ckpt-{step}')])
  train(folder, data, eval_interval_epochs=1.0, batch_norm_batches=3, eval_image_size=40)
  losses = [
    [(e['step'], e['epoch'], e['loss']) for e in processes.metrics(run) if 'loss' in e]
    for run in (whole, folder)
  ]
  assert len(losses[0]) == 16
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
  expected, again = processes.weights(whole), processes.weights(folder)
  assert set(again) == set(expected)
  for name, value in expected.items():
    np.testing.assert_allclose(again[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.integration
def test_the_next_step_is_traced_while_the_present_one_trains():
  """By the thread, for the batch of the later stage: the step itself does not trace any more."""
  cluster = make_cluster(None, True)
  settings = tiny.config(image_size_schedule='0:16:4,1:32:2', aux_loss_weight=0)
  _, later = steps.make(settings, cluster.strategy)
  stage = make_plan(settings, 22, 3, 1).stages[1]
  count = later._compiled.experimental_get_tracing_count
  assert count() == 0
  stages.trace_ahead(later, steps.batch(4, 16), stage, cluster).join()
  assert count() == 1
  steps.run(later, steps.batch(2, 32))
  assert count() == 1


@pytest.mark.integration
def test_replicas_change_their_size_together(data, tmp_path):
  """Two replicas: the same images, and at the end one set of weights in the checkpoint."""
  flags_of_two = {'num_clones': 2, 'image_size_schedule': '0:16:2,1:24:2', 'num_epochs': 1.25}
  settings = processes.config(tmp_path, data, **{**FLAGS, **flags_of_two})
  trainer.train(settings)
  entries = processes.metrics(tmp_path)
  assert [e['epoch'] for e in entries] == pytest.approx(
    [4 * step / 22 for step in range(1, 8)], abs=1e-4
  )
  assert int(tf.train.load_variable(str(tmp_path), 'input_position')) == 28


@pytest.mark.slow
@pytest.mark.integration
def test_two_workers_do_what_two_replicas_do(data, tmp_path):
  """Over two changes of size, with batch norm's averages estimated by both workers."""
  settings = {
    **FLAGS,
    'image_size_schedule': '0:16:2,0.5:24:3,1:32:1',
    'num_epochs': 1.5,
    'batch_norm_batches': 2,
    'eval_interval_epochs': 0.5,
  }
  two, one = tmp_path / 'workers', tmp_path / 'replicas'
  with processes.cluster(two, data, **settings) as workers:
    for status, output in processes.finish(*workers):
      assert status == 0, output
  train(one, data, **settings, num_clones=2)
  for own, other in zip(processes.metrics(two), processes.metrics(one), strict=True):
    assert (own['step'], own['epoch']) == (other['step'], other['epoch'])
    if 'loss' in own:
      assert own['loss'] == pytest.approx(other['loss'], rel=1e-3)
  expected, values = processes.weights(one), processes.weights(two)
  for name, value in expected.items():
    np.testing.assert_allclose(values[name], value, rtol=1e-2, atol=1e-3, err_msg=name)
