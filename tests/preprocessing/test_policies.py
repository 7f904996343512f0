"""TrivialAugment, AugMix, 3-Augment and turned images against Pillow, NumPy, SciPy, torchvision."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from slim_inception.preprocessing import orientation, policies, rand_augment
from slim_inception.preprocessing.rand_augment import OPS
from slim_inception.preprocessing.sampling import uniform

SIDE = 24
RNG = np.random.default_rng(0)
# A smooth image, in which a warp that is a pixel off changes little, and noise.
SMOOTH = np.stack(
  [
    np.add.outer(np.arange(SIDE) * 4, np.arange(SIDE) * 5),
    np.add.outer(np.arange(SIDE) * 3, np.arange(SIDE)[::-1] * 6),
    np.hypot(*np.meshgrid(np.arange(SIDE) - 8, np.arange(SIDE) - 14)) * 9,
  ],
  -1,
).astype(np.uint8)
NOISE = RNG.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)


def seeds(count: int, start: int = 0) -> tf.Tensor:
  return tf.stack([tf.range(start, start + count), tf.fill([count], 3)], axis=1)


def drawn(own_seeds: tf.Tensor, number: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
  return uniform(own_seeds, number, low, high).numpy().ravel()


def repeated(image: np.ndarray, count: int) -> tf.Tensor:
  return tf.constant(np.repeat(image[np.newaxis], count, 0))


def affine(image, *matrix):
  return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * 3)


def pillow_mixed(name: str, image: Image.Image, amount: float) -> Image.Image:
  """The operations of the code of AugMix's authors."""
  width, height = image.size
  strength = abs(amount)
  return {
    'identity': lambda: image,
    'autocontrast': lambda: ImageOps.autocontrast(image),
    'equalize': lambda: ImageOps.equalize(image),
    'posterize': lambda: ImageOps.posterize(image, 4 - int(4 * strength)),
    'rotate': lambda: image.rotate(30 * amount, fillcolor=(128,) * 3),
    'solarize': lambda: ImageOps.solarize(image, 256 - int(256 * strength)),
    'shear_x': lambda: affine(image, 1, 0.3 * amount, 0, 0, 1, 0),
    'shear_y': lambda: affine(image, 1, 0, 0, 0.3 * amount, 1, 0),
    'translate_x': lambda: affine(image, 1, 0, width / 3 * amount, 0, 1, 0),
    'translate_y': lambda: affine(image, 1, 0, 0, 0, 1, height / 3 * amount),
  }[name]()


def test_augmix_is_the_mixture_of_pillows_chains():
  count = 12
  own, image = seeds(count), Image.fromarray(SMOOTH)
  shares = -np.log(1 - np.stack([drawn(own, policies._WEIGHT + i) for i in range(3)]))
  shares /= shares.sum(0)
  mixed, depths = np.zeros((count, *SMOOTH.shape)), []
  for i in range(3):
    depth = (3 * drawn(own, policies._DEPTH + i)).astype(int) + 1
    depths += list(depth)
    for n in range(count):
      chain = image
      for j in range(depth[n]):
        number = policies._CHAIN + 3 * (3 * i + j)
        op, amount, sign = (
          drawn(own, number + k, *limits)[n]
          for k, limits in enumerate([(0, len(policies.MIXED_OPS)), (0.1, 3.0), (0, 1)])
        )
        amount = (-amount if sign < 0.5 else amount) / 10
        chain = pillow_mixed(policies.MIXED_OPS[int(op)], chain, amount)
      mixed[n] += shares[i, n] * np.asarray(chain)
  assert set(depths) == {1, 2, 3}
  share = drawn(own, policies._SHARE)[:, np.newaxis, np.newaxis, np.newaxis]
  expected = share * SMOOTH + (1 - share) * mixed
  difference = np.abs(policies.aug_mix(repeated(SMOOTH, count), own).numpy() - expected)
  # A warp may take the next pixel where it ends between two, and equalize tells these apart.
  assert np.mean(difference > 2) < 0.05
  assert np.mean(difference) < 1


