"""Serves a SavedModel over HTTP, in the REST shape of TensorFlow Serving.

  python -m examples.serve models/flowers --port=8501
  echo "{\\"instances\\": [{\\"b64\\": \\"$(base64 -w0 rose.jpg)\\"}]}" |
    curl -d @- http://127.0.0.1:8501/v1/models/flowers:predict

models/flowers holds versions, folders with a number for a name; the highest is served. What it
answers (https://www.tensorflow.org/tfx/serving/api_rest):

  GET   /v1/models/NAME[/versions/V]           is it there
  GET   /v1/models/NAME[/versions/V]/metadata  inputs and outputs of its signatures
  POST  /v1/models/NAME[/versions/V]:predict   {"instances": [...]} or {"inputs": ...}

It needs TensorFlow and nothing else, waits for no second request to make a batch, and knows neither
gRPC nor new versions while it runs: for those, TensorFlow Serving takes the same folder.
"""

import argparse
import base64
import binascii
import json
import re
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import tensorflow as tf

_MOST_BYTES = 64 << 20  # of a request
_SECONDS = 60  # that a client may be silent
_PATH = re.compile(
  r'/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d+))?(?P<verb>|/metadata|:predict)'
)
_TYPES = {'float32': 'DT_FLOAT', 'float64': 'DT_DOUBLE', 'float16': 'DT_HALF'}  # else DT_<name>


class Refused(Exception):
  """A request that gets an error for an answer."""

  def __init__(self, status: HTTPStatus, message: str):
    super().__init__(message)
    self.status = status


class Served:
  """The highest version of a model.

  Args:
    folder: has a folder for each version, whose name is a number.
    name: in addresses; the folder's by default.

  Raises:
    ValueError: there is no version.
    OSError: the folder or the version can not be read.
  """

  def __init__(self, folder: str | Path, name: str | None = None):
    folder = Path(folder)
    versions = [path.parent for path in folder.glob('*/saved_model.pb')]
    versions = [path for path in versions if re.fullmatch('[0-9]+', path.name)]
    if not versions:
      raise ValueError(
        f'{folder} has no folder with a number for a name and a saved_model.pb in it'
      )
    newest = max(versions, key=lambda path: int(path.name))
    self.name = name or folder.resolve().name
    self.version = str(int(newest.name))
    self._loaded = tf.saved_model.load(str(newest))
    self._signatures = self._loaded.signatures

  def status(self) -> dict[str, Any]:
    """The answer to whether it is there."""
    state = {'state': 'AVAILABLE', 'status': {'error_code': 'OK', 'error_message': ''}}
    return {'model_version_status': [{'version': self.version, **state}]}

  def metadata(self) -> dict[str, Any]:
    """The signatures, without the names of tensors in the graph."""
    signatures = {
      name: {
        'inputs': {name: _describe(spec) for name, spec in _inputs(signature).items()},
        'outputs': {name: _describe(t) for name, t in signature.structured_outputs.items()},
        'method_name': 'tensorflow/serving/predict',
      }
      for name, signature in self._signatures.items()
    }
    return {
      'model_spec': {'name': self.name, 'signature_name': '', 'version': self.version},
      'metadata': {'signature_def': {'signature_def': signatures}},
    }

  def predict(self, request: Any) -> dict[str, Any]:
    """The answer to a request, by rows (`instances`) or by columns (`inputs`) as it asks.

    Raises:
      Refused: the request is not as it should be.
    """
    if not isinstance(request, dict) or ('instances' in request) == ('inputs' in request):
      raise _bad('expected a JSON object with either "instances" or "inputs"')
    name = request.get('signature_name') or 'serving_default'
    if name not in self._signatures:
      raise _bad(f'no signature {name!r}; there are {", ".join(self._signatures)}')
    specs = _inputs(self._signatures[name])
    by_rows = 'instances' in request
    columns = (_columns if by_rows else _named)(
      request['instances' if by_rows else 'inputs'], specs
    )
    tensors = {name: _tensor(name, columns[name], spec) for name, spec in specs.items()}
    try:
      outputs = self._signatures[name](**tensors)
    except tf.errors.InvalidArgumentError as error:  # e.g. a file that is no image
      raise _bad(_reason(error)) from error
    found = {name: _plain(name, tensor.numpy().tolist()) for name, tensor in outputs.items()}
    if not by_rows:
      return {'outputs': next(iter(found.values())) if len(found) == 1 else found}
    rows = list(zip(*found.values(), strict=True))
    if len(found) == 1:
      return {'predictions': [value for (value,) in rows]}
    return {'predictions': [dict(zip(found, row, strict=True)) for row in rows]}


def _bad(message: str) -> Refused:
  return Refused(HTTPStatus.BAD_REQUEST, message)


def _reason(error: tf.errors.OpError) -> str:
  """The line of TensorFlow's message that says what is wrong; the others say where in the graph."""
  return error.message.split('\n\t [[')[0].splitlines()[-1]


def _inputs(signature: Any) -> dict[str, tf.TensorSpec]:
  return signature.structured_input_signature[1]


def _describe(spec: tf.TensorSpec) -> dict[str, Any]:
  sizes = [{'size': str(-1 if size is None else size), 'name': ''} for size in spec.shape]
  kind = _TYPES.get(spec.dtype.name, f'DT_{spec.dtype.name.upper()}')
  return {'dtype': kind, 'tensor_shape': {'dim': sizes, 'unknown_rank': False}}


def _is_named(value: Any) -> bool:
  return isinstance(value, dict) and set(value) != {'b64'}


