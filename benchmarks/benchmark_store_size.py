"""Measures what `--store_size` does: rate of the input of training, bytes, and pixels of the view.

  python benchmarks/benchmark_store_size.py [--accuracy] [STORE_SIZE ...]

Photographs of 1024 x 768 pixels are generated (`slim_inception/bench/photographs.py`) and converted
as they are and with each size. The inputs of training run by turns; what counts is the processor
time of all threads, which other programs do not change. Pixels are those of the 299 x
299 view of evaluation, compared with the view of the images as they were: that of slim, bilinear
without antialiasing, and one with antialiasing (`--resize=aspect`).

With --accuracy a small net is trained instead, with three seeds on each, on handwritten digits
(scikit-learn's) drawn large on photographs of 640 x 480 pixels. Errors are those on the same
validation images as they were, and of smaller ones on theirs too.
"""

import io
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, os.fspath(ROOT))

from slim_inception.datasets import (  # noqa: E402
  conversion,
  dataset_factory,
  image_folder,
  records,
  shards,
)

from slim_inception.bench import photographs, timing  # noqa: E402

_IMAGES, _SIDES = 100, (1024, 768)
_SIDE, _BATCH = 299, 32
_ROUNDS, _BATCHES, _PASSED = 3, 24, 4  # batches of a round that count, and before them
_DIGITS, _PHOTOGRAPHS = {'train': 1000, 'validation': 500}, 40
_SEEDS, _STUDENT_95 = 3, 4.303  # the 97.5 % quantile of Student's t of 2 degrees of freedom
_TRAINING = {
  'model_name': 'inception_v2',
  'depth_multiplier': 0.25,
  'train_image_size': 64,
  'batch_size': 32,
  'max_number_of_steps': 240,
  'optimizer': 'adam',
  'opt_epsilon': 1e-3,
  'learning_rate': 0.003,
  'learning_rate_decay_type': 'cosine',
  'batch_norm_decay': 0.9,
  'random_flip': False,
  'distort_color': False,
  'save_interval_steps': 10_000,
}  # fmt: skip


def main(sizes: list[int]) -> None:
  with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    for name in 'ab':  # classes
      (root / 'photographs' / name).mkdir(parents=True)
    with futures.ProcessPoolExecutor() as pool:
      for number, content in enumerate(pool.map(_photograph, range(_IMAGES))):
        (root / 'photographs' / 'ab'[number % 2] / f'{number:04}.jpg').write_bytes(content)
    stores = {'as they are': None, **{f'--store_size={size}': size for size in sizes}}
    for name, size in stores.items():
      options = conversion.Options(store_size=size, validation_fraction=0)
      image_folder.convert(str(root / 'photographs'), root / name, options)
    times = timing.take_turns([_input(root / name) for name in stores], _ROUNDS)
    whole = list(_views(root / 'as they are'))
    for (name, size), of_size in zip(stores.items(), times, strict=True):
      ratios = [first / own for first, own in zip(times[0].rounds, of_size.rounds, strict=True)]
      print(
        f'{name}: {1e3 * of_size.median / _BATCH:.2f} ms of processor time an image, '
        f'{statistics.median(ratios):.2f} times as fast as the first ({min(ratios):.2f} to '
        f'{max(ratios):.2f}), {_bytes(root / name):.0f} kB'
      )
      if size:
        print(*_compare(whole, _views(root / name)), sep='\n')


def _photograph(number: int) -> bytes:
  return photographs.photograph(number, *_SIDES)


def _input(folder: Path) -> timing.Program:
  """The input of training of a folder of records."""
  from slim_inception.preprocessing import preprocessing_factory
  from slim_inception.preprocessing.inception_preprocessing import Distortion

  from slim_inception.input.pipeline import InputOptions, Source, record_batches

  dataset = dataset_factory.get_dataset('image_folder', 'train', folder)
  source = Source(dataset, preprocessing_factory.get('inception'), Distortion())

  def run_round() -> float:
    # Anew in each round: what waits for its turn would make batches meanwhile.
    batches = iter(record_batches(source, InputOptions(_SIDE, _BATCH)))
    for _ in range(_PASSED):
      next(batches)
    begin = time.process_time()
    for _ in range(_BATCHES):
      next(batches)
    return (time.process_time() - begin) / _BATCHES

  return timing.Program(run_round(), _BATCHES, run_round)


def _bytes(folder: Path) -> float:
  """kB of a record."""
  return sum(path.stat().st_size for path in folder.glob('train-*')) / _IMAGES / 1e3


