"""`slim-inception classify` with the net of test size: started in processes of their own."""

import sys

from slim_inception.cli import main, quiet

if __name__ == '__main__':
  quiet.import_tensorflow()
  from tests import tiny

  tiny.register()  # before the flags list their choices
  main(['classify', *sys.argv[1:]])
