"""The REST server as it is started by users, over real connections."""

import base64
import contextlib
import http.client
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorflow as tf

pytestmark = pytest.mark.integration

for module in ('starlette', 'uvicorn'):
  pytest.importorskip(module, reason="needs pip install '.[serve]'")

PATH = '/v1/models/sizes'
WORKERS = 3


class Sizes(tf.Module):
  """Answers with the size of each file, and with the most calls that ran at the same time."""

  def __init__(self):
    self.running, self.most = tf.Variable(0), tf.Variable(0)

  @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'image_bytes')])
  def sizes(self, image_bytes):
    # A name of any bytes comes out as text.
    return {'names': image_bytes, 'sizes': tf.strings.length(image_bytes)}

  @tf.function(input_signature=[tf.TensorSpec([None, 2, 2], tf.float32, 'images')])
  def total(self, images):
    images = tf.debugging.assert_all_finite(images, 'not finite')
    return {'total': tf.reduce_sum(images, (1, 2))}

  @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, 'x')])
  def busy(self, x):
    running = self.running.assign_add(1)
    self.most.assign(tf.maximum(self.most, running))
    matrix = tf.ones([200, 200])
    for _ in tf.range(50):
      matrix = matrix @ tf.ones([200, 200]) / 200
    self.running.assign_sub(1)
    return {'most': x + 0 * matrix[0, 0] + tf.cast(self.most, tf.float32)}


@pytest.fixture(scope='module')
def port(server):
  """The port of a server in a process of its own."""
  return server[0]


@pytest.fixture(scope='module')
def server(tmp_path_factory):
  """Port and process of a server."""
  folder = tmp_path_factory.mktemp('models') / 'stored'
  model = Sizes()
  signatures = {'serving_default': model.sizes, 'images': model.total, 'busy': model.busy}
  tf.saved_model.save(model, str(folder / '10'), signatures)
  (folder / '9').mkdir()
  (folder / '9' / 'saved_model.pb').write_bytes(b'older')
  (folder / '11').mkdir()  # being copied: no saved_model.pb yet
  linked = folder.parent / 'sizes'
  linked.symlink_to(folder)  # a link is called by its own name
  command = [sys.executable, '-m', 'examples.serve', linked, '--port=0', f'--workers={WORKERS}']
  with (folder / 'log').open('w+') as log:
    server = subprocess.Popen([*map(str, command)], stderr=log, stdout=log)
    try:
      for _ in range(600):
        if match := re.search(r'running on http://127.0.0.1:(\d+)', (folder / 'log').read_text()):
          break
        assert server.poll() is None, (folder / 'log').read_text()
        time.sleep(0.1)
      yield int(match[1]), server.pid
    finally:
      server.send_signal(signal.SIGINT)
      server.wait(30)


def ask(port, content=None, path=f'{PATH}:predict'):
  """Status and answer; `content` is posted, as JSON unless it is bytes."""
  body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
  connection = http.client.HTTPConnection('127.0.0.1', port, timeout=120)
  connection.request('POST' if body is not None else 'GET', path, body)
  with connection.getresponse() as response:
    answer = response.status, json.load(response)
  connection.close()
  return answer


def raw(port, text, chunk=b'', count=0):
  """The status of a request that is sent as it is, with `count` times `chunk` behind it."""
  with socket.create_connection(('127.0.0.1', port), 60) as connection:
    connection.sendall(f'POST {PATH}:predict HTTP/1.1\r\nHost: a\r\n{text}'.encode())
    try:
      for _ in range(count):
        connection.sendall(chunk)
    except ConnectionError:  # it has answered and closed
      pass
    return int(connection.makefile('rb').readline().split()[1])


def b64(data):
  return {'b64': base64.b64encode(data).decode()}


def test_predictions_status_and_metadata(port):
  answers = [{'names': 'a', 'sizes': 1}, {'names': '\ufffd\ufffd', 'sizes': 2}]
  for instances in ([b64(b'a'), b64(b'\xff\xff')], ['a', {'b64': '//8='}]):
    assert ask(port, {'instances': instances}) == (200, {'predictions': answers})
  named = [{'image_bytes': b64(b'a')}]
  assert ask(port, {'instances': named}) == (200, {'predictions': answers[:1]})
  arrays = {'signature_name': 'images', 'instances': [[[1, 2], [3, 4.5]]]}
  assert ask(port, arrays) == (200, {'predictions': [10.5]})  # one output has no name
  status = {'state': 'AVAILABLE', 'status': {'error_code': 'OK', 'error_message': ''}}
  assert ask(port, path=PATH) == (200, {'model_version_status': [{'version': '10', **status}]})
  code, answer = ask(port, path=f'{PATH}/metadata')
  assert code == 200
  assert answer['model_spec'] == {'name': 'sizes', 'signature_name': '', 'version': '10'}
  described = answer['metadata']['signature_def']['signature_def']
  assert set(described) == {'serving_default', 'images', 'busy'}
  assert described['images']['inputs']['images'] == {
    'dtype': 'DT_FLOAT',
    'tensor_shape': {'dim': [{'size': '-1'}, {'size': '2'}, {'size': '2'}]},
  }
  assert described['serving_default']['outputs']['sizes']['dtype'] == 'DT_INT32'


