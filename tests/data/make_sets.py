"""Writes the small sets of tests/data: huggingface, tfds, mds and sisters, by their writers.

  cd tests/data && python -m venv ../../../sets && ../../../sets/bin/pip install datasets==5.2.0 \
    tensorflow-datasets==4.9.10 mosaicml-streaming==0.13.0 tensorflow pillow && \
    ../../../sets/bin/python make_sets.py

Not from the root of the checkout, whose folder `datasets` Python would take for Hugging Face's. The
same images and labels are in each: `image_of(i)`, of class i modulo 3.
"""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from streaming import MDSWriter

import datasets

HERE = Path(__file__).parent
CLASSES = ['cat', 'dog', 'fish']
SPLITS = {'train': range(8), 'validation': range(8, 11), 'test': range(11, 13)}


def image_of(number: int) -> bytes:
  """A JPEG of 16 x 24 pixels that is no other number's."""
  pixels = np.random.default_rng(number).integers(0, 256, [2, 3, 3]).astype(np.uint8)
  file = io.BytesIO()
  Image.fromarray(np.kron(pixels, np.ones([8, 8, 1], np.uint8))).save(file, 'JPEG')
  return file.getvalue()


def labels_of(number: int) -> list[int]:
  """Several labels: none, one or two."""
  return [0, 2][: number % 3]


def write_huggingface(folder: Path) -> None:
  label = datasets.ClassLabel(names=CLASSES)
  features = datasets.Features({'image': datasets.Image(), 'label': label})
  splits = {
    split: datasets.Dataset.from_dict(
      {
        'image': [{'bytes': image_of(i), 'path': f'photo_{i}.jpg'} for i in numbers],
        'label': [-1 if split == 'test' else i % 3 for i in numbers],
      },
      features,
    )
    for split, numbers in SPLITS.items()
  }
  shards = {'train': 2, 'validation': 1, 'test': 1}
  datasets.DatasetDict(splits).save_to_disk(folder / 'saved', num_shards=shards)
  for split, whole in splits.items():
    for index in range(shards[split]):
      part = whole.shard(shards[split], index, contiguous=True)
      name = f'{split}-{index:05d}-of-{shards[split]:05d}.parquet'
      (folder / 'hub' / 'data').mkdir(parents=True, exist_ok=True)
      part.to_parquet(folder / 'hub' / 'data' / name)
  features = datasets.Features({'img': datasets.Image(), 'tags': datasets.List(label)})
  rows = {
    'img': [{'bytes': image_of(i), 'path': None} for i in range(6)],
    'tags': [labels_of(i) for i in range(6)],
  }
  (folder / 'several').mkdir()
  datasets.Dataset.from_dict(rows, features).to_parquet(folder / 'several' / 'train.parquet')


class Pets(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.2.0')

  def _info(self):
    features = {
      'image': tfds.features.Image(encoding_format='jpeg'),
      'mask': tfds.features.Image(shape=(None, None, 1), encoding_format='png'),
      'label': tfds.features.ClassLabel(names=CLASSES),
      'file_name': tfds.features.Text(),
    }
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, _):
    return {split: self._generate_examples(numbers) for split, numbers in SPLITS.items()}

  def _generate_examples(self, numbers):
    mask = np.zeros([16, 24, 1], np.uint8)
    for i in numbers:
      image, name = io.BytesIO(image_of(i)), f'photo_{i}.jpg'
      yield i, {'image': image, 'mask': mask, 'label': i % 3, 'file_name': name}


class Several(tfds.core.GeneratorBasedBuilder):
  VERSION = tfds.core.Version('1.0.0')

  def _info(self):
    labels = tfds.features.Sequence(tfds.features.ClassLabel(names=CLASSES))
    features = {'picture': tfds.features.Image(encoding_format='jpeg'), 'tags': labels}
    return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

  def _split_generators(self, _):
    return {'train': self._generate_examples(range(6))}

  def _generate_examples(self, numbers):
    for i in numbers:
      yield i, {'picture': io.BytesIO(image_of(i)), 'tags': labels_of(i)}


