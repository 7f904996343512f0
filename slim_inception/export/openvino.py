"""OpenVINO, Intel's runtime: it reads ONNX and TFLite files, and has kernels of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import logging as absl_logging

from slim_inception.export import onnx, tflite
from slim_inception.export.classifier import Inputs, Outputs, name_outputs

# On processors that have bfloat16 it would compute with that by itself.
_OPTIONS = {'INFERENCE_PRECISION_HINT': 'f32'}


def read_onnx(folder: Path) -> Callable[[Inputs], Outputs]:
  """What model.onnx gives."""
  compiled = _compile(folder / onnx.FILE)
  return lambda inputs: name_outputs(folder, compiled(inputs.images))


def read_tflite(folder: Path) -> Callable[[Inputs], Outputs]:
  """What model.tflite gives."""
  return tflite.read_by(folder, _compile(folder / tflite.FILE))


def _compile(path: Path) -> Callable[[Any], dict[str, Any]]:
  """A function from images to {name of an output: its value}."""
  import openvino  # of the extra "openvino"

  absl_logging.use_absl_handler()  # which the import takes away
  core = openvino.Core()
  compiled = core.compile_model(core.read_model(path), 'CPU', _OPTIONS)

  def compute(images: Any) -> dict[str, Any]:
    values = compiled(images)
    return {name: values[output] for output in compiled.outputs for name in output.names}

  return compute
