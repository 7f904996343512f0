"""`slim-inception eval`, by the name that slim's script had."""

import sys

from slim_inception.cli import main

if __name__ == '__main__':
  main(['eval', *sys.argv[1:]])
