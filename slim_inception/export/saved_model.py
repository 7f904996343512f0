"""SavedModel: takes files of images, or arrays, and says what is in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from slim_inception.export import image_files
from slim_inception.export.classifier import (
  Inputs,
  Outputs,
  Task,
  decisions_in,
  described_decisions,
)


def write(task: Task, folder: Path) -> dict[str, Any]:
  """Writes the SavedModel into `folder`; returns what export.json says of its signatures."""
  classifier = task.classifier
  files = tf.TensorSpec([None], tf.string, 'image_bytes')
  images = tf.TensorSpec([None, *classifier.image_shape], tf.float32, 'images')
  signatures = {
    'serving_default': tf.function(classifier.classify_files, [files], autograph=False),
    'images': tf.function(classifier.classify, [images], autograph=False),
  }
  tf.saved_model.save(classifier, str(folder), signatures)
  shape = ', '.join(map(str, classifier.image_shape))
  outputs = {
    'labels': '[N, 5] int32, lines of labels.txt from 0',
    'names': '[N, 5] string',
    'probabilities': '[N, 5] float32, best first',
  }
  returned = signatures['images'].get_concrete_function().structured_outputs
  outputs |= described_decisions(returned)
  return {
    'signatures': {
      'serving_default': {'image_bytes': f'[N] string, files of {image_files.FORMATS}', **outputs},
      'images': {
        'images': f'[N, {shape}] float32, {classifier.preprocessing.normalization}',
        **outputs,
      },
    }
  }


def read(folder: Path) -> list[Callable[[Inputs], Outputs]]:
  """What the SavedModel gives by each of its signatures."""
  loaded = tf.saved_model.load(str(folder))

  def outputs(signature: str, values: list[bytes] | np.ndarray) -> Outputs:
    result = {k: v.numpy() for k, v in loaded.signatures[signature](tf.constant(values)).items()}
    best = [name.decode() for name in result['names'][:, 0]]
    decisions = decisions_in(result)
    return Outputs(best, result['labels'], result['probabilities'], True, decisions)

  return [
    lambda inputs: outputs('serving_default', inputs.files),
    lambda inputs: outputs('images', inputs.images),
  ]
