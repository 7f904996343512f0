"""Mixup, cutmix and random erasing against their papers' formulas."""

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.preprocessing import mixing
from slim_inception.preprocessing.normalization import INCEPTION, VGG

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (4, 16, 20, 3)).astype(np.float32)
TARGETS = np.eye(5, dtype=np.float32)[[0, 2, 2, 4]]


def samples(count: int, mixup_alpha: float, cutmix_alpha: float) -> mixing.Mix:
  """`count` samples side by side, as NumPy arrays."""

  def one(index):
    return mixing.sample(tf.stack([index, 7]), mixup_alpha, cutmix_alpha)

  spec = mixing.Mix(tf.float32, tf.bool, tf.float32)
  found = tf.function(tf.map_fn, autograph=False)(one, tf.range(count), fn_output_signature=spec)
  return mixing.Mix(*(part.numpy() for part in found))


def drawn(share: float, is_cut: bool, centre=(0.5, 0.5)) -> mixing.Mix:
  return mixing.Mix(tf.constant(share), tf.constant(is_cut), tf.constant(centre))


@pytest.mark.parametrize('alpha', [0.2, 1.0, 4.0])
def test_shares_are_beta_distributed(alpha):
  shares = samples(2000, alpha, 0.0).share
  expected = np.random.default_rng(1).beta(alpha, alpha, 100000)
  levels = [0.05, 0.25, 0.5, 0.75, 0.95]
  ours = [np.mean(shares < np.quantile(expected, level)) for level in levels]
  np.testing.assert_allclose(ours, levels, atol=0.04)


def test_tiny_alphas_stay_finite():
  shares = samples(100, 0.001, 0.0).share
  assert np.all((shares >= 0) & (shares <= 1))
  assert np.mean((shares < 1e-6) | (shares > 1 - 1e-6)) > 0.9


@pytest.mark.parametrize(('alphas', 'cut'), [((0.2, 0.0), 0), ((0.0, 1.0), 1), ((0.2, 1.0), 0.5)])
def test_kind(alphas, cut):
  found = samples(500, *alphas)
  assert np.mean(found.is_cut) == pytest.approx(cut, abs=0.08 if cut == 0.5 else 0)
  assert np.all((found.centre >= 0) & (found.centre < 1))


@pytest.mark.parametrize('dtype', [tf.float32, tf.bfloat16, tf.float16])
def test_mixup(dtype):
  images, share = mixing.mix(tf.cast(IMAGES, dtype), drawn(0.75, False))
  targets = mixing.mix_targets(tf.constant(TARGETS), share)
  assert images.dtype == dtype
  tolerance = 1e-6 if dtype == tf.float32 else 0.02
  expected = 0.75 * IMAGES + 0.25 * IMAGES[::-1]
  np.testing.assert_allclose(tf.cast(images, tf.float32), expected, atol=tolerance)
  np.testing.assert_allclose(targets, 0.75 * TARGETS + 0.25 * TARGETS[::-1], atol=1e-6)
  np.testing.assert_allclose(np.sum(targets, 1), 1, atol=1e-6)


@pytest.mark.parametrize('centre', [(0.5, 0.5), (0.0, 0.99), (0.3, 0.9)])
@pytest.mark.parametrize('share', [0.75, 0.3, 1.0, 0.0])
def test_cutmix(share, centre):
  images, kept = mixing.mix(tf.constant(IMAGES), drawn(share, True, centre))
  targets = mixing.mix_targets(tf.constant(TARGETS), kept)
  cut = np.sqrt(1 - np.float32(share))  # the paper's code
  half_h, half_w = int(16 * cut) // 2, int(20 * cut) // 2
  y, x = int(16 * centre[0]), int(20 * centre[1])
  window = np.s_[:, max(y - half_h, 0) : y + half_h, max(x - half_w, 0) : x + half_w]
  expected = IMAGES.copy()
  expected[window] = IMAGES[::-1][window]
  np.testing.assert_allclose(images, expected, atol=1e-6)
  area = IMAGES[window][0, ..., 0].size / (16 * 20)
  np.testing.assert_allclose(targets, (1 - area) * TARGETS + area * TARGETS[::-1], atol=1e-6)


def seeds(count, start=0):
  return tf.stack([tf.range(start, start + count), tf.fill([count], 3)], axis=1)


def test_erasing():
  count = 400
  images = tf.fill([count, 16, 20, 3], 5.0)
  erased = mixing.erase(images, seeds(count), 0.25, INCEPTION).numpy()
  gone = erased[..., 0] != 5
  assert np.mean(gone.any((1, 2))) == pytest.approx(0.25, abs=0.06)
  for mask in gone[gone.any((1, 2))]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()  # a rectangle
    assert mask.sum() == len(rows) * len(columns)
    assert 0.01 < mask.mean() < 0.45
  noise = erased[gone]
  assert -1 <= noise.min() < -0.9 < 0.9 < noise.max() < 1
  of_vgg = mixing.erase(images, seeds(count), 0.25, VGG).numpy()[gone]
  np.testing.assert_allclose(of_vgg, (noise + 1) * 127.5 - VGG.mean, atol=1e-3)
  assert np.mean(noise) == pytest.approx(0, abs=0.05)
  everywhere = (
    mixing.erase(tf.fill([4000, 16, 20, 1], 5.0), seeds(4000), 1.0, INCEPTION).numpy() != 5
  )
  assert everywhere.any(0).all()


def test_each_image_is_erased_by_its_own_seed():
  images = tf.fill([8, 16, 20, 3], 5.0)
  whole = mixing.erase(images, seeds(8), 1.0, INCEPTION).numpy() != 5
  part = mixing.erase(images[3:], seeds(5, 3), 1.0, INCEPTION).numpy() != 5
  np.testing.assert_array_equal(whole[3:], part)
  assert mixing.erase(tf.cast(images, tf.bfloat16), seeds(8), 1.0, INCEPTION).dtype == tf.bfloat16
  np.testing.assert_array_equal(mixing.erase(images, seeds(8), 0.0, INCEPTION), images)


def test_mixing_and_erasing_compile():
  """All but the draw of the share: XLA has no gamma distribution."""

  @tf.function(jit_compile=True, autograph=False)
  def compiled(images, mix, own):
    return mixing.mix(mixing.erase(images, own, 0.5, INCEPTION), mix)

  images, share = compiled(IMAGES, drawn(0.7, True), seeds(4))
  assert images.shape == IMAGES.shape and share.shape == ()
