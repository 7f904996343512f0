"""Losses against NumPy and TF1; --class_weights."""

import codecs

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_info

from slim_inception.choices import LOSSES as LOSSES_FLAG
from slim_inception.train import losses
from slim_inception.train.flag_groups import LossConfig
from tests.train import processes

LOGITS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
LABELS = np.array([0, 1, 2, 3, 0, 1], np.int32)
TARGETS = np.array(
  [[1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0.3, 0.7, 0], [0, 0, 0, 1]],
  np.float32,
)
WEIGHTS = np.array([1.0, 2.0, 0.0, 0.5], np.float32)


def test_every_choice_of_the_flag_is_there():
  assert tuple(losses.LOSSES) == LOSSES_FLAG


@pytest.mark.parametrize('loss', losses.LOSSES.values())
def test_labels_are_one_hot_targets(loss):
  one_hot = tf.constant(np.eye(4, dtype=np.float32)[LABELS])
  for smoothing in (0.0, 0.1):
    by_labels = loss(tf.constant(LOGITS), tf.constant(LABELS), smoothing)
    assert float(by_labels) == float(loss(tf.constant(LOGITS), one_hot, smoothing))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('loss', [losses.softmax_cross_entropy, losses.sigmoid_cross_entropy])
def test_losses_are_tf1s(loss, smoothing):
  targets = TARGETS if loss is losses.sigmoid_cross_entropy else np.eye(4)[LABELS]
  expected = getattr(tf.compat.v1.losses, loss.__name__)(targets, LOGITS, label_smoothing=smoothing)
  found = loss(tf.constant(LOGITS), tf.constant(targets, tf.float32), smoothing)
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


def softmax(logits):
  exponentials = np.exp(logits.astype(np.float64))
  return exponentials / exponentials.sum(-1, keepdims=True)


def entropy(p):
  return -np.sum(p * np.log(p), -1)


def views_of_logits():
  rng = np.random.default_rng(1)
  return np.stack([LOGITS, LOGITS[::-1], 3 * rng.standard_normal(LOGITS.shape)]).astype(np.float32)


def test_the_divergence_of_views_is_what_their_mixture_has_in_entropy_over_theirs():
  views = views_of_logits()
  p = softmax(views)
  expected = np.mean(entropy(p.mean(0)) - entropy(p).mean(0))
  assert float(losses.jensen_shannon([*views])) == pytest.approx(expected, rel=1e-5)
  assert float(losses.jensen_shannon([LOGITS] * 3)) == pytest.approx(0, abs=1e-6)
  certain = 1000.0 * tf.eye(3)[tf.newaxis]
  apart = losses.jensen_shannon(tf.unstack(certain, axis=1))  # finite where softmax gives zeros
  assert float(apart) == pytest.approx(np.log(3), rel=1e-6)


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_the_loss_of_views_is_timms(smoothing):
  """Of the labels that of the first view; accuracy too; the auxiliary head has the same loss."""
  torch = pytest.importorskip('torch')
  timm_loss = pytest.importorskip('timm.loss')
  logits = np.concatenate(views_of_logits())
  theirs = timm_loss.JsdCrossEntropy(num_splits=3, alpha=12, smoothing=smoothing)
  expected = float(theirs(torch.tensor(logits), torch.tensor(LABELS, dtype=torch.int64).repeat(3)))
  config = LossConfig(jsd_weight=12.0, label_smoothing=smoothing, aux_loss_weight=0.5)
  found = losses.batch_losses(config, tf.constant(logits), {}, tf.constant(LABELS))
  assert float(found['loss']) == pytest.approx(expected, rel=1e-5)
  both = losses.batch_losses(
    config, tf.constant(logits), {'AuxLogits': tf.constant(logits)}, tf.constant(LABELS)
  )
  assert float(both['loss']) == pytest.approx(1.5 * expected, rel=1e-5)
  assert float(both['top_1']) == pytest.approx(np.mean(LOGITS.argmax(-1) == LABELS))


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('threshold', [None, 0.2])
def test_bce_of_mixed_labels_is_timms(smoothing, threshold):
  """As timm smooths and mixes: one-hot, smoothed, mixed, and only then compared with the number."""
  torch = pytest.importorskip('torch')
  timm_loss = pytest.importorskip('timm.loss')
  share = 0.7
  targets = share * np.eye(4)[LABELS] + (1 - share) * np.eye(4)[LABELS[::-1]]
  smoothed = targets * (1 - smoothing) + smoothing / 4
  theirs = timm_loss.BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
  expected = theirs(torch.tensor(LOGITS), torch.tensor(smoothed, dtype=torch.float32))
  found = losses.single_label_bce(
    tf.constant(LOGITS), tf.constant(targets, tf.float32), smoothing, threshold=threshold
  )
  assert float(found) == pytest.approx(float(expected), rel=1e-5)
  expected = theirs(torch.tensor(LOGITS), torch.tensor(LABELS, dtype=torch.int64))
  found = losses.single_label_bce(
    tf.constant(LOGITS), tf.constant(LABELS), smoothing, threshold=threshold
  )
  assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_bce_is_that_of_numpy():
  p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
  mixed = 0.6 * np.eye(4)[LABELS] + 0.4 * np.eye(4)[LABELS[::-1]]
  for threshold, targets in ((None, mixed * 0.9 + 0.1 / 4), (0.5, 1.0 * (mixed > 0.5))):
    each = -targets * np.log(p) - (1 - targets) * np.log(1 - p)
    config = LossConfig(
      loss='bce', label_smoothing=0.1 if threshold is None else 0, bce_target_threshold=threshold
    )
    found = losses.batch_losses(config, tf.constant(LOGITS), {}, tf.constant(mixed, tf.float32))
    assert float(found['loss']) == pytest.approx(each.mean(), rel=1e-5)
    weighted = losses.batch_losses(
      config, tf.constant(LOGITS), {}, tf.constant(mixed, tf.float32), list(WEIGHTS)
    )
    assert float(weighted['loss']) == pytest.approx((each * WEIGHTS).mean(), rel=1e-5)


