"""Measures how fast images become records, compared with `cp -r`, and what the index costs.

  python benchmarks/benchmark_conversion.py --folder=DIR [--images=40000] [--rounds=3]
  python benchmarks/benchmark_conversion.py --folder=DIR --index [--images=1281167]

The first form writes JPEGs of about 110 kB into synset folders. Each round copies them with
`cp -r`, without and with a sync at the end, and converts them with the command that users type. It
also does the least that any converter has to do, in as many processes: a bare loop over shuffled
images that reads them, computes their CRC and writes them to files as large as shards. Each starts
from the page cache, after a sync. The time to start and end the conversion is measured with 100
images.

The second form writes a training archive with that many tiny images, and measures the time and the
memory of converting it.
"""

import io
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import google_crc32c
from absl import app, flags
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.datasets import imagenet  # noqa: E402

from slim_inception.bench import photographs  # noqa: E402

_CLASSES = 100
_DISTINCT = 100  # images that are generated; the files are copies of these
_PER_SHARD = 1251  # as many as ImageNet has

FLAGS = flags.FLAGS


def define_flags() -> None:
  flags.DEFINE_string(
    'folder',
    None,
    'Folder for the images and records, about 3 x 110 kB for each image.',
    required=True,
  )
  flags.DEFINE_integer(
    'images',
    None,
    'Number of images; by default 40,000, or 1,281,167 with --index.',
    lower_bound=1000,
  )
  flags.DEFINE_integer('rounds', 3, 'How often each is measured.', lower_bound=1)
  flags.DEFINE_integer('num_processes', 2, 'Processes of the conversion.', lower_bound=1)
  flags.DEFINE_bool('index', False, 'Measure the index of a training archive.')


