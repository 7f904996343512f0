"""Hashes, candidates and pixels, beside SciPy, all pairs and images that were changed."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from slim_inception.datasets.sources import Content, Unreadable

from slim_inception.bench import photographs
from slim_inception.doctor import facts, pairs, run


def encode(image, quality=90):
  file = io.BytesIO()
  image.save(file, 'JPEG', quality=quality)
  return file.getvalue()


@pytest.fixture(scope='module')
def photos():
  contents = [photographs.photograph(number, 180, 120) for number in range(12)]
  return [Image.open(io.BytesIO(content)) for content in contents]


def crop(image):
  width, height = image.size
  return image.crop((round(0.07 * width), 0, width, round(0.95 * height)))


CHANGES = {
  'recompressed': lambda image: encode(image, 30),
  'resized': lambda image: encode(image.resize((100, 70))),
  'cropped': lambda image: encode(crop(image)),
  'brightened': lambda image: encode(ImageEnhance.Brightness(image).enhance(1.3)),
  'mirrored': lambda image: encode(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
}


def gather(contents):
  return facts.gather([Content(content) for content in contents], 1)


def search(columns, least=0.95, mirror=False):
  thumbnails = columns['thumbnail']
  hashes = facts.perceptual_hashes(thumbnails)
  rows = pairs.unit_rows(hashes)
  others = pairs.unit_rows(facts.mirrored(hashes)) if mirror else rows
  candidates = pairs.nearest(rows, others, pairs.LEAST_HASH)
  return pairs.same_pixels(thumbnails, candidates, least, mirror)


@pytest.mark.parametrize('change', CHANGES)
def test_changed_images_and_no_others_are_pairs(photos, change):
  originals = [encode(photo) for photo in photos]
  changed = [CHANGES[change](photo) for photo in photos]
  columns = gather(originals + changed).columns
  pairs_of = search(columns, mirror=change == 'mirrored')
  expected = [(number, number + len(photos)) for number in range(len(photos))]
  assert [*zip(pairs_of.first.tolist(), pairs_of.second.tolist(), strict=True)] == expected
  assert (pairs_of.similarity >= 0.95).all()


def test_hashes_are_the_signs_of_the_cosine_transform(photos):
  fft = pytest.importorskip('scipy.fft', reason='extra demo')
  columns = gather([encode(photo) for photo in photos]).columns
  hashes = facts.perceptual_hashes(columns['thumbnail'])
  low = fft.dctn(columns['thumbnail'].astype(np.float64), axes=(1, 2))[:, :8, :8]
  np.testing.assert_array_equal(hashes, np.where(low.reshape(-1, 64)[:, 1:] >= 0, 1, -1))
  turned = fft.dctn(columns['thumbnail'][..., ::-1].astype(np.float64), axes=(1, 2))[:, :8, :8]
  expected = np.where(turned.reshape(-1, 64)[:, 1:] >= 0, 1, -1)
  np.testing.assert_array_equal(facts.mirrored(hashes), expected)


@pytest.mark.parametrize('most_of_each', [3, 1000])
def test_blocks_give_what_all_pairs_give(monkeypatch, most_of_each):
  monkeypatch.setattr(pairs, '_ROWS', 16)
  monkeypatch.setattr(pairs, '_COLUMNS', 48)
  rng = np.random.default_rng(0)
  rows, others = (pairs.unit_rows(rng.normal(size=(130, 6))) for _ in range(2))
  for right in (rows, others):
    blocks = [*pairs.nearest(rows, right, 0.5, most_of_each)]
    candidates = {
      pair for block in blocks for pair in zip(*(c.tolist() for c in block[:2]), strict=True)
    }
    assert sum(len(block.first) for block in blocks) == len(candidates)  # each once
    least = min(float(block.similarity.min()) for block in blocks if len(block.first))
    products = np.triu(rows @ right.T, 1)
    assert candidates == {*zip(*(c.tolist() for c in np.nonzero(products >= least)), strict=True)}
    if most_of_each == 1000:
      assert len(candidates) == np.count_nonzero(products >= 0.5)
    else:
      assert 0.5 * 130 < len(candidates) <= 2 * 130  # half of 3 a row, each once


def test_plain_images_are_like_nothing():
  plain = np.full((2, 32, 32), 90, np.uint8)
  assert pairs.correlation(plain, plain).tolist() == [0, 0]


def test_groups_are_what_pairs_connect():
  assert pairs.groups(8, np.array([5, 0, 3, 3]), np.array([6, 3, 4, 7])) == [[0, 3, 4, 7], [5, 6]]
  assert pairs.groups(3, np.array([], int), np.array([], int)) == []


def test_facts(photos):
  grey = Image.fromarray(np.full((40, 60), 77, np.uint8))
  content = encode(photos[0])
  cut = content[: len(content) // 2] + b'\xff\xd9'
  sources = [
    Content(content),
    Content(encode(grey)),
    Content(cut),
    Unreadable('gone'),
    Content(b''),
  ]
  measured = facts.gather(sources, 1)
  assert measured.errors == {3: 'gone', 4: 'empty file'}
  assert measured.readable.tolist() == [True, True, True, False, False]
  photo, plain, short, *_ = measured.columns
  assert (photo['width'], photo['height']) == (180, 120)
  pixels = np.asarray(Image.open(io.BytesIO(content)).convert('L'), np.float64)
  np.testing.assert_allclose([photo['mean'], photo['contrast']], [pixels.mean(), pixels.std()])
  laplace = np.zeros_like(pixels[1:-1, 1:-1])
  for weight, rows, columns in [(-4, 0, 0), (1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1)]:
    laplace += weight * np.roll(pixels, (rows, columns), (0, 1))[1:-1, 1:-1]
  np.testing.assert_allclose(photo['sharpness'], laplace.var() / pixels.var(), rtol=1e-5)
  assert photo['colourfulness'] > 10 and photo['cut'] == 0
  assert (plain['contrast'], plain['colourfulness'], plain['cut']) == (0, 0, 1)
  assert 0.3 < short['cut'] < 0.6


def test_many_copies_of_a_file_hide_no_near_duplicate():
  """They would be all the candidates that an image may have on average."""
  rng = np.random.default_rng(0)
  blocks = rng.integers(0, 255, (401, 8, 8))
  images = [np.kron(block, np.ones((4, 4))) for block in blocks]
  images += [np.clip(images[0] + rng.normal(0, 12, (32, 32)), 0, 255), *[images[400]] * 199]
  columns = np.zeros(len(images), facts.COLUMNS)
  columns['height'] = columns['width'] = 32
  columns['thumbnail'] = np.array(images).astype(np.uint8)
  columns['digest'] = [str(i if i <= 401 else 400).encode() for i in range(len(images))]
  same = run._alike(facts.Facts(columns, {}), None, 0.95)
  assert same.groups == [[0, 401], [400, *range(402, 601)]]
  assert same.how[400, 600] == (1.0, 'the same file')
