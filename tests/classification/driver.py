"""classify_image.py with the net of test size: what tests start as a process of its own."""

import quiet_tensorflow  # noqa: F401  before what imports TensorFlow
from tests import tiny

tiny.register()  # before the flags list their choices

import classify_image  # noqa: E402

if __name__ == '__main__':
  classify_image.console()
