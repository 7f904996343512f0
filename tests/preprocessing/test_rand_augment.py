"""Each operation of RandAugment against Pillow's."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from slim_inception.preprocessing import rand_augment

SIDE = (20, 28)  # height and width differ, to catch their exchange
RNG = np.random.default_rng(0)
# Noise, a range that is not full, few values, and one colour.
IMAGES = np.stack(
  [
    RNG.integers(0, 256, (*SIDE, 3)),
    RNG.integers(40, 180, (*SIDE, 3)),
    RNG.choice([3, 100, 200], (*SIDE, 3)),
    np.full((*SIDE, 3), (10, 200, 90)),
  ]
).astype(np.uint8)


def affine(image, *matrix):
  return image.transform(image.size, Image.Transform.AFFINE, matrix, fillcolor=(128,) * 3)


def pillow(name: str, image: Image.Image, amount: float) -> Image.Image:
  factor = 1 + 0.9 * amount
  width, height = image.size
  return {
    'identity': lambda: image,
    'autocontrast': lambda: ImageOps.autocontrast(image),
    'equalize': lambda: ImageOps.equalize(image),
    'rotate': lambda: image.rotate(30 * amount, fillcolor=(128,) * 3),
    'solarize': lambda: ImageOps.solarize(image, 256 - int(256 * abs(amount))),
    'color': lambda: ImageEnhance.Color(image).enhance(factor),
    'posterize': lambda: ImageOps.posterize(image, 8 - int(4 * abs(amount))),
    'contrast': lambda: ImageEnhance.Contrast(image).enhance(factor),
    'brightness': lambda: ImageEnhance.Brightness(image).enhance(factor),
    'sharpness': lambda: ImageEnhance.Sharpness(image).enhance(factor),
    'shear_x': lambda: affine(image, 1, 0.3 * amount, 0, 0, 1, 0),
    'shear_y': lambda: affine(image, 1, 0, 0, 0.3 * amount, 1, 0),
    'translate_x': lambda: affine(image, 1, 0, 0.45 * amount * width, 0, 1, 0),
    'translate_y': lambda: affine(image, 1, 0, 0, 0, 1, 0.45 * amount * height),
  }[name]()


def column(values, dtype):
  return tf.reshape(tf.constant(values, dtype), (-1, 1, 1, 1))


def apply(name: str, amount: float, batch=IMAGES) -> np.ndarray:
  count = len(batch)
  op = column([rand_augment.OPS.index(name)] * count, tf.int32)
  return rand_augment.apply(tf.constant(batch), op, column([amount] * count, tf.float32)).numpy()


@pytest.mark.parametrize('amount', [0.9, -0.9, 0.3, 1.0])
@pytest.mark.parametrize('name', rand_augment.OPS)
def test_equals_pillow(name, amount):
  got = apply(name, amount)
  assert got.dtype == np.uint8
  for pixels, result in zip(IMAGES, got, strict=True):
    expected = np.asarray(pillow(name, Image.fromarray(pixels), amount)).astype(int)
    difference = np.abs(result.astype(int) - expected)
    # Rounding: a level of a colour, or the next pixel where a warp ends between two.
    tolerance = 255 if name in rand_augment._GEOMETRY else 1
    assert difference.max() <= tolerance
    assert np.mean(difference > 0) < 0.02, name


def test_the_largest_magnitude_is_taken():
  for name in rand_augment.OPS:
    for amount in (3.0, -3.0):
      assert apply(name, amount).shape == IMAGES.shape


def seeds(count, start=0):
  return tf.stack([tf.range(start, start + count), tf.fill([count], 3)], axis=1)


def test_every_image_has_its_own_operation_by_its_own_seed():
  count = 400
  batch = tf.constant(np.repeat(IMAGES[1:2], count, 0))
  one = rand_augment.rand_augment(batch, seeds(count), 1, 9.0).numpy()
  again = rand_augment.rand_augment(batch[40:140], seeds(100, 40), 1, 9.0).numpy()
  np.testing.assert_array_equal(one[40:140], again)  # wherever it stands in a batch
  different = {pixels.tobytes() for pixels in one}
  directed = 9  # operations that have a direction: the others look the same either way
  assert len(different) == len(rand_augment.OPS) + directed
  unchanged = np.mean([np.array_equal(pixels, IMAGES[1]) for pixels in one])
  assert 0.04 < unchanged < 0.1  # identity, 1 of 14
  two = rand_augment.rand_augment(batch, seeds(count), 2, 9.0).numpy()
  assert len({pixels.tobytes() for pixels in two}) > 60


def test_grey_is_each_channel_of_its_three():
  grey = tf.constant(IMAGES[..., :1])
  for name in rand_augment.OPS:
    np.testing.assert_array_equal(
      np.repeat(apply(name, 0.9, grey), 3, axis=3), apply(name, 0.9, tf.repeat(grey, 3, axis=3))
    )


def test_compiles():
  function = tf.function(rand_augment.rand_augment, jit_compile=True, autograph=False)
  batch, own = tf.constant(IMAGES), seeds(len(IMAGES))
  np.testing.assert_array_equal(
    function(batch, own, 2, 9.0), rand_augment.rand_augment(batch, own, 2, 9.0)
  )