def write_images(folder: Path, count: int) -> float:
  """Writes `train/<wnid>/*.JPEG`; returns the mean size in bytes."""
  wnids = list(imagenet.synsets())[:_CLASSES]
  contents = [photographs.photograph(number) for number in range(_DISTINCT)]
  for wnid in wnids:
    (folder / 'train' / wnid).mkdir(parents=True)
  for number in range(count):
    wnid = wnids[number % _CLASSES]
    path = folder / 'train' / wnid / f'{wnid}_{number}.JPEG'
    path.write_bytes(contents[number // _CLASSES % _DISTINCT])
  return statistics.mean(map(len, contents))


def timed(run: Callable[[], None], target: Path) -> float:
  """Seconds of what writes `target`, which is removed afterwards."""
  subprocess.run(['sync'], check=True)
  start = time.perf_counter()
  run()
  seconds = time.perf_counter() - start
  shutil.rmtree(target)
  return seconds


def quietly(*command: str | Path) -> None:
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def convert(source: Path, target: Path) -> None:
  images = len(list(source.glob('train/*/*')))
  quietly(
    sys.executable, '-m', 'slim_inception', 'data', '--dataset_name=imagenet',
    f'--source={source}', f'--dataset_dir={target}', f'--num_processes={FLAGS.num_processes}',
    f'--train_shards={max(2, images // _PER_SHARD)}',
  )  # fmt: skip


def bare_loop(paths: list[Path], target: Path) -> None:
  """Reads, sums and writes the images by as many processes as the conversion has."""
  target.mkdir()
  fork = multiprocessing.get_context('fork')
  shares = [paths[index :: FLAGS.num_processes] for index in range(FLAGS.num_processes)]
  processes = [
    fork.Process(target=bare_share, args=(share, f'{target}/{index}'))
    for index, share in enumerate(shares)
  ]
  for process in processes:
    process.start()
  for process in processes:
    process.join()
    if process.exitcode:
      raise OSError(f'a process of the bare loop ended with {process.exitcode}')


def bare_share(paths: list[Path], target: str) -> None:
  for first in range(0, len(paths), _PER_SHARD):
    with open(f'{target}-{first}', 'wb', buffering=0) as shard:
      for path in paths[first : first + _PER_SHARD]:
        descriptor = os.open(path, os.O_RDONLY)
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        os.close(descriptor)
        google_crc32c.value(content)
        shard.write(content)
      os.fsync(shard.fileno())


def benchmark_rate(folder: Path) -> None:
  source = folder / 'images'
  size = write_images(source, FLAGS.images)
  print(f'{FLAGS.images} images of {size / 1e3:.1f} kB on average', flush=True)
  few = folder / 'few'
  write_images(few, _CLASSES)
  paths = list(source.glob('train/*/*'))
  random.Random(0).shuffle(paths)
  target = folder / 'target'
  runs: dict[str, Callable[[], None]] = {
    'cp -r': lambda: quietly('cp', '-r', source, target),
    # The conversion leaves nothing unwritten; this does the same for the copy.
    'cp -r, sync': lambda: quietly('sh', '-c', f"cp -r '{source}' '{target}' && sync"),
    'convert': lambda: convert(source, target),
    'bare loop': lambda: bare_loop(paths, target),
    'start and end': lambda: convert(few, target),
  }
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(FLAGS.rounds):
    for name, run in runs.items():
      seconds[name].append(timed(run, target))
      print(f'{name}: {seconds[name][-1]:.2f} s', flush=True)
  report('start and end: {} s', seconds.pop('start and end'), '.2f')
  for name, of_run in seconds.items():
    report(f'{name}: {{}} images/s', [FLAGS.images / each for each in of_run], '.0f')
  for name in ('cp -r', 'cp -r, sync', 'bare loop'):
    pairs = zip(seconds[name], seconds['convert'], strict=True)
    report(f'convert / {name}: {{}}', [theirs / ours for theirs, ours in pairs], '.2f')


def report(line: str, values: list[float], form: str) -> None:
  median, least, most = (
    format(value, form) for value in (statistics.median(values), min(values), max(values))
  )
  print(line.format(f'median {median} ({least} to {most})'))


def write_archive(path: Path, count: int) -> None:
  """ILSVRC2012_img_train.tar in small: a tar of 1000 tars."""
  wnids = list(imagenet.synsets())
  file = io.BytesIO()
  Image.new('L', (8, 8)).save(file, 'JPEG')
  tiny = file.getvalue()
  with tarfile.open(path, 'w') as archive:
    for index, wnid in enumerate(wnids):
      file = io.BytesIO()
      with tarfile.open(fileobj=file, mode='w') as inner:
        for number in range(index, count, len(wnids)):
          inner.addfile(member(f'{wnid}_{number}.JPEG', len(tiny)), io.BytesIO(tiny))
      file.seek(0)
      archive.addfile(member(f'{wnid}.tar', len(file.getbuffer())), file)


def member(name: str, size: int) -> tarfile.TarInfo:
  info = tarfile.TarInfo(name)
  info.size = size
  return info


def benchmark_index(folder: Path) -> None:
  """Times the index, which ends when the first shard is begun, and the whole."""
  archive, target = folder / 'ILSVRC2012_img_train.tar', folder / 'target'
  write_archive(archive, FLAGS.images)
  command = [
    sys.executable, '-m', 'slim_inception', 'data', '--dataset_name=imagenet',
    f'--source={archive}', f'--dataset_dir={target}', f'--num_processes={FLAGS.num_processes}',
  ]  # fmt: skip
  start = time.perf_counter()
  process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
  peak: dict[str, float] = {}
  watcher = threading.Thread(target=watch, args=(process.pid, peak))
  watcher.start()
  while not (target / '.conversion' / 'fingerprint').exists() and process.poll() is None:
    time.sleep(0.1)
  print(f'index of {FLAGS.images} images: {time.perf_counter() - start:.1f} s')
  process.wait()
  watcher.join()
  print(f'whole conversion: {time.perf_counter() - start:.1f} s')
  print(f'peak memory: {peak["parent"]:.0f} MB, with its processes {peak["all"]:.0f} MB')


def watch(pid: int, peak: dict[str, float]) -> None:
  """Samples the resident memory of a process and of its children until it ends."""
  while (parent := resident(pid)) > 0:
    children = Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
    everything = parent + sum(resident(int(child)) for child in children)
    peak['parent'] = max(peak.get('parent', 0), parent)
    peak['all'] = max(peak.get('all', 0), everything)
    time.sleep(0.2)


def resident(pid: int) -> float:
  """MB, 0 where there is no such process."""
  try:
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
  except OSError:
    return 0
  return sum(int(line.split()[1]) / 1e3 for line in lines if line.startswith('VmRSS'))


def main(_: list[str]) -> None:
  if FLAGS.images is None:
    FLAGS.images = imagenet.SPLIT_SIZES['train'] if FLAGS.index else 40_000
  folder = Path(FLAGS.folder) / 'benchmark_conversion'
  folder.mkdir(parents=True)
  try:
    (benchmark_index if FLAGS.index else benchmark_rate)(folder)
  finally:
    shutil.rmtree(folder)


if __name__ == '__main__':
  define_flags()
  app.run(main)
