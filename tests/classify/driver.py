"""`slim-inception classify` with the net of test size: started in processes of its own."""

import sys

from slim_inception.cli import main
from tests import tiny

if __name__ == '__main__':
  tiny.register()  # before the flags list their choices
  main(['classify', *sys.argv[1:]])
