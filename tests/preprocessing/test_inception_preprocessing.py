"""Every function runs eagerly and in a graph: the two have been known to differ."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.preprocessing import inception_preprocessing as inception
from slim_inception.preprocessing import preprocessing_factory, values
from slim_inception.preprocessing.sampling import uniform

from tests.datasets import odd_images

INCEPTION = preprocessing_factory.get('inception')
PLAIN = inception.Distortion()
FULL = inception.Distortion(fast_mode=False)
NO_BOXES = np.zeros([0, 4], np.float32)
RNG = np.random.default_rng(0)
# Smooth, so that JPEG is nearly exact; height and width differ, to catch their exchange.
PIXELS = np.stack(
  [
    np.linspace(0, 255, 90)[:, None] * np.ones([1, 120]),
    np.linspace(0, 255, 120) * np.ones([90, 1]),
    np.full([90, 120], 100),
  ],
  axis=-1,
).astype(np.uint8)


encode = functools.partial(odd_images.encode, pixels=PIXELS)


def seeds(count, start=0):
  return np.stack([np.arange(start, start + count), np.full(count, 11)], axis=1).astype(np.int32)


def in_graph(function, *arguments):
  """Runs a function of tensors in tf.data, where shapes and values are unknown beforehand."""
  dataset = tf.data.Dataset.from_tensors(arguments).map(lambda *a: function(*a))
  return next(iter(dataset)).numpy()


# Kernels of TensorFlow 1, in NumPy


def tf1_bilinear(image, height, width):
  """Corners aligned with nothing: output pixel i samples at i * in / out."""
  image = image.astype(np.float64)
  rows = np.arange(height) * (image.shape[0] / height)
  columns = np.arange(width) * (image.shape[1] / width)
  top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
  bottom = np.minimum(top + 1, image.shape[0] - 1)
  right = np.minimum(left + 1, image.shape[1] - 1)
  y, x = (rows - top)[:, None, None], (columns - left)[None, :, None]
  upper = image[top][:, left] * (1 - x) + image[top][:, right] * x
  lower = image[bottom][:, left] * (1 - x) + image[bottom][:, right] * x
  return upper * (1 - y) + lower * y


# Evaluation


def test_eval_is_slims_arithmetic():
  encoded = encode('PNG')
  top, left = int((90 - 90 * 0.875) / 2), int((120 - 120 * 0.875) / 2)
  crop = PIXELS[top : 90 - top, left : 120 - left]
  expected = (tf1_bilinear(crop / 255, 47, 53) - 0.5) * 2
  for got in (
    INCEPTION.eval_image(encoded, 47, 53),
    in_graph(lambda e: INCEPTION.eval_image(e, 47, 53), encoded),
    inception.preprocess_image(PIXELS, 47, 53),
    inception.preprocess_image((PIXELS / 255).astype(np.float32), 47, 53),
  ):
    np.testing.assert_allclose(got, expected, atol=2e-6)


def test_eval_without_crop_or_resize():
  got = INCEPTION.eval_view(PIXELS, 90, 120, 1.0)
  np.testing.assert_allclose(got, PIXELS / 127.5 - 1, atol=1e-6)
  assert inception.preprocess_image(PIXELS, None, None).shape == (80, 106, 3)


# Host half


def test_crop_of_jpeg_and_png_is_the_same_window():
  """JPEGs are cropped while decoding, others afterwards."""
  for seed in seeds(5):
    jpeg, png = (
      inception.train_host(e, 40, 50, NO_BOXES, seed, PLAIN).numpy().astype(int)
      for e in (encode('JPEG', quality=100, subsampling=0), encode('PNG'))
    )
    assert np.abs(jpeg - png).max() <= 8
    assert np.abs(jpeg - png).mean() < 2


@pytest.mark.parametrize('distortion', [PLAIN, FULL])
@pytest.mark.parametrize(
  'encoded',
  [
    encode('JPEG'),
    encode('PNG'),
    encode('GIF'),
    encode('BMP'),
    encode('JPEG', mode='L'),
    encode('JPEG', mode='CMYK'),
    encode('PNG', mode='RGBA'),
    encode('PNG', mode='P'),
  ],
  ids=['jpeg', 'png', 'gif', 'bmp', 'grey jpeg', 'cmyk jpeg', 'rgba png', 'palette png'],
)
def test_host_half_eagerly_and_in_tf_data(encoded, distortion):
  seed = seeds(1)[0]
  eager = inception.train_host(encoded, 40, 50, NO_BOXES, seed, distortion)
  assert (eager.dtype, eager.shape) == (tf.uint8, (40, 50, 3))
  graph = in_graph(
    lambda e, b, s: inception.train_host(e, 40, 50, b, s, distortion), encoded, NO_BOXES, seed
  )
  np.testing.assert_array_equal(eager, graph)


def windows(bbox, distortion, count=200):
  """Crop windows [top, left, height, width] of a 90 x 120 image."""
  draw = tf.function(lambda s: inception._crop_window([90, 120, 3], bbox, s, distortion))
  return np.stack([draw(seed) for seed in tf.constant(seeds(count))])


def test_crops_keep_to_their_ranges():
  top, left, height, width = windows(tf.constant(NO_BOXES), PLAIN).T
  assert np.all(top >= 0) and np.all(left >= 0)
  assert np.all(top + height <= 90) and np.all(left + width <= 120)
  area = height * width / (90 * 120)
  assert 0.04 < area.min() < 0.2 and 0.75 < area.max() <= 1  # small ones are rare
  aspect = width / height
  assert 0.7 < aspect.min() < 0.8 and 1.25 < aspect.max() < 1.4
  assert len(set(zip(top, left, height, width, strict=True))) > 190


def test_crops_show_the_object():
  bbox = np.float32([[0.5, 0.5, 1.0, 1.0]])
  distortion = inception.Distortion(min_object_covered=0.3, area_range=(0.05, 0.3))

  def covered(boxes):
    top, left, height, width = windows(tf.constant(boxes), distortion).T
    rows, columns = np.clip(top + height - 45, 0, 45), np.clip(left + width - 60, 0, 60)
    return np.minimum(rows, height) * np.minimum(columns, width) / (45 * 60)

  assert covered(bbox).min() > 0.28
  assert covered(NO_BOXES).min() < 0.1


def test_all_four_resize_methods_are_drawn():
  whole = inception.Distortion(
    aspect_ratio_range=(4 / 3, 4 / 3), area_range=(1.0, 1.0), fast_mode=False
  )
  noise = RNG.integers(0, 256, [90, 120, 3]).astype(np.uint8)
  encoded = encode('PNG', pixels=noise)
  drawn = {
    inception.train_host(encoded, 31, 37, NO_BOXES, seed, whole).numpy().tobytes()
    for seed in seeds(40)
  }
  methods = tf.compat.v1.image.ResizeMethod
  expected = {
    tf.saturate_cast(
      tf.round(tf.cast(tf.compat.v1.image.resize(noise, [31, 37], method), tf.float32)), tf.uint8
    )
    .numpy()
    .tobytes()
    for method in (methods.BILINEAR, methods.NEAREST_NEIGHBOR, methods.BICUBIC, methods.AREA)
  }
  assert len(expected) == 4
  assert drawn == expected


# Device half


def batch(count):
  return RNG.integers(0, 256, [count, 12, 10, 3]).astype(np.uint8)


@pytest.mark.parametrize('distortion', [PLAIN, FULL])
def test_an_image_depends_on_its_own_seed_alone(distortion):
  images, chosen = batch(6), seeds(6)
  together = inception.train_device(images, chosen, distortion).numpy()
  reverse = inception.train_device(images[::-1], chosen[::-1], distortion).numpy()[::-1]
  alone = np.concatenate(
    [inception.train_device(images[i : i + 1], chosen[i : i + 1], distortion) for i in range(6)]
  )
  graph = in_graph(lambda x, s: inception.train_device(x, s, distortion), images, chosen)
  for other in (reverse, alone, graph):
    np.testing.assert_allclose(together, other, atol=1e-5)
  assert together.min() >= -1 and together.max() <= 1
  different = inception.train_device(images, seeds(6, start=100), distortion)
  assert np.abs(different - together).max() > 0.1


def test_half_of_the_images_are_mirrored():
  images = np.repeat(batch(1), 400, axis=0)
  flat = images[0] / 127.5 - 1
  got = inception.train_device(images, seeds(400), inception.Distortion(color=False)).numpy()
  mirrored = np.array([np.allclose(image, flat[:, ::-1], atol=1e-6) for image in got])
  straight = np.array([np.allclose(image, flat, atol=1e-6) for image in got])
  assert np.all(mirrored ^ straight)
  assert 160 < mirrored.sum() < 240


def drawn_steps(chosen):
  """Slim's four colour steps as functions of one image and its place, from tf.image."""

  def factors(draw, low, high):
    return uniform(chosen, draw, low, high).numpy().ravel()

  brightness = factors(inception._BRIGHTNESS, -32 / 255, 32 / 255)
  saturation = factors(inception._SATURATION, 0.5, 1.5)
  hue = factors(inception._HUE, -0.2, 0.2)
  contrast = factors(inception._CONTRAST, 0.5, 1.5)
  return {
    'b': lambda x, i: tf.image.adjust_brightness(x, brightness[i]),
    's': lambda x, i: tf.image.adjust_saturation(x, saturation[i]),
    'h': lambda x, i: tf.image.adjust_hue(x, hue[i]),
    'c': lambda x, i: tf.image.adjust_contrast(x, contrast[i]),
  }