def _views(folder: Path) -> Iterator[dict[str, np.ndarray]]:
  """The views of the images, values 0 to 255, in the order of their names."""
  import tensorflow as tf
  from slim_inception.preprocessing import preprocessing_factory

  preprocessing = preprocessing_factory.get('inception')
  encoded = {}
  for path in shards.find_shards(folder, 'train'):
    for record in shards.read_shard(path):
      example = records.decode_features(record.data)
      encoded[example['image/filename'][0]] = example['image/encoded'][0]
  for name in sorted(encoded):
    image = preprocessing.decode(encoded[name])
    slim = (preprocessing.eval_view(image, _SIDE, _SIDE) + 1) * 127.5
    seen = tf.image.central_crop(image, preprocessing.crop_fraction)
    smooth = tf.image.resize(seen, [_SIDE, _SIDE], antialias=True)
    yield {'slim': slim.numpy(), 'antialiasing': smooth.numpy()}


def _compare(
  whole: list[dict[str, np.ndarray]], stored: Iterator[dict[str, np.ndarray]]
) -> Iterator[str]:
  stored = list(stored)
  for name in whole[0]:
    errors = np.stack([own[name] - of[name] for own, of in zip(stored, whole, strict=True)])
    psnr = 10 * np.log10(255**2 / np.square(errors).mean((1, 2, 3)))
    yield (
      f'  view of {name}: PSNR {psnr.mean():.1f} dB (least {psnr.min():.1f}), mean difference '
      f'{np.abs(errors).mean():.2f} of 255, darker by {-errors.mean():.2f}'
    )


# Accuracy


def compare_accuracy(sizes: list[int]) -> None:
  stores = {'as they are': None, **{f'--store_size={size}': size for size in sizes}}
  with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    _write_digits(root / 'digits')
    for name, size in stores.items():
      image_folder.convert(str(root / 'digits'), root / name, conversion.Options(store_size=size))
    errors: dict[tuple[str, str], list[float]] = {}
    for seed in range(_SEEDS):
      for name in stores:
        train_dir = root / f'{name} {seed}'
        _train(root / name, train_dir, seed)
        for on in dict.fromkeys(['as they are', name]):
          errors.setdefault((name, on), []).append(_error(train_dir, root / on))
          print(
            f'seed {seed}, trained {name}, images {on}: {errors[name, on][-1]:.2f} %', flush=True
          )
  whole = errors['as they are', 'as they are']
  for (name, on), of_seeds in errors.items():
    differences = np.subtract(of_seeds, whole)
    half = _STUDENT_95 * np.std(differences, ddof=1) / _SEEDS**0.5
    print(
      f'trained {name}, images {on}: error {np.mean(of_seeds):.2f} % ({min(of_seeds):.2f} to '
      f'{max(of_seeds):.2f}), {np.mean(differences):+.2f} points against the first '
      f'({np.mean(differences) - half:+.2f} to {np.mean(differences) + half:+.2f})'
    )


def _write_digits(folder: Path) -> None:
  """Class folders of photographs with a digit each, of a third to a half of their height."""
  from sklearn.datasets import load_digits

  digits = load_digits()
  rng = np.random.default_rng(0)
  backgrounds = [
    np.asarray(Image.open(io.BytesIO(photographs.photograph(n, 640, 480))), np.float32)
    for n in range(_PHOTOGRAPHS)
  ]
  order = iter(rng.permutation(len(digits.target)))
  for split, count in _DIGITS.items():
    for _ in range(count):
      number = next(order)
      side = int(rng.integers(160, 240))
      ink = Image.fromarray((digits.images[number] * 15.9).astype(np.uint8))
      alpha = np.asarray(ink.resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
      pixels = backgrounds[rng.integers(_PHOTOGRAPHS)].copy()
      y, x = (int(rng.integers(size - side)) for size in pixels.shape[:2])
      under = pixels[y : y + side, x : x + side]
      color = rng.choice([0.0, 255.0]) + rng.uniform(-40, 40, 3)
      under += alpha[..., np.newaxis] * (color - under)
      path = folder / split / f'{digits.target[number]}' / f'{number:04}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=92)


def _train(records_dir: Path, train_dir: Path, seed: int) -> None:
  from slim_inception.train import config, trainer

  where = {'dataset_name': 'image_folder', 'dataset_dir': os.fspath(records_dir)}
  trainer.train(
    config.resolve({**_TRAINING, **where, 'train_dir': os.fspath(train_dir), 'seed': seed})
  )


def _error(train_dir: Path, records_dir: Path) -> float:
  """Top-1 error in % of the validation images in a folder."""
  from slim_inception.nets.convert import formats

  from slim_inception.evaluate import config
  from slim_inception.evaluate.evaluator import Evaluation

  request = config.resolve(
    {'checkpoint_path': os.fspath(train_dir), 'dataset_dir': os.fspath(records_dir)}
  )
  outcome = Evaluation(request).evaluate([formats.locate(train_dir)])
  assert outcome is not None
  return 100 * (1 - outcome.metrics['top_1'])


if __name__ == '__main__':
  arguments = sys.argv[1:]
  measure = compare_accuracy if '--accuracy' in arguments else main
  measure([int(size) for size in arguments if size != '--accuracy'] or [400])