def test_class_weights_multiply_the_loss_of_each_image():
  log_probabilities = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
  each = -(np.eye(4)[LABELS] * 0.9 + 0.1 / 4) * log_probabilities
  expected = (each.sum(1) * WEIGHTS[LABELS]).mean()
  args = (tf.constant(LOGITS), tf.constant(LABELS), 0.1, tf.constant(WEIGHTS))
  assert float(losses.softmax_cross_entropy(*args)) == pytest.approx(expected, rel=1e-5)


def test_class_weights_multiply_the_binary_loss_of_each_class():
  p = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
  each = -TARGETS * np.log(p) - (1 - TARGETS) * np.log(1 - p)
  args = (tf.constant(LOGITS), tf.constant(TARGETS), 0.0, tf.constant(WEIGHTS))
  expected = (each * WEIGHTS).mean()
  assert float(losses.sigmoid_cross_entropy(*args)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('p', [1, 2, 3])
def test_the_norm_of_embeddings_is_numpys(p):
  """Its gradient too, where an image has nothing but zeros besides."""
  embedding = np.concatenate([LOGITS, np.zeros((1, 4), np.float32)])
  raised = np.abs(embedding.astype(np.float64)) + 1e-4
  norms = np.linalg.norm(raised, ord=p, axis=1, keepdims=True)
  gradient = np.sign(embedding) * (raised / norms) ** (p - 1) / len(embedding)
  variable = tf.constant(embedding)
  with tf.GradientTape() as tape:
    tape.watch(variable)
    loss = losses.embedding_norm(variable, p)
  assert float(loss) == pytest.approx(norms.mean(), rel=1e-5)
  np.testing.assert_allclose(tape.gradient(loss, variable), gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
  ('target', 'largest', 'right'),
  [
    ([0, 1, 0], 1, True),
    ([1, 1, 0], 0, True),  # one of two labels
    ([1, 1, 0], 1, True),
    ([1, 1, 0], 2, False),
    ([0, 0, 0], 0, False),
    ([0.3, 0.7, 0], 1, True),  # mixed: the larger part
    ([0.3, 0.7, 0], 0, False),
  ],
)
def test_top_1_of_targets(target, largest, right):
  logits = tf.one_hot([largest], 3)
  assert float(losses.top_1(logits, tf.constant([target], tf.float32))) == right


# --class_weights

NAMES = ['background', 'a:b', 'crane', 'dog', 'crane']


def load(directory, **flags):
  settings = processes.config('run', directory, **flags)
  return losses.load_class_weights(settings.loss, settings.data)


def test_class_weights_by_names_and_labels():
  text = '\ndog: 3\na:b:0.5\n2:0\n'
  assert losses.parse_class_weights(text, 'file', NAMES) == [1.0, 0.5, 0.0, 3.0, 1.0]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('dog:1\ncat:2', "line 2: 'cat:2' is no class:weight; classes are labels 0..4 or names: b"),
    ('dog', "file line 1: 'dog' is no class:weight"),
    ('5:1', "'5:1' is no class:weight"),
    ('crane:1', 'more than one class is called crane: give its label'),
    ('dog:1\n3:2', 'line 2: 3 comes a second time'),
    ('dog:-1', "the weight '-1' must be a number of at least 0"),
    ('dog:much', "the weight 'much' must be"),
    ('dog:inf', "the weight 'inf' must be"),
  ],
)
def test_bad_lines_of_class_weights_are_named(text, message):
  with pytest.raises(ValueError, match=message):
    losses.parse_class_weights(text, 'file', NAMES)


