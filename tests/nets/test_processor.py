"""What processors have, from their lists of features in /proc/cpuinfo, and what follows."""

import pytest
from slim_inception.nets import processor

# The features of the x86-64-v3 level, and what newer processors have beside them.
_AVX2 = 'fpu sse2 ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt avx f16c rdrand bmi1 avx2 bmi2'
_AVX512 = f'{_AVX2} avx512f avx512dq avx512cd avx512bw avx512vl'
PROCESSORS = {
  'AMD EPYC 7763 (Milan)': f'{_AVX2} sha_ni vaes vpclmulqdq',
  'Intel Xeon E5-2680 v2 (Ivy Bridge)': 'fpu sse2 ssse3 sse4_1 sse4_2 popcnt avx f16c rdrand',
  'Intel Xeon (Skylake)': _AVX512,
  'Intel Xeon (Cascade Lake)': f'{_AVX512} avx512_vnni',
  'Intel Core (Alder Lake)': f'{_AVX2} avx_vnni',
  'AMD EPYC (Turin)': f'{_AVX512} avx_vnni avx512_bf16 avx512_vbmi2 avx512_vnni',
  'Intel Xeon (Sapphire Rapids)': f'{_AVX512} avx_vnni avx512_bf16 avx512_vnni amx_bf16 amx_tile '
  'amx_int8 avx512_fp16',
}


def flags_of(name: str) -> frozenset[str]:
  return frozenset(PROCESSORS[name].split())


@pytest.mark.parametrize(
  ('name', 'settings', 'kernels', 'instructions', 'bfloat16'),
  [
    ('AMD EPYC 7763 (Milan)', {'TF_ENABLE_ONEDNN_OPTS': '1'}, 'Eigen', 'AVX2', False),
    ('Intel Xeon E5-2680 v2 (Ivy Bridge)', {}, 'Eigen', 'AVX', False),
    ('Intel Xeon (Skylake)', {'TF_ENABLE_ONEDNN_OPTS': '1'}, 'Eigen', 'AVX-512', False),
    ('Intel Xeon (Cascade Lake)', {}, 'oneDNN', 'AVX-512', False),
    ('Intel Core (Alder Lake)', {}, 'oneDNN', 'AVX2', False),
    ('AMD EPYC (Turin)', {}, 'oneDNN', 'AVX-512 with bfloat16', True),
    ('Intel Xeon (Sapphire Rapids)', {}, 'oneDNN', 'AMX', True),
  ],
)
def test_kernels_by_processor(name, settings, kernels, instructions, bfloat16):
  flags = flags_of(name)
  assert processor.missing_settings(flags, {}) == settings
  assert processor.kernels(flags, {}) == kernels  # of TensorFlow by itself
  assert processor.kernels(flags, settings) == 'oneDNN' if settings else kernels
  assert processor.instructions(flags) == instructions
  assert processor.has_bfloat16(flags) == bfloat16


@pytest.mark.parametrize(
  ('setting', 'kernels'), [('0', 'Eigen'), ('False', 'Eigen'), ('1', 'oneDNN')]
)
def test_the_users_setting_is_left_alone(setting, kernels):
  environment = {'TF_ENABLE_ONEDNN_OPTS': setting}
  for name in PROCESSORS:
    assert processor.missing_settings(flags_of(name), environment) == {}
    assert processor.kernels(flags_of(name), environment) == kernels


def test_where_nothing_is_known_tensorflow_decides(tmp_path):
  flags = processor.read_flags(tmp_path / 'none')
  assert flags == frozenset()
  assert processor.missing_settings(flags, {}) == {}
  assert processor.kernels(flags, {}) == 'default'
  assert processor.instructions(flags) == processor.read_name(tmp_path / 'none') == ''


def test_cpuinfo(tmp_path):
  path = tmp_path / 'cpuinfo'
  one = 'processor\t: {}\nmodel name\t: AMD  EPYC 7763\nflags\t\t: fpu avx2 fma\nbugs\t\t: none\n\n'
  path.write_text(one.format(0) + one.format(1))
  assert processor.read_flags(path) == {'fpu', 'avx2', 'fma'}
  assert processor.read_name(path) == 'AMD EPYC 7763'


@pytest.mark.parametrize(
  ('written', 'quota'),
  [
    ({'cpu.max': '150000 100000\n'}, 1.5),
    ({'cpu.max': 'max 100000\n'}, None),
    ({'cpu/cpu.cfs_quota_us': '400000\n', 'cpu/cpu.cfs_period_us': '100000\n'}, 4.0),
    ({'cpu/cpu.cfs_quota_us': '-1\n', 'cpu/cpu.cfs_period_us': '100000\n'}, None),
    ({}, None),
  ],
)
def test_threads_are_no_more_than_a_container_may_use(tmp_path, written, quota):
  (tmp_path / 'cpu').mkdir()
  for name, text in written.items():
    (tmp_path / name).write_text(text)
  assert processor.read_quota(tmp_path) == quota
  settings = processor.missing_settings(frozenset(), {}, cores=4, quota=quota)
  threads = {1.5: {'TF_NUM_INTRAOP_THREADS': '2', 'TF_NUM_INTEROP_THREADS': '2'}}
  assert settings == threads.get(quota, {})
  own = {'TF_NUM_INTRAOP_THREADS': '3', 'TF_NUM_INTEROP_THREADS': '1'}
  assert processor.missing_settings(frozenset(), own, cores=4, quota=quota) == {}
