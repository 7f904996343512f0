"""Teachers: what they see and say, the losses, and runs that learn from them."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.nets import checkpoints, nets_factory
from slim_inception.preprocessing import mixing, preprocessing_factory

from slim_inception import flags as flags_lib
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.run import evaluate as run_evaluation
from slim_inception.train import distillation, losses, trainer
from slim_inception.train.augmentation import make_augmentation
from slim_inception.train.config import resolve
from slim_inception.train.flag_groups import DistillationConfig
from tests import tiny
from tests.train import processes, steps
from tests.train.steps import batch, run

pytestmark = pytest.mark.integration

RNG = np.random.default_rng(0)
SIZE, TEMPERATURE = 40, 3.0  # of the teacher


def dataset(num_classes: int = 3, first: int = 0) -> Dataset:
  labels = first, num_classes - 1
  return Dataset('x', 'train', (), 100, num_classes, {}, labels)


@pytest.fixture(scope='module')
def teachers(tmp_path_factory) -> dict[int, str]:
  """{number of outputs: checkpoint} of nets whose weights are random."""
  folder = tmp_path_factory.mktemp('teachers')
  paths = {}
  for outputs in (3, 4):
    paths[outputs] = str(folder / f'{outputs}.ckpt')
    tiny.random_net(outputs, seed=outputs).save(paths[outputs])
  return paths


def config(teacher: str, **flags):
  return tiny.config(
    teacher=teacher,
    **{'teacher_model_name': tiny.NAME, 'teacher_preprocessing_name': 'vgg'}
    | {'teacher_image_size': SIZE, 'distill_temperature': TEMPERATURE, 'optimizer': 'momentum'}
    | {'batch_norm_decay': 0.5, **flags},
  )


def softmax(logits: np.ndarray) -> np.ndarray:
  raised = np.exp(logits - logits.max(-1, keepdims=True))
  return raised / raised.sum(-1, keepdims=True)


# The losses


def test_divergence_is_that_of_numpy():
  logits, theirs = RNG.normal(size=(2, 5, 4)) * 4
  p, q = softmax(theirs / TEMPERATURE), softmax(logits / TEMPERATURE)
  expected = TEMPERATURE**2 * (p * np.log(p / q)).sum(-1).mean()
  found = distillation.divergence(tf.constant(logits), tf.constant(p), TEMPERATURE)
  assert float(found) == pytest.approx(expected)
  one_hot = np.eye(4)[[0, 1, 2, 3, 0]]  # no entropy: the cross entropy, probabilities of 0 included
  expected = -(one_hot * np.log(softmax(logits))).sum(-1).mean()
  found = distillation.divergence(tf.constant(logits), tf.constant(one_hot), 1.0)
  assert float(found) == pytest.approx(expected)


def test_divergence_of_each_class_for_itself():
  logits, theirs = RNG.normal(size=(2, 5, 4)) * 4
  p, q = (1 / (1 + np.exp(-each / TEMPERATURE)) for each in (theirs, logits))
  expected = TEMPERATURE**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
  found = distillation.divergence(tf.constant(logits), tf.constant(p), TEMPERATURE, 'sigmoid')
  assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize('loss', ['softmax', 'bce', 'sigmoid'])
def test_a_net_that_says_what_its_teacher_says_has_nothing_to_learn(teachers, loss):
  """Nets of bce choose one class too, so what they say is compared as distributions."""
  settings = config(teachers[3], loss=loss)
  loaded = distillation.load_teachers(settings, dataset(), tf.distribute.get_strategy())
  preprocessing = preprocessing_factory.get('vgg')
  teaching = distillation.Distillation(settings, loaded, preprocessing, SIZE)
  images = tf.constant(RNG.normal(size=(2, SIZE, SIZE, 3)) * 50, tf.float32)
  logits, _ = loaded[0].scorer.model(images, training=False)
  found = teaching.add({'loss': 0.0}, logits, {}, teaching.teach(images), {})
  assert float(found['distillation_loss']) == pytest.approx(0, abs=1e-5)
  other = teaching.add({'loss': 0.0}, logits[:, ::-1], {}, teaching.teach(images), {})
  assert float(other['distillation_loss']) > 1e-3


def test_the_gradient_keeps_its_size_at_high_temperatures():
  """It nears that of half the squared distance of logits of mean 0, over K (section 2.1)."""
  logits, theirs = (x - x.mean(-1, keepdims=True) for x in RNG.normal(size=(2, 6, 4)))
  variable = tf.Variable(logits)
  with tf.GradientTape() as tape:
    loss = distillation.divergence(variable, tf.nn.softmax(theirs / 1e3), 1e3)
  np.testing.assert_allclose(tape.gradient(loss, variable), (logits - theirs) / 4 / 6, rtol=1e-2)


def test_attention_loss_is_that_of_numpy():
  own, theirs = RNG.normal(size=(3, 5, 5, 7)), RNG.normal(size=(3, 5, 5, 2))

  def attention(features):
    maps = (features**2).sum(-1).reshape(3, -1)
    return maps / np.linalg.norm(maps, axis=1, keepdims=True)

  expected = ((attention(own) - attention(theirs)) ** 2).sum(1).mean()
  found = distillation.attention_loss(*map(tf.constant, (own, theirs)))
  assert float(found) == pytest.approx(expected, rel=1e-5)
  assert float(distillation.attention_loss(*[tf.constant(own)] * 2)) == 0


def test_projection_loss_is_least_at_the_least_squares():
  own, true = RNG.normal(size=(3, 2, 2, 4)), RNG.normal(size=(4, 5))
  theirs = own @ true + 0.1 * RNG.normal(size=(3, 2, 2, 5))
  best, residuals, *_ = np.linalg.lstsq(own.reshape(-1, 4), theirs.reshape(-1, 5), rcond=None)
  own, theirs = (tf.constant(x, tf.float32) for x in (own, theirs))
  loss = distillation.projection_loss(own, theirs, tf.constant(best, tf.float32))
  assert float(loss) == pytest.approx(residuals.sum() / np.sum(theirs.numpy() ** 2), rel=1e-4)


def test_features_of_another_size_are_resized():
  small = tf.constant(RNG.normal(size=(2, 3, 3, 4)), tf.float32)
  large = tf.image.resize(small, (6, 6))
  assert float(distillation.attention_loss(large, small)) == pytest.approx(0, abs=1e-6)
  assert float(distillation.projection_loss(large, small, tf.eye(4))) == pytest.approx(0, abs=1e-6)


# What a teacher sees


@pytest.mark.parametrize(
  ('student', 'teacher', 'channels'),
  [
    ('inception', 'torch', (3, 3)),
    ('vgg', 'inception', (3, 3)),
    ('torch', 'facenet_whitened', (3, 3)),
    ('inception', 'vgg', (1, 3)),
    ('torch', 'inception', (3, 1)),
  ],
)
def test_a_teacher_sees_its_own_values(student, teacher, channels):
  pixels = RNG.integers(0, 256, (2, 8, 8, channels[0])).astype(np.uint8)
  own, theirs = map(preprocessing_factory.get, (student, teacher), channels)
  seen = distillation.teacher_view(own.normalize(pixels), own, theirs, 8)
  expected = pixels.astype(np.float32)
  if channels == (1, 3):
    expected = np.repeat(expected, 3, -1)
  elif channels == (3, 1):
    expected = np.stack([np.asarray(Image.fromarray(image).convert('L')) for image in pixels])
    expected = expected[..., np.newaxis]
  tolerance = 0.5 / 127.5 if channels == (3, 1) else 1e-4  # Pillow rounds to levels
  np.testing.assert_allclose(seen, theirs.normalize(expected), rtol=1e-4, atol=tolerance)


def test_a_teacher_sees_its_own_size():
  pixels = RNG.integers(0, 256, (1, 8, 6, 3)).astype(np.uint8)
  own = preprocessing_factory.get('inception')
  seen = distillation.teacher_view(own.normalize(pixels), own, own, 16)
  expected = Image.fromarray(pixels[0]).resize((16, 16), Image.Resampling.BILINEAR)
  np.testing.assert_allclose(
    own.normalization.to_pixels(seen)[0], expected, atol=1.01
  )  # rounded twice


def test_what_cannot_be_undone(teachers):
  settings = config(teachers[3], preprocessing_name='facenet_whitened')
  message = 'takes images of vgg, which cannot be made of those of facenet_whitened: each of these'
  with pytest.raises(ValueError, match=message):
    steps.make(settings, dataset=dataset())


# The step


def test_the_step_learns_from_what_teachers_say_of_the_same_view(teachers):
  """Two teachers, an auxiliary head and mixed images, computed anew by other means."""
  settings = config(
    f'{teachers[3]},{teachers[3]}',
    teacher_image_size=f'{SIZE},32',
    teacher_preprocessing_name='vgg,inception',
    mixup_alpha=1.0,
    distill_weight=0.7,
    train_image_size=80,
  )
  state, train_step = steps.make(settings, dataset=dataset())
  value, augmentation = batch(side=80), make_augmentation(settings)
  images, share = augmentation.apply(value, augmentation.sample_mix(value))
  logits, end_points = state.model(images, training=True, dropout_seed=value['seed'][0])
  pixels = (images.numpy() + 1) * 127.5
  views = (
    tf.image.resize(pixels - np.float32([123.68, 116.78, 103.94]), (SIZE, SIZE)),
    tf.image.resize(images, (32, 32)),
  )
  teacher = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False, weights=teachers[3])
  p = np.mean([softmax(teacher(view)[0].numpy() / TEMPERATURE) for view in views], axis=0)

  def distance(of_head):
    q = softmax(of_head.numpy() / TEMPERATURE)
    return TEMPERATURE**2 * (p * np.log(p / q)).sum(-1).mean()

  targets = mixing.mix_targets(tf.one_hot(value['label'], 3), share)
  labels = losses.batch_losses(settings.loss, logits, end_points, targets)['loss']
  main, auxiliary = distance(logits), distance(end_points['AuxLogits'])
  results = run(train_step, value, rate=0.0)
  assert results['distillation_loss'] == pytest.approx(main, rel=1e-3)
  assert results['feature_loss'] == 0
  expected = 0.3 * labels + 0.7 * (main + 0.4 * auxiliary) + results['regularization_loss']
  assert results['loss'] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize(('own', 'theirs'), [(3, 4), (4, 3), (3, 3)])
def test_a_background_of_one_alone(teachers, own, theirs):
  """As ImageNet's: labels are 1..3, and a net of 4 outputs has a background."""
  settings = config(teachers[theirs], labels_offset=4 - own)
  _, train_step = steps.make(settings, dataset=dataset(4, first=1))
  images, _ = make_augmentation(settings).apply(batch(), None)
  found = train_step._teaching.teach(images).probabilities
  preprocessing = [preprocessing_factory.get(name) for name in ('inception', 'vgg')]
  view = distillation.teacher_view(images, *preprocessing, SIZE)
  net = nets_factory.create_model(
    tiny.NAME, theirs, create_aux_logits=False, weights=teachers[theirs]
  )
  expected = softmax(net(view)[0].numpy()[:, theirs - 3 :] / TEMPERATURE)
  np.testing.assert_allclose(found[:, own - 3 :], expected, rtol=1e-3)
  np.testing.assert_array_equal(found[:, : own - 3], 0)