def write_mds(folder: Path) -> None:
  """`pets` in shards of six at most, `packed`: the same compressed; `several` labels an image."""
  columns = {'i': 'int', 'x': 'jpeg', 'y': 'int', 'filename': 'str'}
  for name, compression in (('pets', None), ('packed', 'zstd')):
    for split, numbers in SPLITS.items():
      out = str(folder / name / split)
      with MDSWriter(
        out=out, columns=columns, compression=compression, hashes=['sha1'], size_limit=5000
      ) as writer:
        for i in numbers:
          label = -1 if split == 'test' else i % 3
          writer.write({'i': i, 'x': opened(i), 'y': label, 'filename': f'photo_{i}.jpg'})
  columns = {'key': 'int', 'picture': 'bytes', 'tags': 'json'}
  with MDSWriter(out=str(folder / 'several'), columns=columns) as writer:
    for i in range(6):
      tags = [CLASSES[label] for label in labels_of(i)]
      writer.write({'key': i, 'picture': image_of(i), 'tags': tags})


def opened(number: int) -> Image.Image:
  """An image of a file, whose bytes the writer takes as they are."""
  with tempfile.NamedTemporaryFile(suffix='.jpg', delete=False) as file:
    file.write(image_of(number))
  return Image.open(file.name)


# ImageNet's sisters, by the library's own builders, of two images instead of what they download.
WNIDS = 'n01498041', 'n01531178'  # stingray and goldfinch, 6 and 11 of 0 to 999, are in -A and -R
NUMBERS = '6', '11'


def write_folders(root: Path, classes: tuple[str, ...]) -> Path:
  for number, name in enumerate(classes):
    (root / name).mkdir(parents=True)
    (root / name / f'{number}.jpg').write_bytes(image_of(number))
  return root


def write_sisters(folder: Path, work: Path) -> None:
  by_synset, by_number = write_folders(work / 'a', WNIDS), write_folders(work / 'v2', NUMBERS)
  archive = [(f'sketch/{wnid}/{i}.JPEG', image_of(i)) for i, wnid in enumerate(WNIDS)]
  validation = [f'ILSVRC2012_val_{i:08d}.JPEG' for i in (1, 2, 3)]
  examples = {
    'imagenet_v2/matched-frequency': (by_number,),
    'imagenet_a': (by_synset,),
    'imagenet_r': (by_synset,),
    'imagenet_sketch': ([(name, io.BytesIO(content)) for name, content in archive],),
    'imagenet2012_real': (
      [(name, io.BytesIO(image_of(i))) for i, name in enumerate(validation)],
      dict(zip(validation, (*WNIDS, WNIDS[0]), strict=True)),
      dict(zip(validation, ([6, 11], [], [11]), strict=True)),
    ),
  }
  for name, arguments in examples.items():
    builder = tfds.builder(name, data_dir=folder, file_format='tfrecord')
    split = 'validation' if name == 'imagenet2012_real' else 'test'
    made = {split: builder._generate_examples(*arguments)}
    builder._split_generators = lambda _, made=made: made
    builder.download_and_prepare()
  for config in ('fog_1', 'snow_5'):  # the corruptions themselves need OpenCV
    builder = tfds.builder(
      f'imagenet2012_corrupted/{config}', data_dir=folder, file_format='tfrecord'
    )
    image = Image.open(io.BytesIO(image_of(0))).resize([224, 224])
    rows = [
      {'image': np.asarray(image), 'label': wnid, 'file_name': name}
      for wnid, name in zip(WNIDS, validation, strict=False)
    ]
    made = {'validation': ((row['file_name'], row) for row in rows)}
    builder._split_generators = lambda _, made=made: made
    builder.download_and_prepare()
  share_labels(folder)


def share_labels(folder: Path) -> None:
  """ImageNet's synsets, which each set has in files of its own, become one file and links to it."""
  shared = HERE / 'imagenet.labels.txt'
  for path in folder.rglob('*.labels.txt'):
    path.replace(shared)
    path.symlink_to(os.path.relpath(shared, path.parent))


if __name__ == '__main__':
  write_huggingface(HERE / 'huggingface')
  write_mds(HERE / 'mds')
  for builder in (Pets, Several):
    builder(data_dir=HERE / 'tfds', file_format='tfrecord').download_and_prepare()
  with tempfile.TemporaryDirectory() as work:
    write_sisters(HERE / 'sisters', Path(work))
