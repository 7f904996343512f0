"""Measures how fast images become records, compared with `cp -r`, and what the index costs.

  python benchmarks/benchmark_conversion.py --folder=DIR [--images=40000] [--rounds=3]
  python benchmarks/benchmark_conversion.py --folder=DIR --formats [--only NAME ...] [--images=6000]
  python benchmarks/benchmark_conversion.py --folder=DIR --index [--format=NAME] [--images=1281167]

The first form writes JPEGs of about 110 kB into synset folders. Each round copies them with
`cp -r`, without and with a sync at the end, and converts them with the command that users type. It
also does the least that any converter has to do, in as many processes: a bare loop over shuffled
images that reads them, computes their CRC and writes them to files as large as shards. Each starts
from the page cache, after a sync. The time to start and end the conversion is measured with 100
images.

The second form writes the same images in each format of `--source`, and measures by turns how fast
the command converts them; a tar of class tars, read as ImageNet, is what the others are compared
with.

The third form writes a source of that format with that many tiny images, by default ImageNet's
training archive, and measures the time and the memory of converting it.
"""

import argparse
import importlib.util
import io
import itertools
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.datasets import imagenet, records, shards  # noqa: E402

from slim_inception.bench import photographs  # noqa: E402

_CLASSES = 100
_DISTINCT = 100  # images that are generated; the files are copies of these
_PER_SHARD = 1251  # as many as ImageNet has


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


def conversion(source: Path, target: Path, processes: int, recognize: bool = False) -> list[str]:
  return [
    *(sys.executable, '-m', 'slim_inception', 'data'),
    *([] if recognize else ['--dataset_name=imagenet']),
    *(f'--source={source}', f'--dataset_dir={target}', f'--num_processes={processes}'),
  ]


