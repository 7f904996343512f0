"""TFLite: a file for LiteRT, on phones and small devices; takes arrays, one image at a time."""

import contextlib
import faulthandler
import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception.export.classifier import (
  Classifier,
  Inputs,
  Outputs,
  Task,
  described_decisions,
  name_outputs,
)
from slim_inception.preprocessing.normalization import Normalization

FILE = 'model.tflite'
# A probability of 1 where decisions are made in integers: of uint8 nothing is lost, and sums of
# probabilities and penalties stay below 2^31.
_ONE = {'int8': 1 << 16, 'float16': 1 << 22}


def write(task: Task, folder: Path) -> dict[str, Any]:
  """Writes model.tflite into `folder`; returns what export.json says of its input and output.

  The batch is fixed at one: accelerators take no other.
  """
  classifier, int8 = task.classifier, task.quantize == 'int8'
  images = tf.TensorSpec([1, *classifier.image_shape], tf.float32, 'images')
  score = classifier.score
  if task.quantize != 'none':
    score = functools.partial(_score_in_integers, task.quantize, classifier)
  classify = tf.function(score, [images], autograph=False)
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [classify.get_concrete_function()], classifier
  )
  if task.quantize != 'none':
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
  if task.quantize == 'float16':
    converter.target_spec.supported_types = [tf.float16]
  if int8:
    converter.representative_dataset = lambda: _calibration(
      task.calibration(), classifier.preprocessing.normalization
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
  with _quiet():
    content = converter.convert()
  (folder / FILE).write_bytes(content)
  runner = _runner(folder)
  return {
    'input': _describe('images', runner.get_input_details()),
    'output': _describe('probabilities', runner.get_output_details()),
    'decisions': described_decisions(runner.get_output_details()),
  }


def read(folder: Path) -> list[Callable[[Inputs], Outputs]]:
  """What model.tflite gives, through LiteRT's interpreter."""
  return [read_with(folder)]


def read_with(folder: Path, own_kernels: bool = False) -> Callable[[Inputs], Outputs]:
  """What model.tflite gives, through LiteRT's interpreter.

  Args:
    folder: of the export.
    own_kernels: whether LiteRT computes all with kernels of its own; else XNNPACK computes what it
      can.
  """
  runner = _runner(folder, own_kernels)
  details = runner.get_input_details()['images']

  def outputs(inputs: Inputs) -> Outputs:
    batches = (quantize(image[np.newaxis], details) for image in inputs.images)
    with _quiet():
      rows = [runner(images=batch) for batch in batches]
    return _named(folder, rows, runner.get_output_details())

  return outputs


def read_by(
  folder: Path, compute: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> Callable[[Inputs], Outputs]:
  """What model.tflite gives by another program.

  LiteRT tells names and quantization.

  Args:
    folder: of the export.
    compute: gives for an input [1, size, size, C] {name of a tensor: its value}.
  """
  runner = _runner(folder)
  details, of_outputs = runner.get_input_details()['images'], runner.get_output_details()

  def outputs(inputs: Inputs) -> Outputs:
    tensors = [compute(quantize(image[np.newaxis], details)) for image in inputs.images]
    rows = [{name: of[d['name']] for name, d in of_outputs.items()} for of in tensors]
    return _named(folder, rows, of_outputs)

  return outputs


def _named(
  folder: Path, rows: Sequence[Mapping[str, np.ndarray]], details: Mapping[str, dict[str, Any]]
) -> Outputs:
  """Outputs of batches of one, {name: [1, ...]}, as those of all images."""
  values = {name: np.concatenate([row[name] for row in rows]) for name in details}
  return name_outputs(folder, {k: dequantize(v, details[k]) for k, v in values.items()})


def quantize(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
  """Numbers as an input takes them, whose details LiteRT gives: float32 is left as it is."""
  if details['dtype'] == np.float32:
    return values
  scale, zero_point = details['quantization']
  limits = np.iinfo(details['dtype'])
  whole = np.round(values / scale + zero_point)
  return whole.clip(limits.min, limits.max).astype(details['dtype'])


def dequantize(values: np.ndarray, details: dict[str, Any]) -> np.ndarray:
  """The numbers that an output means, whose details LiteRT gives: float32, or bool."""
  if details['dtype'] in (np.float32, np.bool_):
    return values
  scale, zero_point = details['quantization']
  return (values.astype(np.float32) - zero_point) * np.float32(scale)


def _score_in_integers(
  quantize: str, classifier: Classifier, images: tf.Tensor
) -> dict[str, tf.Tensor]:
  """`Classifier.score` whose decisions are made in int32.

  The converter would round thresholds as it does weights: to 256 steps, of sums of probabilities
  too, or to float16. It leaves integers alone, and floor division, which makes them.
  """
  probabilities, one = classifier.probabilities(images), _ONE[quantize]
  numerator, unit = probabilities, 1 / one
  if quantize == 'float16':  # which has 2^-14 as its least normal number
    numerator, unit = probabilities * 2.0**10, unit * 2.0**10
  whole = tf.cast(tf.math.floordiv(numerator, np.float32(unit)), tf.int32)
  return {'probabilities': probabilities, **classifier.decisions(whole, one)}


def _calibration(
  images: Iterator[np.ndarray], normalization: Normalization
) -> Iterator[list[np.ndarray]]:
  """Batches of one. The first has a black and a white spot, so that the input's range is all of it.

  Then, where all channels have the same range, a step of the uint8 input is a step of a pixel.
  """
  for i, image in enumerate(images):
    if i == 0:
      image = image.copy()
      image[0, 0], image[0, 1] = normalization.value_range
    yield [image[np.newaxis]]


def _runner(folder: Path, own_kernels: bool = False) -> Any:
  from ai_edge_litert.interpreter import Interpreter, OpResolverType  # of the extra "tflite"

  kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if own_kernels else OpResolverType.AUTO
  interpreter = Interpreter(model_path=str(folder / FILE), experimental_op_resolver_type=kernels)
  return interpreter.get_signature_runner('serving_default')


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps what C++ says on stderr to itself, unless an error follows: then all of it is shown.

  The converter prints the values of its enums, the interpreter which delegate it has made. Python's
  own lines, those of progress among them, go where they always go.
  """
  handler = logging.get_absl_handler().python_handler
  sys.stderr.flush()
  with (
    tempfile.TemporaryFile() as said,
    os.fdopen(os.dup(2), 'w', errors='backslashreplace') as real,
    contextlib.redirect_stderr(real),
    contextlib.ExitStack() as stack,
  ):
    stack.callback(handler.setStream, handler.setStream(real))
    if not faulthandler.is_enabled():  # says on the real stderr where the process was aborted
      faulthandler.enable(real)
      stack.callback(faulthandler.disable)
    os.dup2(said.fileno(), 2)
    stack.callback(os.dup2, real.fileno(), 2)
    try:
      yield
    except BaseException:
      said.seek(0)
      real.write(said.read().decode(errors='replace'))
      raise


def _describe(name: str, tensors: dict[str, dict[str, Any]]) -> dict[str, Any]:
  details = tensors[name]
  described = {
    'name': name,
    'shape': details['shape'].tolist(),
    'type': np.dtype(details['dtype']).name,
  }
  if details['dtype'] != np.float32:
    scale, zero_point = details['quantization']
    described |= {'scale': float(scale), 'zero_point': int(zero_point)}
  return described
