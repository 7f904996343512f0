"""Views against a reading of the papers in NumPy and Pillow."""

import dataclasses
import io
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.preprocessing import preprocessing_factory
from slim_inception.preprocessing.preprocessing_factory import INCEPTION, VGG

from slim_inception.evaluate import views
from slim_inception.evaluate.views import make_spec
from tests import pillow
from tests.datasets.odd_images import encode

SIZE = 24
SCALES = (27, 31, 34, 38)  # 256, 288, 320, 352 of 224
SHAPES = {
  'landscape': (40, 61),
  'portrait': (57, 40),
  'square': (35, 35),
  'smaller than every scale': (20, 26),
  'larger than every scale': (150, 200),
  'a line': (1, 300),
  'a column': (400, 3),
  'a tower': (230, 70),
}
SPECS = {
  '10': make_spec(INCEPTION, SIZE, '10', interpolation='bicubic'),
  '12': make_spec(INCEPTION, SIZE, '12', crop_scales=(30,)),
  '144': make_spec(INCEPTION, SIZE, '144'),
}


def noise(*shape):
  return np.random.default_rng(sum(shape)).integers(0, 256, [*shape, 3]).astype(np.uint8)


# GoogLeNet, section 7; and what is cut out of the resized photo, counted from its middle


def resized(photo, scale, interpolation):
  width, height = photo.size
  longer = int(scale * max(width, height) / min(width, height))
  size = (longer, scale) if width > height else (scale, longer)
  return pillow.resize(photo, size, interpolation)


def centered(photo, width, height):
  left = round((photo.width - width) / 2)
  top = round((photo.height - height) / 2)
  return photo.crop((left, top, left + width, top + height))


def squares_of(photo):
  """Left, centre, right; top, centre, bottom."""
  side = min(photo.size)
  yield photo.crop((0, 0, side, side))
  yield centered(photo, side, side)
  right, bottom = photo.size
  yield photo.crop((right - side, bottom - side, right, bottom))


def six_of(square, interpolation):
  far = square.width - SIZE
  for left, top in [(0, 0), (far, 0), (0, far), (far, far)]:
    yield square.crop((left, top, left + SIZE, top + SIZE))
  yield centered(square, SIZE, SIZE)
  yield pillow.resize(square, (SIZE, SIZE), interpolation)


def expected_views(image, crops):
  photo, found = Image.fromarray(image), []
  scales = {'10': (27,), '12': (30,), '144': SCALES}[crops]
  interpolation = 'bicubic' if crops == '10' else 'bilinear'
  for scale in scales:
    squares = list(squares_of(resized(photo, scale, interpolation)))
    for square in squares if crops == '144' else squares[1:2]:
      six = list(six_of(square, interpolation))
      found += six[:5] if crops == '10' else six
  found = np.stack([np.asarray(view) for view in found])
  return np.concatenate([found, found[:, :, ::-1]])


def decode(index, encoded):
  return {'image': INCEPTION.decode(encoded), 'record_index': index}


def stream(photos, spec, batch_size, **kwargs):
  files = [p if isinstance(p, bytes) else encode('PNG', pixels=p) for p in photos]
  records = tf.data.Dataset.from_tensor_slices(files).enumerate()
  return views.view_stream(records, decode, spec, batch_size, **kwargs)


@pytest.mark.parametrize('crops', ['1', '12', 'dense'])
def test_no_tuner_keeps_a_pass_from_ending(crops):
  views_of = stream([b''], make_spec(INCEPTION, 24, crops), 4)
  assert views_of.options().autotune.enabled is False


def ordered(photos):
  return sorted(photo.tobytes() for photo in photos)