def convert(source: Path, target: Path, processes: int) -> None:
  shards = max(2, len(list(source.glob('train/*/*'))) // _PER_SHARD)
  quietly(*conversion(source, target, processes), f'--train_shards={shards}')


def bare_loop(paths: list[Path], target: Path, processes: int) -> None:
  """Reads, sums and writes the images by as many processes as the conversion has."""
  target.mkdir()
  shares = [(paths[index::processes], f'{target}/{index}') for index in range(processes)]
  with multiprocessing.get_context('fork').Pool(processes) as pool:
    pool.starmap(bare_share, shares, chunksize=1)


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


def benchmark_rate(folder: Path, count: int, rounds: int, processes: int) -> None:
  source = folder / 'images'
  size = write_images(source, count)
  print(f'{count} images of {size / 1e3:.1f} kB on average', flush=True)
  few = folder / 'few'
  write_images(few, _CLASSES)
  paths = list(source.glob('train/*/*'))
  random.Random(0).shuffle(paths)
  target = folder / 'target'
  runs: dict[str, Callable[[], None]] = {
    'cp -r': lambda: quietly('cp', '-r', source, target),
    # The conversion leaves nothing unwritten; this does the same for the copy.
    'cp -r, sync': lambda: quietly('sh', '-c', f"cp -r '{source}' '{target}' && sync"),
    'convert': lambda: convert(source, target, processes),
    'bare loop': lambda: bare_loop(paths, target, processes),
    'start and end': lambda: convert(few, target, processes),
  }
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for _ in range(rounds):
    for name, run in runs.items():
      seconds[name].append(timed(run, target))
      print(f'{name}: {seconds[name][-1]:.2f} s', flush=True)
  report('start and end: {} s', seconds.pop('start and end'), '.2f')
  for name, of_run in seconds.items():
    report(f'{name}: {{}} images/s', [count / each for each in of_run], '.0f')
  for name in ('cp -r', 'cp -r, sync', 'bare loop'):
    pairs = zip(seconds[name], seconds['convert'], strict=True)
    report(f'convert / {name}: {{}}', [theirs / ours for theirs, ours in pairs], '.2f')


# The formats: each writer gets (class, name, content) of all images, and returns --source.

Images = Iterable[tuple[str, str, bytes]]


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
  with tarfile.open(path, 'w') as tar:
    for name, content in members:
      tar.addfile(member(name, len(content)), io.BytesIO(content))


def class_tars(folder: Path, images: Images) -> Path:
  by_class: dict[str, list[tuple[str, bytes]]] = {}
  for wnid, name, content in images:
    by_class.setdefault(wnid, []).append((f'{name}.JPEG', content))
  path = folder / 'ILSVRC2012_img_train.tar'
  with tarfile.open(path, 'w') as archive:
    for wnid, members in by_class.items():
      file = io.BytesIO()
      with tarfile.open(fileobj=file, mode='w') as inner:
        for name, content in members:
          inner.addfile(member(name, len(content)), io.BytesIO(content))
      file.seek(0)
      archive.addfile(member(f'{wnid}.tar', len(file.getbuffer())), file)
  return path


def webdataset(folder: Path, images: Images) -> Path:
  """Shards of 10,000 samples, .cls before .jpg before .json as timm has them."""
  labels: dict[str, int] = {}
  for number, group in itertools.groupby(enumerate(images), lambda each: each[0] // 10_000):
    members: list[tuple[str, bytes]] = []
    for _, (wnid, name, content) in group:
      label = labels.setdefault(wnid, len(labels))
      facts = f'{{"filename": "{wnid}/{name}.JPEG", "label": {label}}}'
      members += [(f'{name}.cls', b'%d' % label), (f'{name}.jpg', content)]
      members += [(f'{name}.json', facts.encode())]
    write_tar(folder / f'own-train-{number:04d}.tar', members)
  return folder


def zip_of_folders(folder: Path, images: Images) -> Path:
  with zipfile.ZipFile(folder / 'photos.zip', 'w') as archive:
    for wnid, name, content in images:
      archive.writestr(f'{wnid}/{name}.jpg', content)
  return folder / 'photos.zip'


def tar_of_folders(folder: Path, images: Images) -> Path:
  write_tar(folder / 'photos.tar', ((f'{wnid}/{name}.jpg', c) for wnid, name, c in images))
  return folder / 'photos.tar'


def tar_gz_of_folders(folder: Path, images: Images) -> Path:
  path = tar_of_folders(folder, images)
  quietly('gzip', '-1', path)
  return path.with_name('photos.tar.gz')


def linked_images(folder: Path, images: Images) -> Iterator[tuple[str, str]]:
  """Path and class of each image; equal files are links, so that a million take no disk."""
  linked: dict[bytes, Path] = {}
  for wnid, name, content in images:
    path = folder / 'images' / name[-3:] / f'{name}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    if first := linked.setdefault(content, path):
      path.write_bytes(content) if first == path else path.hardlink_to(first)
    yield os.fspath(path.relative_to(folder)), wnid


def csv_list(folder: Path, images: Images) -> Path:
  with open(folder / 'list.csv', 'w') as file:
    file.write('path,label\n')
    file.writelines(f'{path},{wnid}\n' for path, wnid in linked_images(folder, images))
  return folder / 'list.csv'


def json_list(folder: Path, images: Images) -> Path:
  with open(folder / 'list.json', 'w') as file:
    rows = (json.dumps({'path': p, 'label': wnid}) for p, wnid in linked_images(folder, images))
    file.write(f'[{next(rows)}')
    file.writelines(f',\n{row}' for row in rows)
    file.write(']')
  return folder / 'list.json'


def of_shards(images: Images) -> Iterator[list[tuple[int, str, bytes]]]:
  """Label, name and content of the images of each shard of a thousand."""
  labels: dict[str, int] = {}
  for _, group in itertools.groupby(enumerate(images), lambda each: each[0] // 1000):
    yield [(labels.setdefault(wnid, len(labels)), name, c) for _, (wnid, name, c) in group]


def arrow_table(shard: list[tuple[int, str, bytes]]) -> Any:
  """The rows of a shard, as Hugging Face's `datasets` has them."""
  import pyarrow

  cells = [{'bytes': content, 'path': f'{name}.jpg'} for _, name, content in shard]
  table = pyarrow.table({'image': cells, 'label': [label for label, *_ in shard]})
  names = [f'class {label}' for label in range(len(imagenet.synsets()))]
  label = {'_type': 'ClassLabel', 'names': names}
  features = {'info': {'features': {'image': {'_type': 'Image'}, 'label': label}}}
  return table.replace_schema_metadata({'huggingface': json.dumps(features)})


def parquet(folder: Path, images: Images, **options: Any) -> Path:
  """By default as `datasets` 5.2 writes the column of images."""
  from pyarrow.parquet import write_table

  options = {'compression': 'none', 'use_dictionary': False} | options
  for number, shard in enumerate(of_shards(images)):
    write_table(arrow_table(shard), folder / f'train-{number:04d}.parquet', **options)
  return folder


def packed_parquet(folder: Path, images: Images, compression: str = 'snappy') -> Path:
  """As `datasets` wrote it before."""
  options = {'compression': compression, 'use_dictionary': True, 'row_group_size': 100}
  return parquet(folder, images, **options)


def zstd_parquet(folder: Path, images: Images) -> Path:
  return packed_parquet(folder, images, 'zstd')


def arrow(folder: Path, images: Images) -> Path:
  from pyarrow import ipc

  for number, shard in enumerate(of_shards(images)):
    table = arrow_table(shard)
    with ipc.new_stream(folder / f'train-{number:04d}.arrow', table.schema) as stream:
      stream.write_table(table, max_chunksize=100)
  return folder


def tfds(folder: Path, images: Images, file_format: str = 'tfrecord') -> Path:
  lengths = []
  for number, shard in enumerate(of_shards(images)):
    examples = [
      records.encode_features({'image': [c], 'label': [label], 'file_name': [f'{name}.jpg']})
      for label, name, c in shard
    ]
    write = write_array_records if file_format == 'array_record' else write_records
    write(folder / f'own-train.{file_format}-{number:05d}', examples)
    lengths.append(str(len(shard)))
  image, label = {'image': {'dtype': 'uint8'}}, {'classLabel': {'numClasses': '1000'}}
  features = {'image': image, 'label': label, 'file_name': {'text': {}}}
  template = '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_INDEX}'
  split = {'name': 'train', 'shardLengths': lengths, 'filepathTemplate': template}
  facts = {'name': 'own', 'fileFormat': file_format, 'splits': [split]}
  (folder / 'features.json').write_text(json.dumps({'featuresDict': {'features': features}}))
  (folder / 'dataset_info.json').write_text(json.dumps(facts))
  return folder


def write_records(path: Path, features: list[bytes]) -> None:
  shards.write_shard(path, ([b'\n' + varint(len(each)), each] for each in features))


def write_array_records(path: Path, features: list[bytes]) -> None:
  """As TensorFlow Datasets does: compressed one by one."""
  from array_record.python import array_record_module

  writer = array_record_module.ArrayRecordWriter(os.fspath(path), 'group_size:1')
  for each in features:
    writer.write(b'\n' + varint(len(each)) + each)
  writer.close()


def varint(value: int) -> bytes:
  """Protobuf's, of the length of tf.train.Features in tf.train.Example."""
  parts = []
  while value > 0x7F:
    parts.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*parts, value])


def array_records(folder: Path, images: Images) -> Path:
  return tfds(folder, images, 'array_record')


FORMATS: dict[str, Callable[[Path, Images], Path]] = {
  'imagenet': class_tars,
  'webdataset': webdataset,
  'zip': zip_of_folders,
  'tar': tar_of_folders,
  'tar.gz': tar_gz_of_folders,
  'csv': csv_list,
  'json': json_list,
  'parquet': parquet,
  'packed parquet': packed_parquet,
  'zstd parquet': zstd_parquet,
  'arrow': arrow,
  'tfrecord': tfds,
  'array_record': array_records,
}
_NEEDS = {
  'parquet': 'pyarrow', 'packed parquet': 'pyarrow', 'zstd parquet': 'pyarrow', 'arrow': 'pyarrow',
  'array_record': 'array_record',
}  # fmt: skip


def all_images(count: int, contents: Sequence[bytes], wnids: Sequence[str]) -> Images:
  """Images that differ in size, as photos do, so that none is compared with another."""
  for number in range(count):
    wnid = wnids[number % len(wnids)]
    content = contents[number // len(wnids) % len(contents)]
    yield wnid, f'{wnid}_{number}', content + bytes(number % len(wnids))


def benchmark_formats(
  folder: Path, names: Sequence[str], count: int, rounds: int, processes: int
) -> None:
  contents = [photographs.photograph(number) for number in range(_DISTINCT)]
  wnids = list(imagenet.synsets())[:_CLASSES]
  target, commands = folder / 'target', {}
  names = [name for name in names if importlib.util.find_spec(_NEEDS.get(name, 'io'))]
  for name in names:
    (folder / name).mkdir()
    source = FORMATS[name](folder / name, all_images(count, contents, wnids))
    commands[name] = conversion(source, target, processes, recognize=True)
  seconds: dict[str, list[float]] = {name: [] for name in names}
  for _ in range(rounds):
    for name, command in commands.items():
      seconds[name].append(timed(lambda command=command: quietly(*command), target))
      print(f'{name}: {seconds[name][-1]:.2f} s', flush=True)
  for name, of_run in seconds.items():
    report(f'{name}: {{}} images/s', [count / each for each in of_run], '.0f')
    pairs = zip(seconds['imagenet'], of_run, strict=True)
    report(f'{name} / imagenet: {{}}', [theirs / ours for theirs, ours in pairs], '.2f')


def report(line: str, values: list[float], form: str) -> None:
  median, least, most = (
    format(value, form) for value in (statistics.median(values), min(values), max(values))
  )
  print(line.format(f'median {median} ({least} to {most})'))


def member(name: str, size: int) -> tarfile.TarInfo:
  info = tarfile.TarInfo(name)
  info.size = size
  return info


def benchmark_index(folder: Path, name: str, count: int, processes: int) -> None:
  """Times the index, which ends when the first shard is begun, and the whole; and the memory."""
  file, target = io.BytesIO(), folder / 'target'
  Image.new('L', (8, 8)).save(file, 'JPEG')
  images = all_images(count, [file.getvalue()], list(imagenet.synsets()))
  source = FORMATS[name](folder, images)
  command = conversion(source, target, processes, recognize=True)
  start = time.perf_counter()
  process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
  indexed, parents, wholes = False, [0.0], [0.0]
  while process.poll() is None:
    if not indexed and (target / '.conversion' / 'fingerprint').exists():
      indexed = True
      print(f'index of {count} images: {time.perf_counter() - start:.1f} s')
    children = Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
    parents.append(resident(process.pid))
    wholes.append(parents[-1] + sum(resident(int(child)) for child in children))
    time.sleep(0.1)
  print(f'whole conversion: {time.perf_counter() - start:.1f} s')
  print(f'peak memory: {max(parents):.0f} MB, with its processes {max(wholes):.0f} MB')


def resident(pid: int) -> float:
  """MB, 0 where there is no such process."""
  try:
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
  except OSError:
    return 0
  return sum(int(line.split()[1]) / 1e3 for line in lines if line.startswith('VmRSS'))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--folder', type=Path, required=True, help='about 330 kB for each image')
  parser.add_argument('--images', type=int, help='by default 40,000, 6,000 or 1,281,167')
  parser.add_argument('--rounds', type=int, default=3, help='how often each is measured')
  parser.add_argument('--num_processes', type=int, default=2, help='of the conversion')
  parser.add_argument('--index', action='store_true', help='measure the index of a large source')
  parser.add_argument('--format', choices=FORMATS, default='imagenet', help='of that source')
  parser.add_argument('--formats', action='store_true', help='compare the formats of sources')
  parser.add_argument('--only', choices=FORMATS, nargs='+', help='compare these formats')
  flags = parser.parse_args()
  folder = flags.folder / 'benchmark_conversion'
  folder.mkdir(parents=True)
  try:
    if flags.index:
      count = flags.images or imagenet.SPLIT_SIZES['train']
      benchmark_index(folder, flags.format, count, flags.num_processes)
    elif flags.formats:
      names = ['imagenet', *(name for name in flags.only or FORMATS if name != 'imagenet')]
      benchmark_formats(folder, names, flags.images or 6000, flags.rounds, flags.num_processes)
    else:
      benchmark_rate(folder, flags.images or 40_000, flags.rounds, flags.num_processes)
  finally:
    shutil.rmtree(folder)


if __name__ == '__main__':
  main()
