"""Measures what `slim-inception doctor` finds: plants near duplicates and wrong labels, and counts.

  python benchmarks/benchmark_doctor.py [digits|photographs ...]

Two sets, of class folders with splits. Digits are the odd half of scikit-learn's 1,797 images, real
and much alike: a hard case for duplicates. A small net is trained on the other half, and makes the
embeddings. Photographs are generated (`slim_inception/bench/photographs.py`).

Of each set 50 images get a near duplicate in a random split: compressed again (quality 30), resized
(to three fifths), cropped (up to a tenth of a side is lost at each edge) or made a third brighter;
and 50 others of the training split of digits get another label. Recall is the share of what was
planted that is told, precision the share of what is told that was planted.
"""

import csv
import io
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageEnhance

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.datasets import conversion, digits  # noqa: E402

from slim_inception.bench import photographs  # noqa: E402

_PLANTED = 50  # of each kind
_PHOTOGRAPHS, _SIDES = 600, (300, 225)
_SPLITS = ('train',) * 4 + ('validation',)
_TRAINING = (
  '--model_name=inception_v3', '--depth_multiplier=0.25', '--recipe=slim', '--train_image_size=80',
  '--batch_size=32', '--num_epochs=8', '--optimizer=adam', '--opt_epsilon=0.001',
  '--learning_rate=0.003', '--learning_rate_decay_type=cosine', '--end_learning_rate=0',
  '--warmup_epochs=1', '--batch_norm_decay=0.9', '--min_crop_area=0.7', '--norandom_flip',
  '--nodistort_color',
)  # fmt: skip


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
  left, top, right, bottom = (rng.uniform(0, 0.1) for _ in range(4))
  width, height = image.size
  corners = left * width, top * height, (1 - right) * width, (1 - bottom) * height
  return image.crop(tuple(map(round, corners)))


def _encoded(image: Image.Image, quality: int = 90) -> bytes:
  file = io.BytesIO()
  image.convert('RGB').save(file, 'JPEG', quality=quality)
  return file.getvalue()


# What is done to an image, and how it is stored.
CHANGES: Mapping[str, Callable[[Image.Image, random.Random], bytes]] = {
  'recompressed': lambda image, _: _encoded(image, 30),
  'resized': lambda image, _: _encoded(image.resize([round(0.6 * side) for side in image.size])),
  'cropped': lambda image, rng: _encoded(_crop(image, rng)),
  'brightened': lambda image, _: _encoded(ImageEnhance.Brightness(image).enhance(4 / 3)),
}


class Planted(NamedTuple):
  """What is wrong with a set.

  Attributes:
    duplicates: {name of the duplicate: (name of the original, change)}.
    labels: names of the files with wrong labels.
  """

  duplicates: dict[str, tuple[str, str]]
  labels: set[str]


def plant(images: Sequence[tuple[str, bytes]], folder: Path, wrong_labels: int) -> Planted:
  """Writes class folders of splits with what is wrong.

  Args:
    images: class and file of each.
    folder: is made.
    wrong_labels: so many images of the training split get one.
  """
  rng = random.Random(0)
  splits = [rng.choice(_SPLITS) for _ in images]
  classes = sorted({name for name, _ in images})
  of_train = [i for i, split in enumerate(splits) if split == 'train']
  wrong = set(rng.sample(of_train, wrong_labels))
  names = []
  for i, (label, content) in enumerate(images):
    if i in wrong:
      label = rng.choice([name for name in classes if name != label])
    names.append(_write(folder, splits[i], label, f'{i:05}', content))
  duplicates = {}
  rest = [i for i in range(len(images)) if i not in wrong]
  for number, i in enumerate(rng.sample(rest, _PLANTED)):
    change = [*CHANGES][number % len(CHANGES)]
    with Image.open(io.BytesIO(images[i][1])) as image:
      content = CHANGES[change](image, rng)
    name = _write(folder, rng.choice(_SPLITS), images[i][0], f'copy{number:05}', content)
    duplicates[name] = names[i], change
  return Planted(duplicates, {names[i] for i in wrong})


def _write(folder: Path, split: str, label: str, stem: str, content: bytes) -> str:
  path = Path(split, label, f'{stem}.jpg')
  (folder / path).parent.mkdir(parents=True, exist_ok=True)
  (folder / path).write_bytes(content)
  return os.fspath(path)