@pytest.mark.slow
def test_a_teacher_of_torchvision_says_what_torchvision_says(tmp_path):
  """1000 classes for a net of 1001, at another size and with other values of pixels."""
  torch = pytest.importorskip('torch')
  torchvision = pytest.importorskip('torchvision')
  torch.manual_seed(0)
  theirs = torchvision.models.resnet50(weights=None).eval()
  with torch.no_grad():
    theirs.fc.weight *= 20  # so that it tells images apart
  path = str(tmp_path / 'resnet50.pth')
  torch.save(theirs.state_dict(), path)
  settings = config(path, teacher_model_name='resnet_v1_5_50', teacher_image_size=64)
  settings = flags_lib.replace(settings, teacher_preprocessing_name=None)
  imagenet = dataset(1001, first=1)
  _, train_step = steps.make(settings, dataset=imagenet)
  images, _ = make_augmentation(settings).apply(batch(), None)
  found = train_step._teaching.teach(images).probabilities.numpy()
  unit = torch.tensor(np.moveaxis((images.numpy() + 1) / 2, -1, 1))
  view = torch.nn.functional.interpolate(unit, (64, 64), mode='bilinear', align_corners=False)
  mean, std = (
    torch.tensor(values).reshape(1, 3, 1, 1)
    for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
  )
  with torch.no_grad():
    expected = torch.softmax(theirs((view - mean) / std) / TEMPERATURE, -1).numpy()
  np.testing.assert_array_equal(found[:, 0], 0)
  np.testing.assert_allclose(found[:, 1:], expected, rtol=1e-2, atol=1e-6)
  assert expected.max() > 0.01


