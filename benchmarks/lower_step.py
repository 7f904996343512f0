"""Writes a net's training step, or its inference, as a program that JAX runs without TensorFlow.

  python benchmarks/lower_step.py --model_name=inception_v3 --mode=train --batch_size=128 \\
    --precision=bfloat16 --output_dir=lowered

For machines with a GPU on which TensorFlow is not installed; run_lowered.py runs it there. XLA
makes the program of a pure function, whose inputs are values of variables and whose outputs are new
values, so a machine without a GPU writes it too. Beside PROGRAM.stablehlo lies PROGRAM.json, which
says what its inputs are.

A training step is the loss (cross-entropy, with the auxiliary head where there is one, and weight
decay), its gradients, momentum SGD, and the moving averages of batch norm, on images in [-1, 1]:
that of the peers of slim-inception benchmark, without distortion, clipping or averaged weights.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from slim_inception import flags
from slim_inception.choices import PRECISIONS, net_names
from slim_inception.cli import console, quiet
from slim_inception.flags import field

AUX_WEIGHT, WEIGHT_DECAY, MOMENTUM, LEARNING_RATE = 0.4, 0.00004, 0.9, 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """What is written."""

  model_name: str = field('inception_v3', 'This net is written.', choices=net_names)
  mode: str = field(
    'train', 'The step is one of training or inference.', choices=('train', 'infer')
  )
  image_size: int | None = field(
    None, "Images have this side in pixels; by default the net's own.", at_least=1
  )
  batch_size: int = field(128, 'A step takes so many images.', at_least=1)
  precision: str = field('bfloat16', 'The net computes with this type.', choices=PRECISIONS)
  output_dir: str = field(
    'lowered', 'The program is written into this folder.', place=flags.Place.OUTPUT_FOLDER
  )


class Average:
  """A moving average of batch norm in a pure function: assigning gives it another value."""

  def __init__(self, value: Any):
    self.value = value
    self.shape = value.shape

  def __sub__(self, other: Any) -> Any:
    return self.value - other

  def assign_sub(self, delta: Any, read_value: bool = True) -> None:
    del read_value
    self.value = self.value - delta


def lower(config: Config) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
  """The program as serialized StableHLO, what it is, and the model's {variable: value}."""
  import tensorflow as tf
  from slim_inception.nets import convolution, nets_factory

  from slim_inception.bench.common import NUM_CLASSES

  model = nets_factory.create_model(config.model_name, NUM_CLASSES, image_size=config.image_size)
  if config.mode == 'infer':
    model = model.fold_batch_norm()
  variables = model.variables_by_name
  trained = [name for name, v in variables.items() if v.trainable and config.mode == 'train']
  inputs = [_spec(name, v.shape, tf.float32, _content(name)) for name, v in variables.items()]
  inputs += [_spec(f'{n}/Momentum', variables[n].shape, tf.float32, 'zeros') for n in trained]
  side = model.image_size
  images = _spec('images', (config.batch_size, side, side, 3), config.precision, 'images')
  labels = _spec('labels', (config.batch_size,), tf.int32, 'labels')
  count = len(variables)

  def step(*arguments: Any) -> list[Any]:
    *values, images, labels = arguments
    own = dict(zip(variables, values[:count], strict=True))
    if config.mode == 'infer':
      return [_run(model, own, images, training=False)[0]]
    slots = dict(zip(trained, values[count:], strict=True))
    return _train(model, own, slots, images, labels)

  compiled = tf.function(step, jit_compile=True, autograph=False)
  every = [*inputs, images, labels]
  specs = [tf.TensorSpec(one['shape'], one['dtype']) for one in every]
  with convolution.compiled_for_gpu():
    ir = compiled.experimental_get_compiler_ir(*specs)
    outputs = compiled.get_concrete_function(*specs).structured_outputs
    program = ir(stage='stablehlo_serialized', platform_name='GPU')
  facts = {
    'model_name': config.model_name,
    'mode': config.mode,
    'image_size': side,
    'batch_size': config.batch_size,
    'precision': config.precision,
    'num_classes': NUM_CLASSES,
    'num_parameters': sum(v.shape.num_elements() for v in model.trainable_variables),
    'version': f'tensorflow {tf.__version__}',
    'inputs': every,
    # The first output is the loss or the logits; the others take the place of the first inputs.
    'outputs': [_spec('', x.shape, x.dtype, '') for x in outputs],
  }
  return program, facts, {name: v.numpy() for name, v in variables.items()}


