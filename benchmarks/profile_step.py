"""Shows which kinds of operations take the time of a training step, or of inference.

  python benchmarks/profile_step.py --model_name=inception_v3 --batch_size=16 --precision=bfloat16
  python benchmarks/profile_step.py --mode=infer --batch_size=32
  python benchmarks/profile_step.py --num_clones=4 --clone_on_cpu --batch_size=4
  python benchmarks/profile_step.py --profile=TRAIN_DIR   # of a run with --profile_steps

Flags are those of slim-inception benchmark. Two steps run under TensorFlow's profiler. Operations
run at the same time, so the sum of their times is more than that of the step. --top=N names the N
operations that take the most time.
"""

import collections
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from absl import flags
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from slim_inception import flags as config_flags
from slim_inception.bench import config as benchmark_config
from slim_inception.bench import timing
from slim_inception.cli import console, quiet

_TOP = flags.DEFINE_integer(
  'top', 0, 'Also names this many of the operations that take the most time.'
)
_PROFILE = flags.DEFINE_string(
  'profile', None, 'Reads the profile in this folder in place of running steps.'
)
_STEPS = 2

# The first that fits: what it is called, and what the operation's type, or its name, looks like.
_KINDS = (
  ('filter gradients', r'Conv2DBackpropFilter|MatMul'),
  ('input gradients', r'Conv2DBackpropInput|conv2d_transpose'),
  ('convolutions', r'Conv2D$|FusedConv2D|/Conv2D:'),
  ('batch norm', r'BatchNorm'),
  ('gradients of relu', r'ReluGrad'),
  ('relu', r'Relu$'),
  ('pooling', r'Pool'),
  ('waiting for images', r':\w*IteratorGetNext'),
  ('communication', r'Collective|Nccl|:_Send$|:_Recv$|:_HostSend$|:_HostRecv$'),
  ('optimizer', r':ResourceApply'),
  ('L2 and norms', r':L2Loss'),
  ('sums of gradients', r':AddN'),
  ('moving averages', r':AssignSubVariableOp'),
  ('casts', r':Cast$'),
  ('concatenation and slices', r':(ConcatV2|Slice|Split|SplitV|Pad)$'),
  ('element by element', r':(Mul|Sub|AddV2|Maximum|Minimum|Max|Min|SelectV2|ReverseV2|RealDiv)$'),
  ('other', r''),
)

# What is read of the profiler's file, {message: {field: (number, type)}}, messages are repeated:
# https://github.com/openxla/xla/blob/main/third_party/tsl/tsl/profiler/protobuf/xplane.proto
_XPLANE = {
  'Space': {'planes': (1, 'Plane')},
  'Plane': {'name': (2, str), 'lines': (3, 'Line'), 'event_metadata': (4, 'MetadataEntry')},
  'Line': {'timestamp_ns': (3, int), 'events': (4, 'Event')},
  'Event': {'metadata_id': (1, int), 'offset_ps': (2, int), 'duration_ps': (3, int)},
  'MetadataEntry': {'key': (1, int), 'value': (2, 'Metadata')},
  'Metadata': {'name': (2, str)},
}


class _Profiled(Exception):
  """Ends the benchmark once the profile is there."""


def main(_: list[str]) -> None:
  if _PROFILE.value:
    return _report('all steps', *_read(_PROFILE.value, 1))
  config = config_flags.parse(
    benchmark_config.Config, benchmark_config.resolve, prepare=quiet.import_tensorflow
  )
  if config.mode not in ('train', 'infer'):
    raise ValueError(f'--mode={config.mode}: choose train or infer')
  with tempfile.TemporaryDirectory(prefix='profile-') as folder:
    _profile(config, folder)
    _report('a step', *_read(folder, _STEPS))


def _profile(config: benchmark_config.Config, folder: str) -> None:
  import tensorflow as tf

  from slim_inception.bench import net_rate  # imports it too

  def prepare(start, finish, warmup_steps):
    for _ in range(warmup_steps):
      finish(start())
    with tf.profiler.experimental.Profile(folder):
      for _ in range(_STEPS):
        finish(start())
    raise _Profiled

  timing.prepare, clock = prepare, timing.prepare
  try:
    net_rate.MODES[config.mode](config)
  except _Profiled:
    pass
  finally:
    timing.prepare = clock


def _read(folder: str, steps: int) -> tuple[float, dict[str, float], dict[str, float]]:
  """Seconds a step, and of each operation 'name:Type' its seconds a step and how often it ran."""
  (path,) = Path(folder).rglob('*.xplane.pb')
  space = _space_class().FromString(path.read_bytes())
  seconds, counts = collections.Counter(), collections.Counter()
  begin, end = float('inf'), 0.0
  for plane in space.planes:
    if not plane.name.startswith('/host:CPU'):
      continue
    names = {entry.key: entry.value[0].name for entry in plane.event_metadata}
    for line in plane.lines:
      for event in line.events:
        name = names[event.metadata_id]
        if '::' in name or not re.fullmatch(r'.*:\w+', name):
          continue  # not an operation
        start = line.timestamp_ns * 1e-9 + event.offset_ps * 1e-12
        begin, end = min(begin, start), max(end, start + event.duration_ps * 1e-12)
        seconds[name] += event.duration_ps * 1e-12 / steps
        counts[name] += 1 / steps
  return (end - begin) / steps, seconds, counts


def _space_class() -> type:
  """The protobuf message of `_XPLANE`; TensorFlow has it too, but not in public."""
  file = descriptor_pb2.FileDescriptorProto(name='xplane.proto', syntax='proto3')
  for name, fields in _XPLANE.items():
    message = file.message_type.add(name=name)
    for field_name, (number, kind) in fields.items():
      field = message.field.add(name=field_name, number=number)
      field.label = field.LABEL_REPEATED if isinstance(kind, str) else field.LABEL_OPTIONAL
      if isinstance(kind, str):
        field.type, field.type_name = field.TYPE_MESSAGE, f'.{kind}'
      else:
        field.type = field.TYPE_INT64 if kind is int else field.TYPE_STRING
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName('Space'))


def _kind(operation: str) -> str:
  return next(kind for kind, pattern in _KINDS if re.search(pattern, operation))


def _report(what: str, step: float, seconds: dict[str, float], counts: dict[str, float]) -> None:
  kinds, number = collections.Counter(), collections.Counter()
  for operation, time in seconds.items():
    kinds[_kind(operation)] += time
    number[_kind(operation)] += counts[operation]
  total = sum(kinds.values())
  print(f'{what} {step * 1e3:.0f} ms; operations, one after the other, {total * 1e3:.0f} ms:')
  for kind, time in kinds.most_common():
    print(f'{kind:26} {100 * time / total:5.1f} %  {number[kind]:6.0f} operations')
  for operation, time in collections.Counter(seconds).most_common(_TOP.value):
    print(f'{time * 1e3:8.1f} ms  {operation}')


def define_flags() -> None:
  config_flags.define(benchmark_config.Config)


if __name__ == '__main__':
  console.run(sys.modules[__name__], ['profile_step', *sys.argv[1:]])
