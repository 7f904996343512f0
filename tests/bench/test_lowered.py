"""A step lowered by TensorFlow and run by JAX is the model's own."""

import functools
import importlib.util
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory

from tests import tiny

pytestmark = pytest.mark.integration

_SCRIPTS = pathlib.Path(__file__).parents[2] / 'benchmarks'


def script(name):
  spec = importlib.util.spec_from_file_location(name, _SCRIPTS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


lower_step = script('lower_step')
CONFIG = lower_step.Config(model_name=tiny.NAME, batch_size=3, precision='float32')
without_dropout = functools.partial(nets_factory.create_model, dropout_keep_prob=1.0)


@pytest.fixture(scope='module')
def lowered():
  """Without dropout, whose random numbers are not the same everywhere."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(nets_factory, 'create_model', without_dropout)
    yield lower_step.lower(CONFIG)


def test_what_a_program_says_of_itself(lowered):
  program, facts, values = lowered
  assert program.startswith(b'ML\xefR')  # MLIR's bytecode
  assert json.loads(json.dumps(facts)) == facts
  inputs = {one['name']: one for one in facts['inputs']}
  *_, images, labels = facts['inputs']
  assert (images['shape'], images['dtype']) == ([3, 32, 32, 3], 'float32')
  assert labels['content'] == 'labels'
  assert all(inputs[name]['shape'] == list(value.shape) for name, value in values.items())
  # The loss, and the new values of all inputs but images and labels.
  assert [one['shape'] for one in facts['outputs']] == [
    [],
    *(i['shape'] for i in facts['inputs'][:-2]),
  ]
  assert facts['num_parameters'] == sum(
    value.size for name, value in values.items() if f'{name}/Momentum' in inputs
  )


def test_no_product_gradients_are_taken_to_a_gpu(monkeypatch):
  """They are faster on processors with AMX alone."""
  from slim_inception.nets import processor

  sizes = []
  for flags in ({'amx_bf16'}, set()):
    monkeypatch.setattr(processor, 'read_flags', lambda flags=flags: flags)
    config = lower_step.Config(model_name=tiny.NAME, batch_size=3, precision='bfloat16')
    sizes.append(len(lower_step.lower(config)[0]))
  # Names hold counters, a byte or two; products instead of convolutions are 577 bytes more.
  assert abs(sizes[0] - sizes[1]) < 100


def expected_steps(values, images, labels, count):
  """Losses and variables of the model's own steps, with momentum as in the papers' code."""
  model = without_dropout(tiny.NAME, 1001)
  for name, variable in model.variables_by_name.items():
    variable.assign(values[name])
  slots = [tf.zeros_like(v) for v in model.trainable_variables]
  losses = []
  for _ in range(count):
    with tf.GradientTape() as tape:
      logits, end_points = model(images, training=True, dropout_seed=tf.constant([0, 0]))
      cross = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
      loss = cross(labels, logits) + 0.4 * cross(labels, end_points['AuxLogits'])
      loss += model.regularization_loss()
    gradients = tape.gradient(loss, model.trainable_variables)
    slots = [0.9 * slot + gradient for slot, gradient in zip(slots, gradients, strict=True)]
    for variable, slot in zip(model.trainable_variables, slots, strict=True):
      variable.assign_sub(0.01 * slot)
    losses.append(float(loss))
  return losses, {name: v.numpy() for name, v in model.variables_by_name.items()}


def test_jax_takes_the_models_own_steps(lowered):
  pytest.importorskip('jax')
  run_lowered = script('run_lowered')
  program, facts, values = lowered
  step = run_lowered.Step(program, facts, values)
  *_, images, labels = (np.asarray(argument) for argument in step.arguments)
  losses = [float(step.start()) for _ in range(3)]
  expected, variables = expected_steps(values, images, labels, 3)
  np.testing.assert_allclose(losses, expected, rtol=1e-5)
  for one, argument in zip(facts['inputs'], step.arguments, strict=True):
    if one['name'] in variables:
      np.testing.assert_allclose(argument, variables[one['name']], rtol=1e-3, atol=1e-5)


def test_rows(lowered, tmp_path, monkeypatch):
  pytest.importorskip('jax')
  run_lowered = script('run_lowered')
  monkeypatch.setattr(run_lowered.timing, 'ROUND_SECONDS', 0.01)
  program, facts, _ = lowered
  (tmp_path / 'tiny.stablehlo').write_bytes(program)
  (tmp_path / 'tiny.json').write_text(json.dumps(facts))
  (row,) = run_lowered.measure(tmp_path / 'tiny.stablehlo', (), 2, 2)
  assert row['program'] == 'XLA program of slim-inception'
  assert row['images_per_second'] == pytest.approx(3 / row['step_seconds'])
  assert row['version'].startswith('jax ') and row['version'].endswith(facts['version'])
  assert row['device']
  assert run_lowered.roofline('float32', side=64)['product_gflops'] > 0
