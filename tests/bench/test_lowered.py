"""A step lowered by TensorFlow and run by JAX is the model's own."""

import dataclasses
import functools
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

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


def write(folder, name, program, facts):
  (folder / f'{name}.stablehlo').write_bytes(program)
  (folder / f'{name}.json').write_text(json.dumps(facts))


@pytest.mark.slow
def test_a_loss_that_is_no_number_keeps_no_row_of_others_back(lowered, tmp_path):
  pytest.importorskip('jax')
  program, facts, _ = lowered
  write(tmp_path, 'good', program, facts)
  # Most labels are of no class of the net: XLA's cross entropy of such is NaN.
  write(tmp_path, 'bad', program, facts | {'num_classes': 10**9})
  output = tmp_path / 'rows.jsonl'
  flags = ['--num_rounds=1', '--warmup_steps=2', f'--output_json={output}']
  environment = os.environ | {'PYTHONPATH': os.pathsep.join(sys.path)}  # JAX may lie apart
  command = [sys.executable, _SCRIPTS / 'run_lowered.py', tmp_path, *flags]
  done = subprocess.run(command, capture_output=True, text=True, env=environment)
  assert done.returncode == 1, done.stderr
  bad, good = map(json.loads, output.read_text().splitlines())
  assert bad['error'] == 'after the last round its first output is nan'
  assert 'images_per_second' not in bad and bad['model_name'] == tiny.NAME
  assert good['program'] == 'XLA program of slim-inception'
  assert good['images_per_second'] == pytest.approx(3 / good['step_seconds'])
  assert good['version'].startswith('jax ') and good['version'].endswith(facts['version'])
  assert good['device'] and good['product_gflops'] > 0 and good['copy_gbytes'] > 0
  assert good['peak_bytes'] > 0 and good['num_parameters'] == facts['num_parameters']


def serving(start='int', **facts):
  """A program that ends in `timing.serve`, whose steps are calls of `start`."""
  code = f"""
import sys
sys.path.insert(0, {str(_SCRIPTS.parent)!r})
from slim_inception.bench import timing
timing.serve({start}, int, warmup_steps=2, facts=lambda: {facts})
"""
  return [sys.executable, '-c', code]


def test_what_fails_has_a_row_too():
  pytest.importorskip('jax')
  run_lowered = script('run_lowered')
  commands = {
    'ours': serving(is_finite=True, version='one'),
    'timm': [sys.executable, '-c', 'raise SystemExit("out of memory")'],
    'timm_compiled': serving(version='two'),
  }
  ours, timm, compiled = run_lowered.rows_of(dataclasses.asdict(CONFIG), commands, 2)
  assert timm['error'] == 'timm failed: out of memory'
  assert [row['version'] for row in (ours, compiled)] == ['one', 'two']
  assert all(row['rounds'] == 2 for row in (ours, compiled))
  # It ends after the warm-up: then the others had no rounds by turns.
  commands['timm'] = serving(start='iter([0, 0]).__next__')
  rows = run_lowered.rows_of(dataclasses.asdict(CONFIG), commands, 2)
  assert [row['error'] for row in rows] == ['timm failed: StopIteration'] * 3


def test_roofline():
  pytest.importorskip('jax')
  rates = script('run_lowered').roofline('float32', side=64)
  assert rates['product_gflops'] > 0 and rates['copy_gbytes'] > 0


# As XLA prints them, shortened.
_HLO = """
  %cudnn-conv.1 = (bf16[8,35,35,64]{3,2,1,0}, u8[0]{0}) custom-call(%a, %b), window={size=1x1}, \
dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward", metadata={op_name="x"}
  %fusion.2 = bf16[8,64]{1,0} fusion(%c, %d), kind=kLoop, calls=%e
  %dot.3 = f32[8,1001]{1,0} dot(%f, %g), lhs_contracting_dims={1}, \
metadata={op_name="jit(call)/call_exported/Net/Logits/MatMul" stack_frame_id=1}
"""


def test_what_is_said_of_a_compiled_program(monkeypatch):
  pytest.importorskip('jax')
  monkeypatch.syspath_prepend(_SCRIPTS)  # it imports run_lowered
  assert script('compile_lowered').describe(_HLO) == {
    'cudnn': {'convForward': 1},
    'dimensions': {'b01f_o01i->b01f': 1},
    'products': {'Net/Logits/MatMul': 1},
    'kernels': {'Loop': 1},
  }