@pytest.mark.parametrize('magnitude', [0, 6, 15, 30])  # there translations are whole pixels
@pytest.mark.parametrize('name', OPS)
def test_trivial_augment_is_torchvisions(name, magnitude):
  """The same operation at each of its 31 strengths."""
  torchvision = pytest.importorskip('torchvision')
  torch = pytest.importorskip('torch')
  autoaugment = torchvision.transforms.autoaugment
  theirs = {'color': 'Color', 'autocontrast': 'AutoContrast'}.get(
    name, ''.join(part.capitalize() for part in name.split('_'))
  )
  space = autoaugment.TrivialAugmentWide()._augmentation_space(31)
  assert len(space) == len(OPS)
  strengths, _ = space[theirs]
  strength = round(float(strengths[magnitude]), 4) if strengths.ndim else 0.0
  amount = tf.fill([2, 1, 1, 1], magnitude / 30)
  images = tf.constant(np.stack([SMOOTH, NOISE]))
  op = tf.fill([2, 1, 1, 1], OPS.index(name))
  found = rand_augment.apply(images, op, amount, policies.wide_strengths(SIDE)).numpy()
  # Translations of torchvision go the other way: either is taken for half of the images.
  turns = -1 if name.startswith('translate') else 1
  for own, image in zip(found, (SMOOTH, NOISE), strict=True):
    expected = autoaugment._apply_op(
      Image.fromarray(image),
      theirs,
      turns * strength,
      torchvision.transforms.InterpolationMode.NEAREST,
      [128] * 3,
    )
    difference = np.abs(own.astype(int) - np.asarray(expected).astype(int))
    assert np.mean(difference > 1) < 0.03, torch.__version__


@pytest.mark.parametrize('magnitude', [6, 15, 30])
def test_trivial_augment_has_the_strengths_of_the_paper(magnitude):
  """Table 1's wide ranges, by Pillow."""
  image, m = Image.fromarray(SMOOTH), magnitude / 30
  expected = {
    'rotate': image.rotate(135 * m, fillcolor=(128,) * 3),
    'shear_x': affine(image, 1, 0.99 * m, 0, 0, 1, 0),
    'translate_y': affine(image, 1, 0, 0, 0, 1, 32 * m),
    'color': ImageEnhance.Color(image).enhance(1 + 0.99 * m),
    'sharpness': ImageEnhance.Sharpness(image).enhance(1 + 0.99 * m),
    'posterize': ImageOps.posterize(image, 8 - round(6 * m)),
    'solarize': image.point(lambda level: level if level < 255 * (1 - m) else 255 - level),
  }
  for name, pixels in expected.items():
    found = rand_augment.apply(
      repeated(SMOOTH, 1),
      tf.fill([1, 1, 1, 1], OPS.index(name)),
      tf.fill([1, 1, 1, 1], m),
      policies.wide_strengths(SIDE),
    )
    difference = np.abs(found.numpy()[0].astype(int) - np.asarray(pixels).astype(int))
    assert np.mean(difference > 1) < 0.03, name


def test_trivial_augment_has_one_operation_of_any_strength():
  count = 600
  found = policies.trivial_augment(repeated(NOISE, count), seeds(count)).numpy()
  assert len({image.tobytes() for image in found}) > 250
  assert 0.05 < np.mean([np.array_equal(image, NOISE) for image in found]) < 0.2


def test_three_augment_is_pillows():
  count = 24
  own = seeds(count)
  found = policies.three_augment(repeated(SMOOTH, count), own).numpy()
  which = (3 * drawn(own, policies._WHICH)).astype(int)
  sigma = drawn(own, policies._SIGMA, *policies._SIGMAS)
  factors = [
    drawn(own, number, 0.7, 1.3)
    for number in (policies._BRIGHTNESS, policies._CONTRAST, policies._SATURATION)
  ]
  assert set(which) == {0, 1, 2}
  for n in range(count):
    image = Image.fromarray(SMOOTH)
    if which[n] == 0:
      image = image.convert('L').convert('RGB')
    elif which[n] == 1:
      image = ImageOps.solarize(image, 128)
    else:
      image = Image.fromarray(blurred(SMOOTH, sigma[n]))
    enhancers = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color
    for enhance, factor in zip(enhancers, factors, strict=True):
      image = enhance(image).enhance(float(factor[n]))
    difference = np.abs(found[n].astype(int) - np.asarray(image).astype(int))
    assert difference.max() <= 3, (n, which[n])  # each step rounds


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
  """By SciPy, which comes with scikit-learn."""
  ndimage = pytest.importorskip('scipy.ndimage')
  smooth = ndimage.gaussian_filter(
    image.astype(float), (sigma, sigma, 0), mode='reflect', truncate=8.0 / sigma
  )
  return np.round(smooth).astype(np.uint8)


