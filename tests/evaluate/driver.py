"""`slim-inception eval` with the net of test size: what tests start as processes of their own."""

import sys

from slim_inception.cli import main
from tests import tiny

if __name__ == '__main__':
  tiny.register()  # before the flags list their choices
  main(['eval', *sys.argv[1:]])
