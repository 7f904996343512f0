"""`python -m slim_inception COMMAND`: the same as `slim-inception COMMAND`."""

from slim_inception.cli import main

if __name__ == '__main__':
  main()
