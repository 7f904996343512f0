"""The REST server over a real connection, against the SavedModel that it serves."""

import base64
import http.client
import json
import shutil
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from examples import serve
from slim_inception.export import saved_model
from slim_inception.export.classifier import Classifier, Task
from tests import records, tiny


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models') / 'colors'
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  names = ['red', 'green', 'blé']
  saved_model.write(Task(Classifier(model, names), 'none', lambda: iter(())), folder / '9')
  shutil.copytree(folder / '9', folder / '10')
  (folder / '11').mkdir()  # being copied: no saved_model.pb yet
  shutil.copytree(folder / '9', folder / 'best')
  return folder


@pytest.fixture(scope='module')
def address(folder):
  with serve.make_server(serve.Served(folder), port=0) as server:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}/v1/models/colors'
    server.shutdown()
    thread.join()


@pytest.fixture(scope='module')
def signatures(folder):
  return tf.saved_model.load(str(folder / '9')).signatures


def ask(url, content=None):
  """Status and answer; `content` is posted, as JSON unless it is bytes."""
  body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
  try:
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=60) as answer:
      return answer.status, json.load(answer)
  except urllib.error.HTTPError as error:
    with error:
      return error.code, json.load(error)


def b64(data):
  return {'b64': base64.b64encode(data).decode()}


def test_predicts_what_the_signature_does(address, signatures):
  files = [records.image(i, i) for i in range(3)]
  expected = signatures['serving_default'](tf.constant(files))
  names = [[name.decode() for name in row] for row in expected['names'].numpy()]
  rows = [
    {'names': row, 'probabilities': pytest.approx(probabilities.numpy().tolist(), abs=1e-6)}
    for row, probabilities in zip(names, expected['probabilities'], strict=True)
  ]
  alone = {'instances': [b64(file) for file in files]}
  assert ask(f'{address}:predict', alone) == (200, {'predictions': rows})
  named = {'instances': [{'image_bytes': b64(file)} for file in files]}
  assert ask(f'{address}/versions/10:predict', named) == (200, {'predictions': rows})
  for inputs in ([b64(file) for file in files], {'image_bytes': [b64(file) for file in files]}):
    status, answer = ask(f'{address}:predict', {'inputs': inputs})
    assert (status, answer['outputs']['names']) == (200, names)
    np.testing.assert_allclose(
      answer['outputs']['probabilities'], expected['probabilities'], atol=1e-6
    )


def test_takes_arrays(address, signatures):
  images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
  expected = signatures['images'](tf.constant(images))['probabilities'].numpy()
  request = {'signature_name': 'images', 'instances': images.tolist()}
  status, answer = ask(f'{address}:predict', request)
  found = [row['probabilities'] for row in answer['predictions']]
  assert status == 200
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_output_has_no_name(folder, tmp_path):
  doubler = tf.Module()
  spec = tf.TensorSpec([None], tf.string, 'file_bytes')
  twice = tf.function(lambda file_bytes: {'twice_bytes': file_bytes + file_bytes}, [spec])
  tf.saved_model.save(doubler, str(tmp_path / '1'), {'serving_default': twice})
  served = serve.Served(tmp_path, 'doubler')
  assert served.predict({'instances': [b64(b'\xff')]}) == {'predictions': [b64(b'\xff\xff')]}
  assert served.predict({'inputs': ['a', 'b']}) == {'outputs': [b64(b'aa'), b64(b'bb')]}


def test_status_and_metadata(address):
  status = {'state': 'AVAILABLE', 'status': {'error_code': 'OK', 'error_message': ''}}
  assert ask(address) == (200, {'model_version_status': [{'version': '10', **status}]})
  code, answer = ask(f'{address}/metadata')
  assert code == 200
  assert answer['model_spec'] == {'name': 'colors', 'signature_name': '', 'version': '10'}
  signatures = answer['metadata']['signature_def']['signature_def']
  assert set(signatures) == {'serving_default', 'images'}
  assert signatures['serving_default']['inputs']['image_bytes'] == {
    'dtype': 'DT_STRING',
    'tensor_shape': {'dim': [{'size': '-1', 'name': ''}], 'unknown_rank': False},
  }
  assert signatures['images']['inputs']['images']['dtype'] == 'DT_FLOAT'
  assert set(signatures['images']['outputs']) == {'names', 'probabilities'}


@pytest.mark.parametrize(
  ('path', 'content', 'status', 'message'),
  [
    (':predict', b'{"instances": [', 400, 'the request is no JSON'),
    (':predict', [], 400, 'expected a JSON object with either'),
    (':predict', {'instances': [], 'inputs': []}, 400, 'expected a JSON object with either'),
    (':predict', {'instances': []}, 400, '"instances" must be a list of at least one'),
    (':predict', {'instances': [{'jpeg': 'x'}]}, 400, 'expected the inputs image_bytes'),
    (':predict', {'instances': [{'b64': '?'}]}, 400, 'expected {"b64": "<base64>"}'),
    (':predict', {'instances': [{'b64': 'aaaa'}]}, 400, 'Unknown image file format'),
    (':predict', {'instances': [1.5]}, 400, 'image_bytes can not be read as string'),
    (':predict', {'inputs': {'b64': 'aaaa'}}, 400, 'image_bytes is [], expected [None]'),
    (':predict', {'signature_name': 'x', 'inputs': 1}, 400, "no signature 'x'; there are "),
    (
      ':predict',
      {'signature_name': 'images', 'instances': [[[[0, 0, 0]]]]},
      400,
      'images is [1, 1, 1, 3], expected [None, 32, 32, 3]',
    ),
    ('s:predict', {}, 404, 'Servable not found: colorss; there is colors version 10'),
    ('/versions/9', None, 404, 'Servable not found: colors version 9; there is'),
    (':classify', {}, 404, 'no such address: /v1/models/colors:classify'),
    (':predict', None, 405, ':predict takes POST'),
    ('', {}, 405, 'POST is for :predict'),
  ],
)
def test_what_is_wrong_is_said(address, path, content, status, message):
  found, answer = ask(address + path, content)
  assert found == status
  assert list(answer) == ['error']
  assert message in answer['error']


def test_a_connection_outlives_an_error_and_requests_have_limits(address):
  connection = http.client.HTTPConnection(address.split('/')[2], timeout=60)
  for path, status in (('/v1', 404), ('/v1/models/colors', 200)):
    connection.request('GET', path)
    answer = connection.getresponse()
    assert answer.status == status
    answer.read()
  connection.putrequest('POST', '/v1/models/colors:predict')
  connection.putheader('Content-Length', str(65 << 20))
  connection.endheaders()
  assert connection.getresponse().status == 413
  connection.close()


def test_many_at_once(address, signatures):
  files = [records.image(i, i) for i in range(16)]
  expected = signatures['serving_default'](tf.constant(files))['probabilities'].numpy()
  with ThreadPoolExecutor(8) as pool:
    answers = pool.map(lambda file: ask(f'{address}:predict', {'instances': [b64(file)]}), files)
    found = [answer['predictions'][0]['probabilities'] for _, answer in answers]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_no_version(tmp_path):
  with pytest.raises(ValueError, match='has no folder with a number for a name and a saved_mod'):
    serve.Served(tmp_path)
