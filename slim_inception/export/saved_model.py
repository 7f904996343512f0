"""SavedModel: takes files of images, or arrays, and says what is in them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from slim_inception.export import image_files
from slim_inception.export.classifier import Inputs, Outputs, Task


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
  decisions = {
    'in_set': '[N, classes] bool, whether the set has the class of a line of labels.txt',
    'abstains': '[N] bool, whether the net is too unsure',
  }
  returned = signatures['images'].get_concrete_function().structured_outputs
  outputs |= {name: text for name, text in decisions.items() if name in returned}
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
    result = loaded.signatures[signature](tf.constant(values))
    best = [name.decode() for name in result['names'][:, 0].numpy()]
    return Outputs(best, result['probabilities'].numpy(), ranked=True)

  return [
    lambda inputs: outputs('serving_default', inputs.files),
    lambda inputs: outputs('images', inputs.images),
  ]
