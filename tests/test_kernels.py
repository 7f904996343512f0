"""Kernels are chosen before TensorFlow is imported, and what was chosen is what it takes."""

import os
import subprocess
import sys

import pytest
from slim_inception.nets import processor

from slim_inception import kernels
from tests.nets.test_processor import flags_of


@pytest.fixture
def on(monkeypatch):
  """Makes this process believe to be on another processor."""

  def believe(name, **environment):
    monkeypatch.setattr(processor, 'read_flags', lambda: flags_of(name))
    monkeypatch.setattr(processor, 'read_quota', lambda: None)
    for setting in (processor.ONEDNN, *processor.THREADS, 'ONEDNN_MAX_CPU_ISA'):
      monkeypatch.delenv(setting, raising=False)
    for setting, value in environment.items():
      monkeypatch.setenv(setting, value)

  return believe


def test_choosing_after_tensorflow_changes_nothing_and_says_so(on, caplog):
  on('AMD EPYC 7763 (Milan)')
  assert kernels.choose() == 'Eigen kernels, AVX2'
  assert processor.ONEDNN not in os.environ
  assert caplog.messages == [
    'TensorFlow was imported before its kernels could be chosen, which would have been faster on '
    'this machine: set TF_ENABLE_ONEDNN_OPTS=1'
  ]


def test_description(on, caplog):
  on('AMD EPYC (Turin)')
  assert kernels.choose() == 'oneDNN kernels, AVX-512 with bfloat16'
  on('AMD EPYC (Turin)', ONEDNN_MAX_CPU_ISA='AVX2', TF_NUM_INTRAOP_THREADS='3')
  assert kernels.describe() == 'oneDNN kernels, AVX-512 with bfloat16, at most AVX2, 3 threads'
  on('AMD EPYC (Turin)', TF_ENABLE_ONEDNN_OPTS='0', ONEDNN_MAX_CPU_ISA='AVX2')
  assert kernels.choose() == 'Eigen kernels, AVX-512 with bfloat16'
  assert not caplog.messages


_PROGRAM = """
import os, sys
from slim_inception.nets import processor
if sys.argv[1:]:
  processor.read_flags = lambda: frozenset(sys.argv[1].split())
  processor.read_quota = lambda: None
from slim_inception import kernels
print(kernels.choose())
import tensorflow as tf
"""


@pytest.mark.integration
@pytest.mark.parametrize('setting', [None, '0'])
def test_tensorflow_takes_what_was_chosen(setting):
  """It says on stderr when oneDNN is on."""
  environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '0'}
  environment.pop(processor.ONEDNN, None)
  if setting:
    environment[processor.ONEDNN] = setting
  flags = ' '.join(flags_of('AMD EPYC 7763 (Milan)'))
  command = [sys.executable, '-c', _PROGRAM, flags]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
  chosen = 'Eigen' if setting else 'oneDNN'
  assert done.stdout == f'{chosen} kernels, AVX2\n'
  assert ('oneDNN custom operations are on' in done.stderr) == (chosen == 'oneDNN')


@pytest.mark.parametrize(
  ('name', 'precision'),
  [
    ('AMD EPYC 7763 (Milan)', 'float32'),
    ('Intel Xeon (Cascade Lake)', 'float32'),
    ('AMD EPYC (Turin)', 'bfloat16'),
    ('Intel Xeon (Sapphire Rapids)', 'bfloat16'),
  ],
)
def test_bfloat16_where_it_pays(on, caplog, name, precision):
  on(name)
  assert kernels.precision(clone_on_cpu=False) == precision
  kernels.warn_of_precision('bfloat16', on_gpu=False)
  assert len(caplog.messages) == (precision == 'float32')
  assert all(m.startswith('bfloat16 is slower than float32 on this') for m in caplog.messages)
  caplog.clear()
  kernels.warn_of_precision('bfloat16', on_gpu=True)
  kernels.warn_of_precision('float32', on_gpu=False)
  assert not caplog.messages


@pytest.mark.parametrize(
  ('capability', 'precision'), [((7, 5), 'float32'), ((8, 0), 'bfloat16'), (None, 'bfloat16')]
)
def test_bfloat16_on_gpus_from_ampere_on(monkeypatch, capability, precision):
  import tensorflow as tf

  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind=None: ['GPU:0'])
  details = {'compute_capability': capability} if capability else {}
  monkeypatch.setattr(tf.config.experimental, 'get_device_details', lambda gpu: details)
  assert kernels.precision(clone_on_cpu=False) == precision
