"""Measures the heads of slim-inception probe on features of a few thousand images.

  python benchmarks/benchmark_probe.py [IMAGESxCLASSES ...]

Features are generated: classes are clouds in 256 dimensions whose variance falls, seen through a
random layer with ReLU, 2,048 numbers an image, as Inception-v3's. Heads are fitted by turns with
BLAS as the probe has it and with all of its threads. Prints seconds, and those of all processors.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, os.fspath(Path(__file__).parents[1]))

import numpy as np

from slim_inception.embed import linear, neighbors

_WIDTH, _LATENT, _ASKED = 2048, 256, 1000
_ROUNDS = 2


def measure(count: int, classes: int) -> None:
  """Prints the figures of so many images and classes."""
  features, labels = generate(count + _ASKED, classes)
  known, asked, labels_known = features[:count], features[count:], labels[:count]
  held_out = linear.folds_of(labels_known, 5) == 0
  size = f'{count} images, {classes} classes'

  def fit() -> linear.Fitted:
    return linear.fit_chosen(known, labels_known, classes, held_out)

  def vote() -> np.ndarray:
    return neighbors.probabilities(known, labels_known, asked, classes)

  for _ in range(_ROUNDS):
    fitted = report(f'{size}: linear', fit)
    with all_threads():
      report(f'{size}: linear, all threads', fit)
    votes = report(f'{size}: knn', vote)
  for name, probabilities in (('linear', fitted.head.probabilities(asked)), ('knn', votes)):
    right = np.mean(probabilities.argmax(-1) == labels[count:])
    print(f'{size}: {name} is right of {right:.1%} of {_ASKED} others')


def generate(count: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
  """Features [count, 2048] float32 and labels [count]."""
  rng = np.random.default_rng(0)
  deviations = np.arange(1, _LATENT + 1) ** -0.5
  centres = rng.normal(size=(classes, _LATENT)) * deviations
  labels = np.arange(count) % classes
  latent = centres[labels] + 1.3 * rng.normal(size=(count, _LATENT)) * deviations
  outputs = latent @ rng.normal(size=(_LATENT, _WIDTH)) - np.abs(rng.normal(size=_WIDTH))
  return np.maximum(outputs, 0).astype(np.float32), labels


@contextlib.contextmanager
def all_threads() -> Any:
  """Heads of any size are fitted by all threads of BLAS."""
  most, linear._MOST_OF_ONE_THREAD = linear._MOST_OF_ONE_THREAD, 0
  try:
    yield
  finally:
    linear._MOST_OF_ONE_THREAD = most


def report(name: str, run: Callable[[], Any]) -> Any:
  """What `run` gives, whose seconds are printed."""
  begin, processors = time.perf_counter(), time.process_time()
  result = run()
  seconds = time.perf_counter() - begin
  print(f'{name}: {seconds:.2f} s, {time.process_time() - processors:.2f} s of processors')
  return result


if __name__ == '__main__':
  for pair in sys.argv[1:] or ['2000x5', '4000x100']:
    measure(*map(int, pair.split('x')))