FEATURES = {'distill_feature_weight': 0.5, 'distill_feature_loss': 'projection'}


@pytest.mark.parametrize(
  'flags',
  [
    {'accumulate_steps': 2, 'recompute': True},
    pytest.param({}, marks=pytest.mark.slow),
    pytest.param({'sync_batch_norm': True}, marks=pytest.mark.slow),
  ],
  ids=str,
)
def test_replicas(teachers, mirrored, flags):
  """The same images on both replicas are one, trained projections included."""
  count = 4 * flags.get('accumulate_steps', 1)
  end_points = 'Mixed_2a:Conv2d_1a_3x3,Mixed_3a:Mixed_3a'
  settings = config(
    teachers[3], mixup_alpha=0.2, distill_end_points=end_points, **FEATURES, **flags
  )
  single, single_step = steps.make(settings, dataset=dataset())
  both, step_of_both = steps.make(settings, mirrored, dataset=dataset())
  for name, variable in both.named_variables().items():
    variable.assign(single.named_variables()[name].read_value())
  assert {name for name in single.trained if not name.startswith(tiny.SCOPE)} == {
    'Distillation/projection_0/weights',
    'Distillation/projection_1/weights',
  }
  before = steps.arrays(single.projections)
  expected = run(single_step, batch(count))
  found = run(step_of_both, steps.mirror(mirrored, batch(count)))
  assert found == pytest.approx(expected, rel=1e-3)
  if 'sync_batch_norm' not in flags:  # traced once for both
    assert None not in step_of_both._gradients._traced.values()
  for name, value in before.items():
    np.testing.assert_allclose(both.projections[name], single.projections[name], rtol=1e-3)
    assert np.any(single.projections[name].numpy() != value)


