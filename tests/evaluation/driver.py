"""The evaluation script with the net of test size: what tests start as processes of their own."""

import quiet_tensorflow  # noqa: F401  before what imports TensorFlow
from tests import tiny

tiny.register()  # before the flags list their choices

import eval_image_classifier  # noqa: E402

if __name__ == '__main__':
  eval_image_classifier.console()