def _named(values: Any, specs: Mapping[str, Any]) -> dict[str, Any]:
  """{input: value}; where there is but one input, its value may come without the name."""
  if not _is_named(values) and len(specs) == 1:
    return {name: values for name in specs}
  if not _is_named(values) or set(values) != set(specs):
    raise _bad(f'expected the inputs {", ".join(specs)}')
  return values


def _columns(instances: Any, specs: Mapping[str, Any]) -> dict[str, list]:
  """{input: the values of all instances}."""
  if not isinstance(instances, list) or not instances:
    raise _bad('"instances" must be a list of at least one')
  rows = [_named(instance, specs) for instance in instances]
  return {name: [row[name] for row in rows] for name in specs}


def _tensor(name: str, value: Any, spec: tf.TensorSpec) -> tf.Tensor:
  try:
    tensor = tf.constant(_decode(value), spec.dtype)
  except (ValueError, TypeError) as error:
    raise _bad(f'{name} can not be read as {spec.dtype.name}: {error}'.splitlines()[0]) from error
  if not spec.shape.is_compatible_with(tensor.shape):
    raise _bad(f'{name} is {list(tensor.shape)}, expected {list(spec.shape)}')
  return tensor


def _decode(value: Any) -> Any:
  """The value with bytes in place of every {"b64": ...}."""
  if isinstance(value, list):
    return [_decode(item) for item in value]
  if isinstance(value, dict):
    try:
      return base64.b64decode(value['b64'], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
      raise ValueError('expected {"b64": "<base64>"}') from error
  return value


def _plain(name: str, value: Any) -> Any:
  """What JSON can hold: bytes as text, or in base64 where the output's name ends in _bytes."""
  if isinstance(value, list):
    return [_plain(name, item) for item in value]
  if not isinstance(value, bytes):
    return value
  if name.endswith('_bytes'):
    return {'b64': base64.b64encode(value).decode()}
  return value.decode(errors='replace')


class Handler(BaseHTTPRequestHandler):
  """Answers the requests of one connection."""

  protocol_version = 'HTTP/1.1'  # a connection serves many requests
  timeout = _SECONDS
  served: Served  # of the class that `make_server` makes

  def do_GET(self) -> None:
    self._reply(self._get)

  def do_POST(self) -> None:
    self._reply(self._post)

  def _get(self) -> dict[str, Any]:
    verb = self._verb()
    if verb == ':predict':
      raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, ':predict takes POST')
    return self.served.metadata() if verb else self.served.status()

  def _post(self) -> dict[str, Any]:
    body = self._body()
    if self._verb() != ':predict':
      raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, 'POST is for :predict')
    try:
      request = json.loads(body)
    except ValueError as error:
      raise _bad(f'the request is no JSON: {error}') from error
    return self.served.predict(request)

  def _verb(self) -> str:
    match = _PATH.fullmatch(self.path.partition('?')[0])
    if match is None:
      raise Refused(HTTPStatus.NOT_FOUND, f'no such address: {self.path}')
    name, version = match['name'], match['version']
    if name != self.served.name or version not in (None, self.served.version):
      wanted = name if version is None else f'{name} version {version}'
      found = f'{self.served.name} version {self.served.version}'
      raise Refused(HTTPStatus.NOT_FOUND, f'Servable not found: {wanted}; there is {found}')
    return match['verb']

  def _body(self) -> bytes:
    length = self.headers.get('Content-Length', '')
    self.close_connection = True  # unless all of it is read
    if not length.isdecimal():
      raise Refused(HTTPStatus.LENGTH_REQUIRED, 'the request needs a Content-Length')
    if int(length) > _MOST_BYTES:
      message = f'the request has {length} bytes; at most {_MOST_BYTES} are taken'
      raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    body = self.rfile.read(int(length))
    self.close_connection = False
    return body

  def _reply(self, answer: Callable[[], dict[str, Any]]) -> None:
    try:
      status, content = HTTPStatus.OK, answer()
    except Refused as error:
      status, content = error.status, {'error': str(error)}
    except Exception as error:  # the server's own fault: said to both sides, and it goes on
      self.log_error('%r', error)
      status, content = HTTPStatus.INTERNAL_SERVER_ERROR, {'error': f'{type(error).__name__}'}
    text = json.dumps(content).encode()
    self.send_response(status)
    self.send_header('Content-Type', 'application/json')
    self.send_header('Content-Length', str(len(text)))
    if self.close_connection:
      self.send_header('Connection', 'close')
    self.end_headers()
    self.wfile.write(text)


def make_server(served: Served, host: str = '127.0.0.1', port: int = 8501) -> ThreadingHTTPServer:
  """A server with a thread for each connection; `serve_forever` starts it; port 0: a free one."""
  handler = type('ServedHandler', (Handler,), {'served': served})
  return ThreadingHTTPServer((host, port), handler)


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', help='has a folder for each version: models/flowers for .../1')
  parser.add_argument('--name', help="in addresses; the folder's name by default")
  parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 answers other machines too')
  parser.add_argument('--port', type=int, default=8501)
  values = parser.parse_args()
  try:
    served = Served(values.folder, values.name)
    server = make_server(served, values.host, values.port)
  except (ValueError, OSError, OverflowError) as error:
    sys.exit(f'serve: {error}')
  print(f'{served.name} version {served.version}: http://{values.host}:{server.server_port}')
  with server:
    try:
      server.serve_forever()
    except KeyboardInterrupt:
      sys.exit(130)


if __name__ == '__main__':
  main()