@pytest.mark.parametrize(
  'flags', [{'precision': 'bfloat16'}, pytest.param({'jit_compile': True}, marks=pytest.mark.slow)]
)
def test_other_ways_to_compute(teachers, flags):
  losses_by = []
  for more in ({}, flags):
    _, train_step = steps.make(
      config(teachers[3], **FEATURES, dropout_keep_prob=1.0, **more), dataset=dataset()
    )
    losses_by.append(run(train_step, batch()))
  names = ('loss', *distillation.METRICS)
  tolerance = 0.05 if 'precision' in flags else 1e-3
  assert [losses_by[1][n] for n in names] == pytest.approx(
    [losses_by[0][n] for n in names], rel=tolerance
  )


# Whole runs


def settings_of(data, train_dir, teacher, **flags):
  more = {'teacher_model_name': tiny.NAME, **FEATURES, **flags}
  return processes.config(train_dir, data, teacher=teacher, **more)


def train_exactly(data, train_dir, teacher, **flags) -> None:
  """In a process of its own: --deterministic holds for all that comes after it."""
  more = {'teacher_model_name': tiny.NAME, 'deterministic': True, **FEATURES, **flags}
  ((status, said),) = processes.finish(processes.start(train_dir, data, teacher=teacher, **more))
  assert status == 0, said


@pytest.fixture(scope='module')
def whole(data, teachers, tmp_path_factory) -> pathlib.Path:
  """A run of two steps, with a teacher that is no run."""
  train_dir = tmp_path_factory.mktemp('whole')
  trainer.train(settings_of(data, train_dir, teachers[3], max_number_of_steps=2))
  return train_dir


def test_a_checkpoint_has_the_net_and_the_projection_alone(whole, teachers):
  names = {name.split('/')[0] for name in checkpoints.shapes(whole / 'model.ckpt-2')}
  assert names == {tiny.SCOPE, 'Distillation', 'global_step', 'input_position', 'trained_images'}
  written = json.loads((whole / 'config.json').read_text())
  (teacher,) = written['run']['teachers']
  assert teacher['checkpoint'] == teachers[3]
  lines = (whole / 'metrics.jsonl').read_text().splitlines()
  assert {'distillation_loss', 'feature_loss'} <= set(json.loads(lines[-1]))


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_to_the_bit(data, teachers, tmp_path):
  whole, stopped = tmp_path / 'whole', tmp_path / 'stopped'
  for train_dir, end in ((whole, 6), (stopped, 3), (stopped, 6)):
    train_exactly(data, train_dir, teachers[3], max_number_of_steps=end)
  names = list(checkpoints.shapes(whole / 'model.ckpt-6'))
  one, other = (checkpoints.read(path / 'model.ckpt-6', names) for path in (whole, stopped))
  for name, value in one.items():
    np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_a_run_teaches_another_and_is_evaluated(whole, data, tmp_path, caplog):
  """A train_dir says net and preprocessing itself; what was changed is said."""
  flags = {'teacher_model_name': None, 'teacher': str(whole), 'batch_size': 8}
  settings = settings_of(data, tmp_path, **flags, max_number_of_steps=2)
  trainer.train(settings)
  caplog.set_level('INFO', 'absl')
  evaluated = resolve_eval(
    {'checkpoint_path': str(tmp_path), 'dataset_split_name': 'train', 'use_ema': 'auto'}
  )
  assert run_evaluation(evaluated)['num_images'] == 24
  written = json.loads((tmp_path / 'config.json').read_text())
  written['run']['teachers'][0]['identity'] = 'another'
  (tmp_path / 'config.json').write_text(json.dumps(written))
  trainer.train(settings_of(data, tmp_path, **flags, max_number_of_steps=3))
  assert any('Changed since the last start: --teacher=' in message for message in caplog.messages)