@pytest.mark.parametrize('crops', SPECS)
def test_views_are_those_of_the_papers(crops):
  photos = [noise(*shape) for shape in SHAPES.values()]
  spec = SPECS[crops]
  batches = list(stream(photos, spec, 50).as_numpy_iterator())
  found = np.concatenate([batch['image'] for batch in batches])
  indices = np.concatenate([batch['record_index'] for batch in batches])
  assert found.dtype == np.uint8
  assert spec.num_views == int(crops)
  np.testing.assert_array_equal(indices, np.repeat(np.arange(len(photos)), spec.num_views))
  assert [len(batch['image']) for batch in batches[:-1]] == [50] * (len(batches) - 1)
  for name, photo, views_of_it in zip(SHAPES, photos, np.split(found, len(photos)), strict=True):
    assert ordered(views_of_it) == ordered(expected_views(photo, crops)), name


def test_aspect_keeps_the_aspect_ratio():
  spec = make_spec(INCEPTION, SIZE, resize='aspect', interpolation='bicubic', crop_fraction=0.8)
  photos = [noise(*shape) for shape in SHAPES.values()]
  found = next(stream(photos, spec, 100).as_numpy_iterator())['image']
  for name, photo, view in zip(SHAPES, photos, found, strict=True):
    expected = centered(resized(Image.fromarray(photo), 30, 'bicubic'), SIZE, SIZE)
    np.testing.assert_array_equal(view, expected, err_msg=name)


@pytest.mark.parametrize('options', [{}, {'subsampling': 2, 'quality': 80}, {'progressive': True}])
def test_jpegs_are_decoded_as_slim_does_for_slims_view_and_as_pillow_for_others(options):
  encoded = encode('JPEG', pixels=noise(90, 120), **options)
  with Image.open(io.BytesIO(encoded)) as image:
    shown = np.asarray(image)
  with Image.open(io.BytesIO(encoded)) as image:
    image.draft('L', image.size)
    grey = np.asarray(image)[..., np.newaxis]
  slims = make_spec(INCEPTION, 40).decode(encoded).numpy()
  np.testing.assert_array_equal(slims, tf.io.decode_image(encoded, channels=3))
  assert -1 < slims.astype(float).mean() - shown.mean() < -0.5  # the fast decoder's
  for crops, resize in (('1', 'aspect'), ('12', None), ('dense', None)):
    spec = make_spec(INCEPTION, 40, crops, resize)
    np.testing.assert_array_equal(spec.decode(encoded), shown)
    grey_spec = dataclasses.replace(spec, preprocessing=preprocessing_factory.get('inception', 1))
    np.testing.assert_array_equal(grey_spec.decode(encoded), grey)


@pytest.mark.parametrize('preprocessing', [INCEPTION, VGG], ids=lambda way: way.name)
def test_slims_view_is_the_same_to_the_bit(preprocessing):
  files = [encode('PNG', pixels=noise(*shape)) for shape in SHAPES.values()]
  found = next(stream(files, make_spec(preprocessing, SIZE), 100).as_numpy_iterator())['image']
  for file, view in zip(files, found, strict=True):
    np.testing.assert_array_equal(view, preprocessing.eval_image(file, SIZE, SIZE))


def test_dense_is_the_whole_image_unless_it_is_a_line():
  spec = make_spec(INCEPTION, SIZE, 'dense')
  photos = [noise(*shape) for shape in SHAPES.values()]
  found = [b['image'] for b in stream(photos, spec, 7).as_numpy_iterator()]
  for name, photo, view in zip(SHAPES, photos, found, strict=True):
    whole = resized(Image.fromarray(photo), 27, 'bilinear')
    most = 27 * views.MAX_DENSE_ASPECT
    expected = centered(whole, min(whole.width, most), min(whole.height, most))
    np.testing.assert_array_equal(view, np.asarray(expected)[np.newaxis], err_msg=name)
  assert max(view.size for view in found) == 27 * 27 * views.MAX_DENSE_ASPECT * 3


