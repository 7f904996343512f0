"""labels.txt: the name of each output of a net, a line each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slim_inception.export.classifier import Outputs

FILE = 'labels.txt'


def write(folder: Path, names: Sequence[str]) -> None:
  """Writes the names; a line break in one becomes a space."""
  lines = [name.replace('\r', ' ').replace('\n', ' ') + '\n' for name in names]
  (folder / FILE).write_text(''.join(lines), 'utf-8', newline='')


def read(folder: Path) -> list[str]:
  """The names that `write` wrote."""
  return (folder / FILE).read_bytes().decode().split('\n')[:-1]


def name_outputs(folder: Path, probabilities: np.ndarray) -> Outputs:
  """The outputs with their names, for [n, classes] probabilities."""
  names = read(folder)
  return Outputs([names[i] for i in probabilities.argmax(-1)], probabilities, ranked=False)