def report(problems: Path, planted: Planted) -> Iterator[str]:
  """Lines of recall and precision."""
  with open(problems, newline='') as file:
    rows = list(csv.DictReader(file))
  alike = {
    frozenset([row['filename'], row['other']])
    for row in rows
    if row['problem'] in ('leak', 'duplicate')
  }
  pairs = {frozenset([name, of]): change for name, (of, change) in planted.duplicates.items()}
  told = {pair for pair in pairs if _connected(alike, *pair)}
  recall = f'{len(told) / len(pairs):.3f} ({len(told)} of {len(pairs)})'
  yield f'near duplicates: recall {recall}, precision {_share(alike & pairs.keys(), alike)}'
  for change in CHANGES:
    of_change = {pair for pair, kind in pairs.items() if kind == change}
    yield f'  {change}: {len(told & of_change)} of {len(of_change)}'
  if planted.labels:
    suspects = {row['filename'] for row in rows if row['problem'] == 'wrong_label'}
    told_labels = suspects & planted.labels
    recall, precision = _share(told_labels, planted.labels), _share(told_labels, suspects)
    yield f'wrong labels: recall {recall}, precision {precision}'


def _connected(alike: set[frozenset[str]], first: str, second: str) -> bool:
  """Whether pairs lead from one image to another: a group names one of its images in each row."""
  reached, border = {first}, {first}
  while border:
    border = {name for pair in alike if pair & border for name in pair} - reached
    reached |= border
  return second in reached


def _share(some: set, of_all: set) -> str:
  return f'{len(some) / len(of_all):.3f} ({len(some)} of {len(of_all)})' if of_all else 'none'


def _command(*arguments: object) -> None:
  command = [sys.executable, '-m', 'slim_inception', *map(str, arguments)]
  environment = {**os.environ, 'PYTHONPATH': os.fspath(ROOT)}
  done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
  if done.returncode:
    sys.exit(done.stderr)


def _of_digits(root: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
  """The images, and the flags of a net that was trained on the others."""
  plan = digits.make_plan(None, conversion.Options(), root)
  items = sorted((item for items in plan.splits.values() for item in items), key=lambda i: i[0])
  images = [(plan.labels[item.label], item.source.read()) for item in items]
  for number, (label, content) in enumerate(images[::2]):
    _write(root / 'others', 'train', label, f'{number:05}', content)
  _command(
    'data', f'--source={root}/others', f'--dataset_dir={root}/records', '--validation_fraction=0'
  )
  _command(
    'train', f'--dataset_dir={root}/records', '--dataset_name=image_folder',
    f'--train_dir={root}/run', *_TRAINING,
  )  # fmt: skip
  return images[1::2], [f'--checkpoint_path={root}/run']


def _of_photographs(root: Path) -> tuple[list[tuple[str, bytes]], list[str]]:
  del root
  with futures.ProcessPoolExecutor() as pool:
    contents = pool.map(_photograph, range(_PHOTOGRAPHS), chunksize=20)
    return [('ab'[number % 2], content) for number, content in enumerate(contents)], []


def _photograph(number: int) -> bytes:
  return photographs.photograph(number, *_SIDES)


# What makes the images, wrong labels, and flags.
SETS = {
  'digits': (_of_digits, _PLANTED, ['--duplicate_similarity=0.98']),
  'photographs': (_of_photographs, 0, list[str]()),
}


def main(names: Sequence[str]) -> None:
  for name in names:
    make, wrong_labels, own = SETS[name]
    with tempfile.TemporaryDirectory() as folder:
      root = Path(folder)
      images, net = make(root)
      planted = plant(images, root / 'set', wrong_labels)
      for flags in [[], net] if net else [[]]:
        out = root / ('with' if flags else 'without')
        begin = time.perf_counter()
        _command('doctor', f'--source={root}/set', f'--output_dir={out}', *own, *flags)
        seconds = time.perf_counter() - begin
        title = ' '.join([*own, 'with a checkpoint' if flags else 'without a checkpoint'])
        print(f'{name}, {len(images) + _PLANTED} images, {title}: {seconds:.1f} s', flush=True)
        print(*report(out / 'problems.csv', planted), sep='\n', flush=True)


if __name__ == '__main__':
  main(sys.argv[1:] or [*SETS])
