"""Real image files, good and odd, and folders of them."""

import hashlib
import io

import numpy as np
import tensorflow as tf
from PIL import Image
from slim_inception.datasets import dataset_factory, records

RNG = np.random.default_rng(0)
PIXELS = np.kron(RNG.integers(0, 256, [3, 4, 3]), np.ones([8, 8, 1])).astype(np.uint8)  # 24 x 32


def encode(file_format, mode='RGB', pixels=PIXELS, **options):
  file = io.BytesIO()
  Image.fromarray(pixels).convert(mode).save(file, file_format, **options)
  return file.getvalue()


def lying():
  """An image that EXIF says to turn by a quarter when shown."""
  exif = Image.Exif()
  exif[0x0112] = 6
  return encode('JPEG', quality=95, exif=exif)


def transparent():
  file = io.BytesIO()
  Image.new('RGBA', (32, 24), (255, 0, 255, 0)).save(file, 'PNG')
  return file.getvalue()


def deep():
  file = io.BytesIO()
  Image.fromarray(np.full([4, 4], 900, np.uint16)).save(file, 'TIFF')
  return file.getvalue()


JPEG, PNG = encode('JPEG'), encode('PNG')
ODD = {  # file name -> content, and what becomes of it: JPEG, PNG, a change, or a reason to skip it
  'plain.jpg': (JPEG, 'JPEG'),
  'plain.png': (PNG, 'PNG'),
  'png under another name.jpg': (PNG, 'PNG'),
  'no_extension': (JPEG, 'JPEG'),
  'UPPER.JPEG': (JPEG, 'JPEG'),
  'progressive.jpg': (encode('JPEG', progressive=True), 'JPEG'),
  'grey.jpg': (encode('JPEG', 'L'), 'JPEG'),
  'palette.png': (encode('PNG', 'P'), 'PNG'),
  'opaque.png': (encode('PNG', 'RGBA'), 'PNG'),
  'transparent.png': (transparent(), 'laid on white'),
  'cmyk.jpg': (encode('JPEG', 'CMYK'), 'CMYK to RGB'),
  'lying.jpg': (lying(), 'turned upright'),
  'a.gif': (encode('GIF'), 'GIF to PNG'),
  'a.bmp': (encode('BMP'), 'BMP to PNG'),
  'a.webp': (encode('WEBP'), 'WEBP to PNG'),
  'deep.tiff': (deep(), 'TIFF to PNG'),
  'empty.jpg': (b'', 'empty file'),
  'text.jpg': (b'Not found', 'not an image'),
  'cut.jpg': (JPEG[:-60], 'JPEG is truncated: it has no end of image'),
  'cut.png': (PNG[: len(PNG) // 2], 'does not decode'),
}


def read_records(dataset_dir, split):
  dataset = dataset_factory.get_dataset('image_folder', split, dataset_dir)
  parsed = tf.data.TFRecordDataset(list(dataset.paths)).map(records.parse_example)
  return [{key: value.numpy() for key, value in record.items()} for record in parsed]


def commented(comment, content=JPEG):
  """The same image as another file: a JPEG with a comment in it."""
  segment = b'\xff\xfe' + (len(comment) + 2).to_bytes(2, 'big') + comment.encode()
  return content[:2] + segment + content[2:]


def tree(root, classes, count=10, content=None):
  """Folders of numbered images, no two of them equal unless `content` says what all are."""
  for name in classes:
    (root / name).mkdir(parents=True)
    for i in range(count):
      of_file = commented(f'{root.name}/{name}/{i}') if content is None else content
      (root / name / f'{i}.jpg').write_bytes(of_file)
  return root


def digest(folder):
  found = (path for path in folder.iterdir() if path.is_file())
  return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
