import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import conversion, digits

pytest.importorskip('sklearn', reason='extra demo')


def test_digits_split_is_fixed_and_stratified():
  plan = digits.make_plan(None, conversion.Options())
  train, validation = plan.splits['train'], plan.splits['validation']
  assert (len(train), len(validation)) == (1437, 360)
  assert {item.filename for item in train}.isdisjoint(item.filename for item in validation)
  counts = np.bincount([item.label for item in validation])
  assert counts.min() >= 34 and counts.max() <= 38
  assert digits.make_plan(None, conversion.Options()) == plan
  other = digits.make_plan(None, conversion.Options(seed=1))
  assert other.splits['validation'] != validation


def test_digits_are_the_real_ones_enlarged():
  from sklearn.datasets import load_digits

  bundled = load_digits()
  for item in digits.make_plan(None, conversion.Options()).splits['validation'][:20]:
    index = int(item.filename[6:10])
    assert item.label == bundled.target[index]
    image = tf.io.decode_jpeg(item.source.read())
    assert image.shape == (96, 96, 3)
    small = tf.image.resize(image, [8, 8], 'area').numpy().mean(axis=-1)
    assert np.corrcoef(small.ravel(), bundled.images[index].ravel())[0, 1] > 0.97


def test_digits_refuse_what_has_no_meaning():
  with pytest.raises(ValueError, match='leave out --source'):
    digits.make_plan('somewhere', conversion.Options())
  with pytest.raises(ValueError, match='leave out --validation_fraction'):
    digits.make_plan(None, conversion.Options(validation_fraction=0.5))