@pytest.mark.slow
def test_two_workers_teach_as_two_replicas(data, teachers, tmp_path):
  """Each loads the teacher for itself, and says so if it has another."""
  flags = {'teacher': teachers[3], 'teacher_model_name': tiny.NAME, 'max_number_of_steps': 2}
  flags |= {'distill_feature_weight': 0.5, 'distill_feature_loss': 'projection', 'batch_size': 2}
  with processes.cluster(tmp_path / 'two', data, **flags) as workers:
    for status, output in processes.finish(*workers):
      assert status == 0, output
  (one,) = processes.finish(processes.start(tmp_path / 'one', data, num_clones=2, **flags))
  assert one[0] == 0, one[1]
  expected, found = (processes.weights(tmp_path / name) for name in ('one', 'two'))
  assert 'Distillation/projection_0/weights' in found
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
  other = str(tmp_path / 'other.ckpt')
  tiny.random_net(3, seed=9).save(other)
  own = {}, {'teacher': other}
  with processes.cluster(tmp_path / 'bad', data, of_worker=own, **flags) as workers:
    for status, output in processes.finish(*workers):
      assert status == 1 and 'The identity of the weights of the teachers is ' in output, output


# What is refused


def test_a_teacher_that_is_not_there_is_named(tmp_path):
  config = DistillationConfig(teacher=(str(tmp_path / 'none'),))
  with pytest.raises(FileNotFoundError, match=f'--teacher: {tmp_path}/none does not exist'):
    distillation._members(config)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'distill_weight': 0.5}, '--distill_weight=0.5 needs --teacher: The net also learns from'),
    ({'distill_temperature': 2}, '--distill_temperature=2.0 needs --teacher'),
    ({'teacher': 'a', 'distill_end_points': 'A:B'}, '--distill_end_points needs --distill_feature'),
    ({'teacher': 'a,b', 'distill_feature_weight': 1}, 'is for one teacher: features have no av'),
    ({'teacher': 'a,b', 'teacher_image_size': '3,4,5'}, 'give one value, or one for each of 2'),
    ({'teacher': 'a', 'teacher_model_name': 'vgg'}, '--teacher_model_name=vgg: choose one of'),
  ],
)
def test_flags_that_do_not_go_together(flags, message):
  with pytest.raises(ValueError, match=message):
    resolve({'train_dir': 'run', 'dataset_dir': 'data', **flags})


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({}, '4.ckpt: The net has 4 outputs, and labels of x train are 0..2 of 3 classes'),
    ({'teacher_model_name': None}, '--teacher_model_name must be given: .* has no config.json'),
    (
      {**FEATURES, 'teacher': 3, 'distill_end_points': 'Mixed_3a:Mixed_9z'},
      '--distill_end_points=Mixed_3a:Mixed_9z: inception_tiny has no end point Mixed_9z; its body',
    ),
  ],
)
def test_teachers_that_do_not_fit(teachers, flags, message):
  teacher = teachers[flags.pop('teacher', 4)]
  with pytest.raises(ValueError, match=message):
    steps.make(config(teacher, **flags), dataset=dataset())


def test_a_teacher_of_other_classes(whole, tmp_path):
  """The names of its run's classes are those of the data set, in another order."""
  folder = tmp_path / 'teacher'
  folder.mkdir()
  for path in whole.glob('model.ckpt-2.*'):
    (folder / path.name).write_bytes(path.read_bytes())
  written = json.loads((whole / 'config.json').read_text())
  written['run']['labels'] = ['b', 'a', 'c']
  (folder / 'config.json').write_text(json.dumps(written))
  named = dataclasses.replace(dataset(), labels_to_names={0: 'a', 1: 'b', 2: 'c'})
  with pytest.raises(ValueError, match='was trained on other classes than .*data has: label 0 was'):
    steps.make(config(str(folder), teacher_model_name=None), dataset=named)