def recoloured(image, i, steps, ordering):
  image = image.astype(np.float32) / 255
  for step in ordering:
    image = steps[step](image, i)
  return tf.clip_by_value(image, 0, 1) * 2 - 1


def test_fast_colour_is_brightness_then_saturation():
  images, chosen = batch(5), seeds(5)
  steps = drawn_steps(chosen)
  got = inception.train_device(images, chosen, inception.Distortion(random_flip=False))
  for i in range(5):
    np.testing.assert_allclose(got[i], recoloured(images[i], i, steps, 'bs'), atol=1e-5)


def test_full_colour_uses_slims_four_orderings():
  images, chosen = batch(40), seeds(40)
  steps = drawn_steps(chosen)
  distortion = inception.Distortion(random_flip=False, fast_mode=False)
  got = inception.train_device(images, chosen, distortion).numpy()
  orderings = ('bshc', 'sbch', 'chbs', 'hscb')  # slim's 0 .. 3
  seen = [
    [o for o in orderings if np.allclose(got[i], recoloured(images[i], i, steps, o), atol=1e-4)]
    for i in range(40)
  ]
  assert all(seen), 'an image is the result of none of the orderings'
  assert set(itertools.chain(*seen)) == set(orderings)


def adjusted(adjust, images, amounts):
  """What a step on planes does to [N, H, W, 3], with an amount for each image."""
  amounts = tf.reshape(tf.constant(amounts, tf.float32), [-1, 1, 1])
  return tf.stack(adjust(tf.unstack(images, axis=-1), amounts), axis=-1)


