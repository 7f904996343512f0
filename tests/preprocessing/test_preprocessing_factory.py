import numpy as np
import pytest
from slim_inception.preprocessing import inception_preprocessing, preprocessing_factory


@pytest.mark.parametrize('name', sorted(preprocessing_factory.PREPROCESSING))
def test_every_name_evaluates_as_inception(name):
  image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
  get = preprocessing_factory.get_preprocessing(name, is_training=False)
  np.testing.assert_array_equal(
    get(image, 5, 6), inception_preprocessing.preprocess_image(image, 5, 6)
  )
  assert preprocessing_factory.get(name).decode is inception_preprocessing.decode


def test_unknown_name_lists_the_valid_ones():
  with pytest.raises(ValueError, match="'vgg'; valid: inception, inception_v3, inception_v4"):
    preprocessing_factory.get_preprocessing('vgg', is_training=True)
