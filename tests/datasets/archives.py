"""Archives for tests of the data sets that are published as such, and what was made of them."""

import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import time

import numpy as np
import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, download, records

from tests.datasets.odd_images import digest as all_digests


def sha256(content):
  return hashlib.sha256(content).hexdigest()


class Server(http.server.HTTPServer):
  """Serves `files`.

  Attributes:
    files: name -> content.
    cuts: how many bytes of the body each of the next answers has before the connection closes.
    delay: seconds before an answer.
    requests: the name in each request so far.
  """

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.files, self.cuts, self.requests, self.delay = {}, [], [], 0.0

  def url(self, name):
    return f'http://127.0.0.1:{self.server_port}/{name}'


class Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    server, name = self.server, self.path[1:]
    server.requests.append(name)
    time.sleep(server.delay)
    if name not in server.files:
      self.send_error(404)
      return
    content = server.files[name]
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client gave up
      self.send_response(200)
      self.send_header('Content-Length', str(len(content)))
      self.end_headers()
      self.wfile.write(content[: server.cuts.pop(0)] if server.cuts else content)

  def log_message(self, *args):
    pass


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


def check(dataset_dir, split, name, labels, pixels):
  """Whether a split holds just these numbered images; pixels are [N, height, width, C]."""
  found = read(dataset_dir, split, name)
  assert sorted(found) == [f'{split}_{i:05d}.png' for i in range(len(pixels))]
  for i, filename in enumerate(sorted(found)):
    assert found[filename][0] == labels[i]
    np.testing.assert_array_equal(found[filename][1], pixels[i])


def digest(folder):
  """Name -> SHA-256 of the shards and dataset.json; not of the report, which names the source."""
  return {name: d for name, d in all_digests(folder).items() if name != conversion.REPORT_FILE}


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
  return download.Download(server.url(original.name), sha256(content))


def converting(make_plan, *kind, **arguments):
  return functools.partial(conversion.convert, functools.partial(make_plan, *kind, **arguments))


def left_in(folder):
  return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
