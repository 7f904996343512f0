"""Archives for tests of the data sets that are published as such, and what was made of them."""

import functools
import io
import tarfile

import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, download, records

from tests.datasets.test_download import sha256


def read(dataset_dir, split, name):
  """File name -> label and pixels, of every record."""
  dataset = dataset_factory.get_dataset(name, split, dataset_dir)
  parsed = tf.data.TFRecordDataset(list(dataset.paths)).map(records.parse_example)
  found = {
    record['filename'].numpy().decode(): (
      int(record['label']),
      tf.io.decode_image(record['encoded']).numpy(),
    )
    for record in parsed
  }
  assert len(found) == dataset.num_samples
  return found


def digest(folder):
  """Name -> SHA-256 of the shards and of dataset.json."""
  return {
    path.name: sha256(path.read_bytes())
    for path in folder.iterdir()
    if path.is_file() and path.name != conversion.REPORT_FILE
  }


def tgz(members, compression='gz'):
  """A tar of {path: content}."""
  file = io.BytesIO()
  with tarfile.open(fileobj=file, mode=f'w:{compression}') as tar:
    for path, content in members.items():
      info = tarfile.TarInfo(path)
      info.size = len(content)
      tar.addfile(info, io.BytesIO(content))
  return file.getvalue()


def unpack(folder, members):
  for path, content in members.items():
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
  return folder


def serve(server, original, content):
  server.files[original.name] = content
  return download.Download(server.url(original.name), sha256(content), len(content))


def converting(make_plan, **arguments):
  return functools.partial(conversion.convert, functools.partial(make_plan, **arguments))


def left_in(folder):
  return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