@pytest.mark.parametrize('crops', ['1', '10'])
def test_broken_images_are_missing_and_the_order_stays(crops):
  files = [noise(8, 8 + i) for i in range(40)]
  broken = (0, 1, 7, 16, 39)
  for i in broken:
    files[i] = b'no photo'
  spec = make_spec(INCEPTION, 4, crops)
  batches = stream(files, spec, 30, num_threads=3)
  indices = np.concatenate([batch['record_index'] for batch in batches])
  kept = [i for i in range(40) if i not in broken]
  np.testing.assert_array_equal(indices, np.repeat(kept, spec.num_views))


def test_a_image_is_decoded_once_and_its_views_are_made_a_square_at_a_time(monkeypatch):
  decoded, made = [], []

  def counting(index):
    note = tf.py_function(lambda n: decoded.append(int(n)), [index], [])
    with tf.control_dependencies([note]):
      return {'image': tf.zeros([30, 40, 3], tf.uint8), 'record_index': tf.identity(index)}

  def square_views(image, spec, scale, position):
    note = tf.py_function(lambda *square: made.append(square), [scale, position], [])
    with tf.control_dependencies([note]):
      return tf.zeros([12, 24, 24, 3], tf.uint8)

  monkeypatch.setattr(views, 'square_views', square_views)
  photos = tf.data.Dataset.range(9)
  found = iter(
    views.view_stream(photos, counting, make_spec(INCEPTION, 24, '144'), 12, num_threads=1)
  )
  assert len(next(found)['image']) == 12
  time.sleep(0.5)  # what runs ahead has time to
  first = len(made)
  assert sum(1 for _ in found) == 9 * 12 - 1
  assert sorted(decoded) == list(range(9))
  assert len(made) == 9 * 12
  assert first < 12


@pytest.mark.parametrize('shape', [(1, 60000), (60000, 3)])
def test_an_extreme_image_is_cut_before_it_is_resized(shape):
  photo = noise(*shape)
  spec = make_spec(INCEPTION, 75, '12', crop_scales=(86,))
  found = views.square_views(photo, spec, tf.constant(86), tf.constant(0.5, tf.float64))
  near = slice(29985, 30015)
  near = photo[near] if shape[0] > 1 else photo[:, near]
  square = centered(resized(Image.fromarray(near), 86, 'bilinear'), 86, 86)
  np.testing.assert_array_equal(found[4], centered(square, 75, 75))


def test_default_scales_keep_googlenets_ratio():
  assert views.default_scales(224, '144') == (256, 288, 320, 352)
  assert views.default_scales(299, '144') == (342, 384, 427, 470)
  assert views.default_scales(299, '12') == views.default_scales(299, 'dense') == (342,)


def test_to_float_is_slims_scaling():
  values = np.arange(256, dtype=np.uint8)
  spec = make_spec(INCEPTION, SIZE)
  scaled = views.to_float(tf.constant(values), spec)
  np.testing.assert_allclose(scaled, (values / 255 - 0.5) * 2, atol=1e-7)
  same = tf.constant([-1.0, 0.3])
  np.testing.assert_array_equal(views.to_float(same, spec), same)
  assert views.to_float(same, spec, tf.bfloat16).dtype == tf.bfloat16


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'interpolation': 'bicubic'}, '--interpolation=bicubic is for --resize=aspect'),
    ({'crops': '12', 'resize': 'slim'}, '--resize=slim is for --crops=1; --crops=12 takes aspect'),
    ({'crop_scales': (342,)}, '--crop_scales is not for --crops=1, which has --crop_fraction'),
    ({'crops': '144', 'crop_scales': (342,)}, '--crop_scales=342: --crops=144 takes 4, not 1'),
    (
      {'crops': '10', 'crop_scales': (298,)},
      '--crop_scales=298: a shorter side must have the 299 pixels of a view',
    ),
    ({'crops': 'dense', 'crop_fraction': 0.5}, '--crop_fraction is for --crops=1'),
  ],
)
def test_impossible_values_name_the_flag(values, message):
  with pytest.raises(ValueError, match=message):
    make_spec(INCEPTION, **{'image_size': 299, **values})
