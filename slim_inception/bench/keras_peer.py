"""Keras Applications under our clock: python keras_peer.py '{"mode": "train", ...}', see peers."""

import json
import sys

import keras
import tensorflow as tf
import timing


def main(request: dict) -> None:
  size, batch = request['image_size'], request['batch_size']
  if request['on_cpu']:
    tf.config.set_visible_devices([], 'GPU')
  if request['precision'] != 'float32':
    keras.mixed_precision.set_global_policy(f'mixed_{request["precision"]}')
  model = getattr(keras.applications, request['net'])(
    weights=None, classes=request['num_classes'], input_shape=(size, size, 3)
  )
  model.compile(
    keras.optimizers.RMSprop(0.001, momentum=0.9, epsilon=1.0),
    'sparse_categorical_crossentropy',
    jit_compile=request['compiled'],
  )
  images = tf.random.stateless_uniform((batch, size, size, 3), (0, 0), -1.0, 1.0)
  labels = tf.zeros(batch, tf.int32)

  def step():
    if request['mode'] == 'train':
      return model.train_on_batch(images, labels)
    return model.predict_on_batch(images)

  gpus = [] if request['on_cpu'] else tf.config.list_logical_devices('GPU')
  timing.serve(
    step,
    lambda result: result,  # both calls wait by themselves
    warmup_steps=request['warmup_steps'],
    facts=lambda: {
      'peak_bytes': tf.config.experimental.get_memory_info('GPU:0')['peak']
      if gpus
      else timing.peak_resident_bytes(),
      'num_parameters': sum(int(tf.size(v)) for v in model.trainable_variables),
      'version': f'keras {keras.__version__}',
    },
  )


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