def nested(depth):
  return b'{"instances": [%s1%s]}' % (b'[' * depth, b']' * depth)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'{"instances": [', ''),
    (b'\xff\xfe', ''),
    (nested(100_000), ''),
    (nested(300), ''),  # tf.constant would end the process
    (nested(30), ''),
    ([], 'expected {"instances": [...]}'),
    ({'instances': []}, 'expected {"instances": [...]}'),
    ({'instances': {'b64': 'aaaa'}}, 'expected {"instances": [...]}'),
    ({'instances': [{'jpeg': 'x'}]}, 'each instance must have the inputs image_bytes'),
    ({'instances': [{'b64': '?'}]}, 'expected {"b64": "<base64>"}: with + and /, padded'),
    ({'instances': [{'b64': 'aa=='}, {'b64': '_-8='}]}, 'expected {"b64": "<base64>"}'),
    ({'instances': [{'b64': 'YWFh\nYWFh'}]}, 'without line breaks'),
    ({'instances': [{'b64': 'data:image/png;base64,YWFh'}]}, 'or a prefix such as data:'),
    ({'instances': [{'b64': 7}]}, 'expected {"b64": "<base64>"}'),
    ({'instances': [1.5]}, ''),
    ({'instances': [None]}, ''),
    ({'instances': ['a', {'image_bytes': 'a'}]}, ''),
    ({'signature_name': 'x', 'instances': [1]}, "no signature 'x'; there are "),
    ({'signature_name': {}, 'instances': [1]}, 'no signature {}'),
    ({'signature_name': 'images', 'instances': [[[0]]]}, '(1, 1, 1) are incompatible'),
    ({'signature_name': 'images', 'instances': [[[0], [0, 1]]]}, ''),
    ({'signature_name': 'images', 'instances': [[[float('nan'), 0], [0, 1]]]}, 'not finite'),
    ({'signature_name': 'images', 'instances': [[['a', 0], [0, 1]]]}, ''),
    ({'signature_name': 'images', 'instances': [[[10**400, 0], [0, 1]]]}, ''),
  ],
  ids=lambda value: str(value)[:40],
)
def test_wrong_requests_are_answered_400(port, content, message):
  status, answer = ask(port, content)
  assert (status, list(answer)) == (400, ['error'])
  assert message in answer['error'] and '\n' not in answer['error']


def test_other_addresses_and_methods(port):
  assert ask(port, path='/v1/models/other') == (404, {'error': 'Not Found'})
  assert ask(port, {}, PATH)[0] == 405
  assert ask(port)[0] == 405


def test_200_connections_at_once_and_no_more_calls_than_workers(port):
  request = {'signature_name': 'busy', 'instances': [0.0]}
  with ThreadPoolExecutor(200) as pool:
    answers = list(pool.map(lambda _: ask(port, request), range(200)))
  assert [status for status, _ in answers] == [200] * 200
  assert 1 <= max(answer['predictions'][0] for _, answer in answers) <= WORKERS


def test_bodies_have_a_limit(port):
  megabyte = bytes(1 << 20)
  assert raw(port, f'Content-Length: {40 << 20}\r\n\r\n', megabyte, 40) == 413
  chunk = b'100000\r\n%s\r\n' % megabyte
  assert raw(port, 'Transfer-Encoding: chunked\r\n\r\n', chunk, 40) == 413


def statuses(port, request):
  """The status lines of all that comes back on one connection in which bytes are sent."""
  with socket.create_connection(('127.0.0.1', port), 60) as connection:
    connection.sendall(request)
    connection.settimeout(1)
    answer = b''
    try:
      while received := connection.recv(65536):
        answer += received
    except TimeoutError:
      pass
  return [int(status) for status in re.findall(rb'^HTTP/1.1 (\d+)', answer, re.MULTILINE)]


GET = b'GET /v1/models/sizes HTTP/1.1\r\nHost: a\r\n'
HIDDEN = b'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'
BODY = b'{"instances": ["a"]}'
POST = b'POST /v1/models/sizes:predict HTTP/1.1\r\nHost: a\r\n'


@pytest.mark.parametrize(
  ('request_bytes', 'expected'),
  [
    # A body that nobody reads is no request.
    (GET + b'Content-Length: %d\r\n\r\n' % len(HIDDEN) + HIDDEN, [200]),
    # Where a request ends must be beyond doubt (RFC 9112, 6.3).
    (POST + b'Content-Length: 20\r\nContent-Length: 0\r\n\r\n' + BODY, [400]),
    (POST + b'Content-Length: 20, 0\r\n\r\n' + BODY, [400]),
    (
      POST + b'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n' + HIDDEN,
      [400],
    ),
    (POST + b'Content-Length: ' + b'9' * 5000 + b'\r\n\r\n', [400]),
  ],
  ids=range(5),
)
def test_where_a_request_ends_is_beyond_doubt(port, request_bytes, expected):
  assert statuses(port, request_bytes) == expected


def test_idle_connections_take_no_threads(server):
  port, process = server
  with contextlib.ExitStack() as stack:
    for _ in range(300):
      stack.enter_context(socket.create_connection(('127.0.0.1', port), 60)).sendall(b'GET / HT')
    assert ask(port, {'instances': ['a']})[0] == 200
    status = pathlib.Path(f'/proc/{process}/status').read_text()
  assert int(re.search(r'^Threads:\s+(\d+)', status, re.MULTILINE)[1]) < 100
