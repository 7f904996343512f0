"""Measures what evaluation and classification take beside the net's own time.

  python benchmarks/benchmark_classification.py [--num_images=1000] [--precision=bfloat16]

Photographs of 500 x 375 pixels are generated (`slim_inception/bench/photographs.py`), as files and
as records, and a net with random weights takes turns: on batches in memory, on the records as in
`slim-inception eval`, and on the files as in `slim-inception classify`. Each line has images/s, the
time over that of the net alone for as many images, the share of the time in which the net waited
for images, how many processors computed, and their time for an image. Importing, loading and the
first batches, which are traced, come before.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception import choices, kernels  # noqa: E402

kernels.choose()

import tensorflow as tf  # noqa: E402
from slim_inception.datasets import dataset_factory  # noqa: E402
from slim_inception.nets import nets_factory  # noqa: E402

from slim_inception.bench import photographs  # noqa: E402
from slim_inception.classify import config as classify_config  # noqa: E402
from slim_inception.classify import sources, stream  # noqa: E402
from slim_inception.cluster import make_strategy  # noqa: E402
from slim_inception.evaluate import examples  # noqa: E402
from slim_inception.evaluate.config import EnsembleRequest  # noqa: E402
from slim_inception.evaluate.predictor import Ensemble  # noqa: E402

_CLASSES = 1001
_DISTINCT = 128  # photographs; the others are copies
_WARM = 3  # batches before those that count


class Timed(NamedTuple):
  """Seconds of going through images, those in which the net computed, and of all processors."""

  seconds: float
  of_net: float
  of_processors: float


class Net:
  """An ensemble of one net, with a clock on its passes.

  Args:
    request: the net.
    dataset: whose labels it gives.

  Attributes:
    ensemble: the ensemble.
    seconds: in which the net has computed so far.
  """

  def __init__(self, request: EnsembleRequest, dataset: dataset_factory.Dataset):
    self.ensemble = Ensemble(request, dataset, make_strategy(1, False))
    self.ensemble.load([member.checkpoint_path for member in request.members])
    (self._scorer,) = self.ensemble.scorers
    self._score, self._scorer.score = self._scorer.score, self.score
    self.seconds = 0.0

  def score(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """That of the scorer; ends when the scores are there."""
    begin = time.perf_counter()
    scores = self._score(images)
    scores['scores'].numpy()
    self.seconds += time.perf_counter() - begin
    return scores

  def time(self, images: Iterable[Any]) -> Timed:
    """Goes through what the net gives of images."""
    of_net, of_processors, begin = self.seconds, time.process_time(), time.perf_counter()
    for _ in images:
      pass
    seconds = time.perf_counter() - begin
    return Timed(seconds, self.seconds - of_net, time.process_time() - of_processors)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model_name', default='inception_v3', help='This net computes.')
  parser.add_argument('--num_images', type=int, default=1000, help='So many photographs.')
  parser.add_argument('--batch_size', type=int, default=32, help='So many views a step.')
  parser.add_argument(
    '--precision', choices=choices.PRECISIONS, default='float32', help='Of the net.'
  )
  parser.add_argument('--num_rounds', type=int, default=3, help='So many turns of each.')
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    measure(Path(folder), flags)


def measure(folder: Path, flags: argparse.Namespace) -> None:
  """Makes photographs and a net in `folder`; prints a line for each way through the net."""
  count, batch_size = flags.num_images, flags.batch_size
  files = write_photographs(folder, count)
  nets_factory.create_model(flags.model_name, _CLASSES).save(folder / 'model.ckpt')
  request = classify_config.resolve(
    {
      'checkpoint_path': os.fspath(folder / 'model.ckpt'),
      'model_name': flags.model_name,
      'batch_size': batch_size,
      'precision': flags.precision,
    }
  ).ensemble
  dataset = dataset_factory.get_dataset('image_folder', 'train', os.fspath(folder))
  of_files = Net(request, dataset)
  # eval leaves the number of threads to tf.data.
  compute = dataclasses.replace(request.compute, num_preprocessing_threads=None)
  of_records = Net(dataclasses.replace(request, compute=compute), dataset)
  side = request.members[0].spec.image_size
  batch = tf.random.stateless_uniform([batch_size, side, side, 3], (0, 0), -1.0, 1.0)

  def classified(number: int) -> Iterable[Any]:
    return stream.through(
      files[:number],
      lambda records: of_files.ensemble.predict(records, task_size=1),
      of_files.ensemble.num_passes,
      request.compute.num_preprocessing_threads or 1,
    )

  ways: dict[str, tuple[Net, Callable[[int], Iterable[Any]]]] = {
    'net alone': (of_records, lambda n: (of_records.score(batch) for _ in range(n // batch_size))),
    'eval': (of_records, lambda n: of_records.ensemble.predict(examples.read(dataset, range(n)))),
    'classify': (of_files, classified),
  }
  for net, images in ways.values():
    net.time(images(_WARM * batch_size))
  rounds = [
    {name: net.time(images(count)) for name, (net, images) in ways.items()}
    for _ in range(flags.num_rounds)
  ]
  numbers = {name: count for name in ways} | {'net alone': count // batch_size * batch_size}
  for name, number in numbers.items():
    print(f'{name}: {describe(name, number, rounds, numbers)}')


def describe(
  name: str, number: int, rounds: list[dict[str, Timed]], numbers: dict[str, int]
) -> str:
  """The figures of a way; see above."""
  own = [each[name] for each in rounds]
  alone = [each['net alone'].seconds / numbers['net alone'] for each in rounds]
  ratios = [each.seconds / number / net for each, net in zip(own, alone, strict=True)]
  median = statistics.median
  return (
    f'{number / median(each.seconds for each in own):.1f} images/s, {median(ratios):.3f} '
    f'({min(ratios):.2f} to {max(ratios):.2f}) times as long as the net alone, which waits '
    f'{median(1 - each.of_net / each.seconds for each in own):.1%} of the time, '
    f'{median(each.of_processors / each.seconds for each in own):.2f} processors, '
    f'{1e3 * median(each.of_processors for each in own) / number:.1f} ms of them an image'
  )


def write_photographs(folder: Path, count: int) -> list[sources.Source]:
  """Writes photographs as records into `folder`, and as files beside them, which it returns."""
  distinct = min(_DISTINCT, count)
  photographs.write_records(folder, num_images=count, num_distinct=distinct)
  (folder / 'files').mkdir()
  paths = [folder / 'files' / f'{number}.jpg' for number in range(count)]
  for number, path in enumerate(paths):
    path.write_bytes(
      photographs.photograph(number) if number < distinct else paths[number % distinct].read_bytes()
    )
  return [sources.Source(path.name, path.read_bytes) for path in paths]


if __name__ == '__main__':
  main()
