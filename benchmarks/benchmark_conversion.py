"""How fast pictures become records, against `cp -r` of the same files; and what the index costs.

  python benchmarks/benchmark_conversion.py --folder=DIR [--pictures=40000] [--rounds=3]
  python benchmarks/benchmark_conversion.py --folder=DIR --index [--pictures=1281167]

The first writes JPEGs of about 110 kB into synset folders and, in each round, copies them with
`cp -r`, without and with a sync at the end, and converts them with the command that users type,
each from the page cache, each after a sync. The second writes a training archive with that many
members, tiny pictures, and measures time and memory of converting it.
"""

import io
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from absl import app, flags
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from benchmarking import pictures  # noqa: E402
from datasets import imagenet  # noqa: E402

_CLASSES = 100
_DISTINCT = 100  # pictures that are generated; the files are copies of these

FLAGS = flags.FLAGS


def define_flags() -> None:
  flags.DEFINE_string('folder', None, 'Where to write, about 3 x 110 kB a picture.', required=True)
  flags.DEFINE_integer('pictures', None, 'How many; 40,000 or 1,281,167.', lower_bound=1000)
  flags.DEFINE_integer('rounds', 3, 'Times that each is measured.', lower_bound=1)
  flags.DEFINE_integer('num_processes', 2, 'Processes of the conversion.', lower_bound=1)
  flags.DEFINE_bool('index', False, 'Measure the index of a training archive.')


def write_pictures(folder: Path, count: int) -> float:
  """Writes `train/<wnid>/*.JPEG`; returns the mean size in bytes."""
  wnids = list(imagenet.synsets())[:_CLASSES]
  contents = [pictures.photograph(number) for number in range(_DISTINCT)]
  for wnid in wnids:
    (folder / 'train' / wnid).mkdir(parents=True)
  for number in range(count):
    wnid = wnids[number % _CLASSES]
    path = folder / 'train' / wnid / f'{wnid}_{number}.JPEG'
    path.write_bytes(contents[number // _CLASSES % _DISTINCT])
  return statistics.mean(map(len, contents))


def timed(command: list, target: Path) -> float:
  """Seconds of a command that writes `target`, which is removed afterwards."""
  subprocess.run(['sync'], check=True)
  start = time.perf_counter()
  subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  seconds = time.perf_counter() - start
  shutil.rmtree(target)
  return seconds


def convert_command(source: Path, target: Path) -> list:
  return [
    sys.executable, ROOT / 'download_and_convert_data.py', '--dataset_name=imagenet',
    f'--source={source}', f'--dataset_dir={target}', f'--num_processes={FLAGS.num_processes}',
    f'--train_shards={max(2, FLAGS.pictures // 1251)}',  # as many in a shard as ImageNet has
  ]  # fmt: skip


def benchmark_rate(folder: Path) -> None:
  source = folder / 'pictures'
  size = write_pictures(source, FLAGS.pictures)
  print(f'{FLAGS.pictures} pictures of {size / 1e3:.1f} kB on average', flush=True)
  runs: dict[str, tuple[Callable[[Path], list], list[float]]] = {
    'cp -r': (lambda target: ['cp', '-r', source, target], []),
    # The conversion leaves nothing unwritten; this does the same for the copy.
    'cp -r, sync': (lambda target: ['sh', '-c', f"cp -r '{source}' '{target}' && sync"], []),
    'convert': (lambda target: convert_command(source, target), []),
  }
  for _ in range(FLAGS.rounds):
    for name, (command, rates) in runs.items():
      target = folder / 'target'
      rates.append(FLAGS.pictures / timed(command(target), target))
      print(f'{name}: {rates[-1]:.0f} pictures/s', flush=True)
  for name, (_, rates) in runs.items():
    print(
      f'{name}: median {statistics.median(rates):.0f} pictures/s, '
      f'{min(rates):.0f} to {max(rates):.0f}'
    )
  for name in ('cp -r', 'cp -r, sync'):
    pairs = zip(runs['convert'][1], runs[name][1], strict=True)
    ratios = [ours / theirs for ours, theirs in pairs]
    print(
      f'convert / {name}: median {statistics.median(ratios):.2f}, '
      f'{min(ratios):.2f} to {max(ratios):.2f}'
    )


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
  write_archive(archive, FLAGS.pictures)
  command = [
    sys.executable, ROOT / 'download_and_convert_data.py', '--dataset_name=imagenet',
    f'--source={archive}', f'--dataset_dir={target}', f'--num_processes={FLAGS.num_processes}',
  ]  # fmt: skip
  start = time.perf_counter()
  process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
  peak: dict[str, float] = {}
  watcher = threading.Thread(target=watch, args=(process.pid, peak))
  watcher.start()
  while not (target / '.conversion' / 'fingerprint').exists() and process.poll() is None:
    time.sleep(0.1)
  print(f'index of {FLAGS.pictures} pictures: {time.perf_counter() - start:.1f} s')
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
  if FLAGS.pictures is None:
    FLAGS.pictures = imagenet.SPLIT_SIZES['train'] if FLAGS.index else 40_000
  folder = Path(FLAGS.folder) / 'benchmark_conversion'
  folder.mkdir(parents=True)
  try:
    (benchmark_index if FLAGS.index else benchmark_rate)(folder)
  finally:
    shutil.rmtree(folder)


if __name__ == '__main__':
  define_flags()
  app.run(main)