@pytest.mark.parametrize(
  ('ours', 'reference', 'low', 'high'),
  [
    (inception.adjust_brightness, tf.image.adjust_brightness, -0.2, 0.2),
    (inception.adjust_saturation, tf.image.adjust_saturation, 0.5, 1.5),
    (inception.adjust_hue, tf.image.adjust_hue, -0.2, 0.2),
    (inception.adjust_contrast, tf.image.adjust_contrast, 0.5, 1.5),
  ],
)
def test_colour_steps_agree_with_tf_image(ours, reference, low, high):
  """Outside [0, 1] too: slim clips once, after the last step."""
  images = RNG.uniform(-0.3, 1.3, [6, 9, 7, 3]).astype(np.float32)
  images[:, 0, 0] = 0
  images[:, 0, 1] = [-0.1, -0.2, -0.1]
  images[:, 0, 2] = [0.5, 0.5, 0.2]
  factors = np.linspace(low, high, 6).astype(np.float32)
  expected = [reference(image, factor) for image, factor in zip(images, factors, strict=True)]
  np.testing.assert_allclose(adjusted(ours, images, factors), expected, atol=2e-6)


def test_draws_are_uniform_and_independent():
  chosen = np.stack([np.arange(40000) % 200, np.arange(40000) // 200], axis=1).astype(np.int32)
  draws = np.stack([uniform(chosen, draw).numpy().ravel() for draw in range(8)])
  assert draws.min() >= 0 and draws.max() < 1
  np.testing.assert_allclose(draws.mean(axis=1), 0.5, atol=0.01)
  np.testing.assert_allclose(draws.var(axis=1), 1 / 12, atol=0.002)
  successive = np.concatenate([draws, draws[:, ::-1], np.roll(draws, 1, axis=1)])
  assert np.abs(np.corrcoef(successive) - np.eye(24)).max() < 0.03
  negative = uniform(-chosen - 1, 0)  # seeds may be any int32
  assert abs(np.mean(negative) - 0.5) < 0.01


# Slim's entry


@pytest.mark.parametrize('fast_mode', [True, False])
def test_slims_entry_is_the_two_halves(fast_mode):
  seed = seeds(1)[0]
  bbox = np.float32([[0.1, 0.2, 0.8, 0.9]])
  distortion = inception.Distortion(fast_mode=fast_mode)
  halves = inception.train_device(
    inception.train_host(encode('PNG'), 40, 50, bbox, seed, distortion)[tf.newaxis],
    seed[np.newaxis],
    distortion,
  )[0]
  for boxes in (bbox, bbox[np.newaxis]):  # slim has a leading dimension
    got = inception.preprocess_image(
      PIXELS, 40, 50, is_training=True, bbox=boxes, fast_mode=fast_mode, seed=seed
    )
    np.testing.assert_allclose(got, halves, atol=1e-6)
  graph = in_graph(
    lambda i: inception.preprocess_image(i, 40, 50, True, bbox, fast_mode, seed), PIXELS
  )
  np.testing.assert_allclose(graph, halves, atol=1e-5)


def test_without_a_seed_every_call_differs():
  get = preprocessing_factory.get_preprocessing('inception_v4', is_training=True)
  first, second = (get(PIXELS, 20, 30) for _ in range(2))
  assert first.shape == (20, 30, 3)
  assert np.abs(first - second).max() > 0.01
  whole = get(PIXELS, 90, 120, crop_image=False)
  assert whole.shape == (90, 120, 3)


def test_slims_entry_in_a_graph_of_tensorflow_1():
  seed = seeds(1)[0]
  expected = inception.preprocess_image(PIXELS, 40, 50, is_training=True, seed=seed)
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    image = tf.compat.v1.placeholder(tf.uint8, [None, None, 3])
    got = inception.preprocess_image(image, 40, 50, is_training=True, seed=seed)
    assert got.shape == (40, 50, 3)
    np.testing.assert_allclose(session.run(got, {image: PIXELS}), expected, atol=1e-5)


# One channel


def test_grey_of_colours_is_pillows():
  expected = np.asarray(Image.fromarray(PIXELS).convert('L'))[..., np.newaxis]
  for file_format in ('PNG', 'BMP'):
    got = in_graph(lambda e: inception.decode(e, channels=1), encode(file_format))
    np.testing.assert_array_equal(got, expected)
  jpeg = inception.decode(encode('JPEG', quality=100, subsampling=0), channels=1).numpy()
  assert np.abs(jpeg.astype(int) - expected).max() <= 2
  assert inception.decode(encode('GIF'), channels=1).shape == (90, 120, 1)


@pytest.mark.parametrize('distortion', [PLAIN, FULL])
@pytest.mark.parametrize('file_format', ['JPEG', 'PNG'])
def test_a_grey_image_is_each_channel_of_its_three(distortion, file_format):
  """Crop, resizing, flips and what of the colours grey has: one channel sees what three see."""
  encoded = encode(file_format, mode='L')
  batches = {
    channels: np.stack(
      [
        inception.train_host(encoded, 40, 50, NO_BOXES, seed, distortion, channels)
        for seed in seeds(12)
      ]
    )
    for channels in values.CHANNELS
  }
  assert batches[1].shape == (12, 40, 50, 1)
  np.testing.assert_array_equal(np.repeat(batches[1], 3, axis=3), batches[3])
  one, three = (
    inception.train_device(batches[channels], seeds(12), distortion).numpy()
    for channels in values.CHANNELS
  )
  np.testing.assert_allclose(np.repeat(one, 3, axis=3), three, atol=1e-5)
  plain = batches[1] / 127.5 - 1
  assert np.abs(np.sort(one, axis=2) - np.sort(plain, axis=2)).max() > 0.05  # not flips alone