@pytest.mark.parametrize('sigma', [0.1, 0.7, 2.0])
def test_blur_is_scipys(sigma):
  found = policies.blur(tf.constant(NOISE[np.newaxis]), tf.fill([1, 1, 1, 1], sigma))[0]
  np.testing.assert_allclose(found.numpy().astype(int), blurred(NOISE, sigma).astype(int), atol=1)


def test_three_augment_of_small_images():
  """The mirrored edges are of 8 pixels."""
  smallest = tf.zeros((1, 8, 8, 3), tf.uint8)
  assert policies.three_augment(smallest, seeds(1)).shape == smallest.shape
  message = 'three_augment needs images of at least 8 x 8 pixels for its blur; these have 8 x 7'
  with pytest.raises(ValueError, match=message):
    policies.three_augment(smallest[:, :, 1:], seeds(1))


@pytest.mark.parametrize('policy', policies.POLICIES.values(), ids=policies.POLICIES)
def test_a_policy_is_a_function_of_the_seed_of_each_image(policy):
  batch = tf.constant(np.stack([SMOOTH, NOISE] * 4))
  one = policy(batch, seeds(8)).numpy()
  assert one.dtype == np.uint8
  np.testing.assert_array_equal(policy(batch[2:6], seeds(4, 2)), one[2:6])
  assert np.any(policy(batch, seeds(8, 100)).numpy() != one)
  grey = policy(batch[..., :1], seeds(8)).numpy()
  assert grey.shape == (8, SIDE, SIDE, 1)
  of_three = policy(tf.repeat(batch[..., :1], 3, axis=-1), seeds(8)).numpy()
  np.testing.assert_allclose(np.repeat(grey, 3, -1).astype(int), of_three.astype(int), atol=1)


@pytest.mark.slow
@pytest.mark.parametrize('policy', policies.POLICIES.values(), ids=policies.POLICIES)
def test_compiles(policy):
  function = tf.function(policy, jit_compile=True, autograph=False)
  batch = repeated(SMOOTH, 4)
  compiled, plain = (run(batch, seeds(4)).numpy().astype(int) for run in (function, policy))
  assert np.mean(np.abs(compiled - plain) > 1) < 0.02


def test_images_without_an_up():
  count = 200
  flipped = orientation.flip_vertically(repeated(NOISE, count), seeds(count)).numpy()
  rotate = tf.function(orientation.rotate_by_quarters, autograph=False)  # as a step does it
  rotated = rotate(repeated(NOISE, count), seeds(count)).numpy()
  expected = {
    'flip': [NOISE, NOISE[::-1]],
    'rotation': [np.rot90(NOISE, quarters) for quarters in range(4)],
  }
  for found, choices in zip((flipped, rotated), expected.values(), strict=True):
    shares = [np.mean([np.array_equal(image, choice) for image in found]) for choice in choices]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.7 / len(choices)
  np.testing.assert_array_equal(
    orientation.rotate_by_quarters(repeated(NOISE, 4), seeds(4, 50)), rotated[50:54]
  )
  with pytest.raises(ValueError, match='images are 24 x 10; expected squares'):
    orientation.rotate_by_quarters(repeated(NOISE[:, :10], 1), seeds(1))


def test_magnitudes_of_randaugment_vary_and_operations_are_left_out():
  count = 3000
  normal = rand_augment._normal(seeds(count)).numpy().ravel()
  assert abs(normal.mean()) < 0.06 and abs(normal.std() - 1) < 0.05
  assert 0.94 < np.mean(np.abs(normal) < 1.96) < 0.96
  batch, own = repeated(NOISE, 400), seeds(400)
  one = rand_augment.rand_augment(batch, own, 1, 9.0).numpy()
  same = rand_augment.rand_augment(batch, own, 1, 9.0, std=0.0, probability=1.0).numpy()
  np.testing.assert_array_equal(one, same)
  varied = rand_augment.rand_augment(batch, own, 1, 9.0, std=0.5).numpy()
  assert len({image.tobytes() for image in varied}) > 5 * len({image.tobytes() for image in one})
  halved = rand_augment.rand_augment(batch, own, 1, 9.0, probability=0.5).numpy()
  left_out = np.array([np.array_equal(image, NOISE) for image in halved])
  assert 0.45 < left_out.mean() < 0.62
  np.testing.assert_array_equal(halved[~left_out], one[~left_out])
