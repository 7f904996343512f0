"""Serves a SavedModel over HTTP, at the REST addresses of TensorFlow Serving: see docs/export.md.

python -m examples.serve models/flowers --port=8501   # the highest numbered folder in it
"""

import argparse
import json
import os
from base64 import b64decode
from pathlib import Path

import anyio
import numpy as np
import tensorflow as tf
import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response

ERRORS = HTTPException, ValueError, TypeError, OverflowError, RecursionError, tf.errors.OpError


def decoded(value: dict) -> dict | bytes:
  """The bytes of {"b64": ...}; whatever else as it is."""
  if set(value) != {'b64'}:
    return value
  try:
    return b64decode(value['b64'], validate=True)
  except (ValueError, TypeError) as error:
    raise ValueError(
      'expected {"b64": "<base64>"}: with + and /, padded, without line breaks or a prefix such as '
      'data:'
    ) from error


def compute(signatures: dict, body: bytes) -> dict:
  """The answer to {"instances": [...], "signature_name": ...}; one of `ERRORS` if it is wrong."""
  request = json.loads(body, object_hook=decoded)
  rows = request.get('instances') if isinstance(request, dict) else None
  if not rows or not isinstance(rows, list):
    raise ValueError('expected {"instances": [...]} with at least one instance')
  name = request.get('signature_name', 'serving_default')
  if name not in list(signatures):
    raise ValueError(f'no signature {name!r}; there are {", ".join(signatures)}')
  specs, tensors = signatures[name].structured_input_signature[1], {}
  if len(specs) == 1 and not isinstance(rows[0], dict):
    rows = [dict.fromkeys(specs, row) for row in rows]
  if any(not isinstance(row, dict) or set(row) != set(specs) for row in rows):
    raise ValueError(f'each instance must have the inputs {", ".join(specs)}')
  for key, spec in specs.items():
    # By way of NumPy: tf.constant ends the whole process if lists are nested more than 254 deep.
    array = np.array([row[key] for row in rows], spec.dtype.as_numpy_dtype)
    spec.shape.assert_is_compatible_with(array.shape)
    tensors[key] = tf.constant(array, spec.dtype)
  outputs = {key: output.numpy().tolist() for key, output in signatures[name](**tensors).items()}
  answers = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
  return {'predictions': answers if len(outputs) > 1 else next(iter(outputs.values()))}


def as_json(value: bytes | tf.TensorSpec | tf.types.experimental.ConcreteFunction) -> str | dict:
  """Bytes as text; signatures, their inputs and outputs as TensorFlow Serving describes them."""
  if isinstance(value, bytes):
    return value.decode(errors='replace')
  if isinstance(value, tf.TensorSpec):
    proto = json_format.MessageToDict(value.experimental_as_proto())
    return {'dtype': proto['dtype'], 'tensor_shape': proto['shape']}
  return {'inputs': value.structured_input_signature[1], 'outputs': value.structured_outputs}


def answer(content: dict, status: int = 200) -> Response:
  return Response(json.dumps(content, default=as_json), status, media_type='application/json')


def refuse(_, error: Exception) -> Response:
  message = getattr(error, 'message', getattr(error, 'detail', str(error)))
  line = message.split('\n\t [[')[0].strip().rpartition('\n')[2]  # then: where in the graph
  line = line.removeprefix('assertion failed: [').removesuffix(']')
  return answer({'error': line}, getattr(error, 'status_code', 400))


def main(folder: Path, workers: int, **options) -> None:
  """Serves; at most `workers` predictions are computed at a time, others wait."""
  versions = [int(path.parent.name) for path in folder.glob('[0-9]*/saved_model.pb')]
  if not versions:
    raise SystemExit(f'serve: {folder}: expected a folder such as 1 with a saved_model.pb in it')
  name, version = os.path.basename(os.path.abspath(folder)), str(max(versions))
  model, limiter = tf.saved_model.load(str(folder / version)), anyio.CapacityLimiter(workers)
  signatures = dict(model.signatures)
  ok = {'error_code': 'OK', 'error_message': ''}
  state = {'version': version, 'state': 'AVAILABLE', 'status': ok}
  spec = {'name': name, 'signature_name': '', 'version': version}
  metadata = {'model_spec': spec, 'metadata': {'signature_def': {'signature_def': signatures}}}

  async def predict(request):
    body = await request.body()
    return answer(await anyio.to_thread.run_sync(compute, signatures, body, limiter=limiter))

  app = Starlette(exception_handlers=dict.fromkeys(ERRORS, refuse), max_body_size=32 << 20)
  app.add_route(f'/v1/models/{name}', lambda _: answer({'model_version_status': [state]}))
  app.add_route(f'/v1/models/{name}/metadata', lambda _: answer(metadata))
  app.add_route(f'/v1/models/{name}:predict', predict, ['POST'])
  uvicorn.run(app, limit_concurrency=1000, **options)  # further connections are answered 503


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', type=Path, help='has a folder for each version, such as 1')
  parser.add_argument('--host', default='127.0.0.1', help='0.0.0.0 answers other machines too')
  parser.add_argument('--port', type=int, default=8501)
  parser.add_argument('--workers', type=int, default=2, help='predictions at the same time')
  main(**vars(parser.parse_args()))
