#!/usr/bin/env bash
# tf.train.load_checkpoint lists a partitioned variable of a V1 checkpoint, and cannot read it.
#
# Versions:  TensorFlow 2.21.0, seen on Linux x86-64 with Python 3.11.
# Expected:  get_tensor gives what get_variable_to_shape_map lists, as it does of V2 checkpoints.
# Behaviour: of a single-file (V1) checkpoint it raises UnimplementedError; the operation RestoreV2,
#            which reads both formats, gives the whole variable.
# Seen:
#     V1 [7, 2] get_tensor: UnimplementedError; RestoreV2: equal
#     V2 [7, 2] get_tensor: equal; RestoreV2: equal
# nets/checkpoints.py reads with RestoreV2. Needs Python 3.11 to 3.13 and a package
# index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TF_CPP_MIN_LOG_LEVEL=3 PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6

cat >"$folder/read.py" <<'PYTHON'
import sys

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
VALUES = np.arange(14, dtype=np.float32).reshape(7, 2)


def outcome(read):
  try:
    return 'equal' if np.array_equal(read(), VALUES) else 'other values'
  except tf.errors.OpError as error:
    return type(error).__name__


def part(shape, dtype=None, partition_info=None):
  first = partition_info.var_offset[0]
  return VALUES[first : first + shape[0]]


for version in ('V1', 'V2'):
  path = f'{sys.argv[1]}/{version}.ckpt'
  with tf.Graph().as_default(), v1.Session() as session:
    v1.get_variable('x', (7, 2), initializer=part, partitioner=v1.fixed_size_partitioner(3))
    session.run(v1.global_variables_initializer())
    saver = v1.train.Saver(write_version=getattr(v1.train.SaverDef, version))
    saver.save(session, path, write_meta_graph=False)
  reader = tf.train.load_checkpoint(path)
  shape = reader.get_variable_to_shape_map()['x']
  by_reader = outcome(lambda: reader.get_tensor('x'))
  by_operation = outcome(lambda: tf.raw_ops.RestoreV2(
    prefix=path, tensor_names=['x'], shape_and_slices=[''], dtypes=[tf.float32])[0].numpy())
  print(f'{version} {shape} get_tensor: {by_reader}; RestoreV2: {by_operation}')
PYTHON

"$folder/venv/bin/python" "$folder/read.py" "$folder" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^# nets/s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