def _spec(name: str, shape: Any, dtype: Any, content: str) -> dict[str, Any]:
  import tensorflow as tf

  return {
    'name': name,
    'shape': [int(side) for side in shape],
    'dtype': tf.as_dtype(dtype).name,
    'content': content,
  }


def _content(name: str) -> str:
  """What a variable begins as where the values of this one are not taken along."""
  leaf = name.rpartition('/')[2]
  return {'gamma': 'ones', 'moving_variance': 'ones'}.get(
    leaf, 'normal' if 'weights' in leaf else 'zeros'
  )


def _run(model: Any, values: Mapping[str, Any], images: Any, training: bool) -> Any:
  """Logits and end points of the net with these values in place of its variables."""
  import tensorflow as tf
  from slim_inception.nets import layers, slim

  def replace(getter: Any, name: str, **unused: Any) -> Any:
    del getter, unused
    return values[name]

  config = model.config
  with (
    slim.arg_scope(config.arg_scope),
    slim.arg_scope([layers.dropout], seed=tf.constant([0, 0])),
    tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), custom_getter=replace),
  ):
    return config.net.network_fn(
      images, num_classes=config.num_classes, is_training=training, **config.arguments
    )


def _train(
  model: Any, values: Mapping[str, Any], slots: Mapping[str, Any], images: Any, labels: Any
) -> list[Any]:
  """The loss, and the new values of all variables and slots in their order."""
  import tensorflow as tf

  averages = {name: Average(x) for name, x in values.items() if name not in slots}
  weights = [values[name] for name in slots]

  def cross_entropy(logits: Any) -> Any:
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
    return tf.reduce_mean(losses)

  with tf.GradientTape() as tape:
    tape.watch(weights)
    logits, end_points = _run(model, {**values, **averages}, images, training=True)
    loss = cross_entropy(logits)
    if 'AuxLogits' in end_points:
      loss += AUX_WEIGHT * cross_entropy(end_points['AuxLogits'])
    decayed = [values[name] for name in slots if name in model.regularized_names]
    loss += WEIGHT_DECAY * tf.add_n([tf.nn.l2_loss(x) for x in decayed])
  gradients = dict(zip(slots, tape.gradient(loss, weights), strict=True))
  momenta = {name: MOMENTUM * slots[name] + gradients[name] for name in slots}
  new = {
    name: values[name] - LEARNING_RATE * momenta[name] if name in slots else averages[name].value
    for name in values
  }
  return [loss, *new.values(), *momenta.values()]


def define_flags() -> None:
  flags.define(Config)


def main(_: list[str]) -> None:
  config = flags.parse(Config, prepare=quiet.import_tensorflow)
  program, facts, _ = lower(config)
  folder = Path(config.output_dir)
  folder.mkdir(parents=True, exist_ok=True)
  name = f'{config.model_name}-{config.mode}-{config.batch_size}-{config.precision}'
  (folder / f'{name}.stablehlo').write_bytes(program)
  (folder / f'{name}.json').write_text(json.dumps(facts), 'utf-8')
  print(f'{folder / name}.stablehlo: {len(program) / 1e6:.1f} MB, {len(facts["inputs"])} inputs')


if __name__ == '__main__':
  console.run(sys.modules[__name__], ['lower_step', *sys.argv[1:]])