def test_class_weights_of_a_run(data, tmp_path):
  assert load(data) is None
  path = tmp_path / 'weights.txt'
  path.write_text('color 1:2\n2:3\n')
  assert load(data, class_weights=str(path)) == [1.0, 2.0, 3.0]
  assert load(data, class_weights=str(path), labels_offset=1) == [2.0, 3.0]
  with pytest.raises(FileNotFoundError):
    load(data, class_weights=str(tmp_path / 'nowhere'))
  path.write_bytes(codecs.BOM_UTF8 + b'color 1:2\n')
  assert load(data, class_weights=str(path)) == [1.0, 2.0, 1.0]
  path.write_text('0:1\n1:0\n2:0\n')
  with pytest.raises(ValueError, match='weights.txt: all weights are 0; expected some greater tha'):
    load(data, class_weights=str(path), labels_offset=1)
  path.write_bytes(b'\xff')
  with pytest.raises(ValueError, match='weights.txt is no UTF-8 text'):
    load(data, class_weights=str(path))


def test_balanced_class_weights(data, tmp_path):
  with pytest.raises(ValueError, match='--class_weights=balanced counts labels by dataset.json'):
    load(data, class_weights='balanced')
  counts = (0, 10, 30)
  info = dataset_info.DatasetInfo(
    'image_folder', {'train': dataset_info.Split(40, 0, counts, ())}, 3, ('none', 'a', 'b'), 1
  )
  dataset_info.write_info(tmp_path, info)
  weights = load(tmp_path, class_weights='balanced')
  assert weights == [1.0, 2.0, pytest.approx(2 / 3)]
  assert np.dot(weights, counts) == pytest.approx(sum(counts))  # the mean over images is 1
  assert load(tmp_path, class_weights='balanced', labels_offset=1) == weights[1:]
  with pytest.raises(ValueError, match='has no split test; it has train'):
    load(tmp_path, class_weights='balanced', dataset_split_name='test')


def test_balanced_class_weights_of_several_sets_count_what_is_drawn(tmp_path):
  folders = []
  for name, counts in (('one', (30, 10)), ('two', (1, 3))):
    folders.append(tmp_path / name)
    folders[-1].mkdir()
    split = dataset_info.Split(sum(counts), 0, counts, ())
    dataset_info.write_info(folders[-1], dataset_info.DatasetInfo(name, {'train': split}, 2, NAMES))
  both = ','.join(map(str, folders))
  assert load(both, class_weights='balanced') == [44 / (2 * 31), 44 / (2 * 13)]
  drawn = load(both, class_weights='balanced', mixture='1,1')  # 1/2 of each class
  assert drawn == pytest.approx([1.0, 1.0])
  drawn = load(both, class_weights='balanced', mixture='3,1')  # 5/8 of the first class
  assert drawn == pytest.approx([4 / 5, 4 / 3])
