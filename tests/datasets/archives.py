"""Archives for tests of the data sets that are published as such, and what was made of them."""

import contextlib
import functools
import hashlib
import http.server
import io
import tarfile
import threading
import time

import tensorflow as tf
from slim_inception.datasets import conversion, dataset_factory, download, records


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


@contextlib.contextmanager
def serving():
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()


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
  return download.Download(server.url(original.name), sha256(content))


def converting(make_plan, *kind, **arguments):
  return functools.partial(conversion.convert, functools.partial(make_plan, *kind, **arguments))


def left_in(folder):
  return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
