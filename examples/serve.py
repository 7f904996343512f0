"""Serves a SavedModel over HTTP, at the REST addresses of TensorFlow Serving.

  python -m examples.serve models/flowers --port=8501
  echo "{\\"instances\\": [{\\"b64\\": \\"$(base64 -w0 rose.jpg)\\"}]}" |
    curl -d @- http://127.0.0.1:8501/v1/models/flowers:predict

models/flowers has a folder for each version, named by a number; the highest is served. For requests
in columns ("inputs"), gRPC and batching, TensorFlow Serving takes the same folder.
"""

import argparse
import base64
import json
from pathlib import Path

import anyio
import numpy as np
import tensorflow as tf
import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MAX_BODY_BYTES = 32 << 20
MAX_CONNECTIONS = 1000  # further ones are answered 503


def compute(signatures: dict, body: bytes | bytearray) -> dict:
  """The answer to {"instances": [...], "signature_name": ...}; ValueError if that is wrong."""
  request = json.loads(body, object_hook=_decode_base64)
  rows = request.get('instances') if isinstance(request, dict) else None
  if not rows or not isinstance(rows, list):
    raise ValueError('expected {"instances": [...]} with at least one instance')
  name = request.get('signature_name', 'serving_default')
  if name not in list(signatures):
    raise ValueError(f'no signature {name!r}; there are {", ".join(signatures)}')
  specs = signatures[name].structured_input_signature[1]
  if len(specs) == 1 and not isinstance(rows[0], dict):
    rows = [dict.fromkeys(specs, row) for row in rows]
  if any(not isinstance(row, dict) or set(row) != set(specs) for row in rows):
    raise ValueError(f'each instance must have the inputs {", ".join(specs)}')
  tensors = {key: _tensor([row[key] for row in rows], spec) for key, spec in specs.items()}
  outputs = {key: output.numpy().tolist() for key, output in signatures[name](**tensors).items()}
  if len(outputs) == 1:
    return {'predictions': next(iter(outputs.values()))}
  answers = zip(*outputs.values(), strict=True)
  return {'predictions': [dict(zip(outputs, answer, strict=True)) for answer in answers]}


def _decode_base64(value: dict) -> dict | bytes:
  return base64.b64decode(value['b64'], validate=True) if set(value) == {'b64'} else value


def _tensor(values: list, spec: tf.TensorSpec) -> tf.Tensor:
  # By way of NumPy: tf.constant ends the whole process if lists are nested more than 254 deep.
  array = np.array(values, spec.dtype.as_numpy_dtype)
  if not spec.shape.is_compatible_with(array.shape):
    raise ValueError(f'{spec.name} has the shape {array.shape}, expected {spec.shape}')
  return tf.constant(array, spec.dtype)


def describe(tensors: dict) -> dict:
  """The inputs or outputs of a signature as TensorFlow Serving's metadata has them."""
  specs = {key: tf.TensorSpec(tensor.shape, tensor.dtype) for key, tensor in tensors.items()}
  protos = {k: json_format.MessageToDict(s.experimental_as_proto()) for k, s in specs.items()}
  return {key: {'dtype': p['dtype'], 'tensor_shape': p['shape']} for key, p in protos.items()}


async def read_body(request: Request) -> bytearray:
  if {'content-length', 'transfer-encoding'} <= set(request.headers):
    raise HTTPException(400, 'Content-Length and Transfer-Encoding exclude each other')
  body = bytearray()
  async for chunk in request.stream():
    body += chunk
    if len(body) > MAX_BODY_BYTES:
      raise HTTPException(413, f'a request may have at most {MAX_BODY_BYTES} bytes')
  return body


def answer(content: dict, status: int = 200) -> Response:
  text = json.dumps(content, default=lambda value: value.decode(errors='replace'))
  headers = {'Connection': 'close'} if status >= 400 else None  # the body may not have been read
  return Response(text, status, headers, 'application/json')


def make_app(folder: Path, workers: int) -> Starlette:
  """The web application; at most `workers` predictions are computed at a time, others wait."""
  versions = [int(path.parent.name) for path in folder.glob('[0-9]*/saved_model.pb')]
  if not versions:
    raise SystemExit(f'serve: {folder}: expected a folder such as 1 with a saved_model.pb in it')
  name, version = folder.resolve().name, str(max(versions))
  signatures = (model := tf.saved_model.load(str(folder / version))).signatures
  limiter = anyio.CapacityLimiter(workers)
  ok = {'error_code': 'OK', 'error_message': ''}
  state = {'version': version, 'state': 'AVAILABLE', 'status': ok}
  described = {
    key: {
      'inputs': describe(s.structured_input_signature[1]),
      'outputs': describe(s.structured_outputs),
    }
    for key, s in signatures.items()
  }
  metadata = {
    'model_spec': {'name': name, 'signature_name': '', 'version': version},
    'metadata': {'signature_def': {'signature_def': described}},
  }

  async def predict(request: Request) -> Response:
    body = await read_body(request)
    try:
      return answer(await anyio.to_thread.run_sync(compute, signatures, body, limiter=limiter))
    except (ValueError, TypeError, OverflowError, RecursionError, tf.errors.OpError) as error:
      message = getattr(error, 'message', str(error)).split('\n\t [[')[
        0
      ]  # then: where in the graph
      raise HTTPException(400, message.strip().rpartition('\n')[2]) from error

  routes = [
    Route(f'/v1/models/{name}', lambda request: answer({'model_version_status': [state]})),
    Route(f'/v1/models/{name}/metadata', lambda request: answer(metadata)),
    Route(f'/v1/models/{name}:predict', predict, methods=['POST']),
  ]
  app = Starlette(routes=routes)
  app.add_exception_handler(
    HTTPException, lambda request, e: answer({'error': e.detail}, e.status_code)
  )
  app.state.model = model  # keeps the variables of the signatures alive
  return app


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('folder', type=Path, help='has a folder for each version, such as 1')
  parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 answers other machines too')
  parser.add_argument('--port', type=int, default=8501)
  parser.add_argument('--workers', type=int, default=2, help='predictions at the same time')
  flags = parser.parse_args()
  app = make_app(flags.folder, flags.workers)
  uvicorn.run(app, host=flags.host, port=flags.port, limit_concurrency=MAX_CONNECTIONS)


if __name__ == '__main__':
  main()
