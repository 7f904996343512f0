#!/usr/bin/env bash
# `export` of a Keras model writes a SavedModel with two copies of each variable.
#
# Versions:  Keras 3.15.1, TensorFlow 2.21.0; seen on Linux x86-64 with Python 3.11.
# Expected:  a SavedModel of a model with 40,400 parameters has 161,600 bytes of variables.
# Behaviour: it has twice as many: each variable is stored under variables/ and, as another variable
#            of the same name, under _all_variables/. Who looks for variables by their own names, in
#            the graph of objects, has two for each.
# Seen, parameters; bytes of the variables; where they are in the checkpoint, and of what shapes:
#     40400 parameters, 161600 bytes
#     stored: 323200 bytes
#     _all_variables: [(100, 400), (400,)]
#     variables: [(100, 400), (400,)]
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 keras==3.15.1

cat >"$folder/shown.py" <<'PYTHON'
import math
import os

import keras
import tensorflow as tf

folder = os.path.join(os.path.dirname(__file__), 'model')
inputs = keras.Input((100,))
model = keras.Model(inputs, keras.layers.Dense(400)(inputs))
model.export(folder, verbose=False)
print(f'{model.count_params()} parameters, {4 * model.count_params()} bytes')
end = '/.ATTRIBUTES/VARIABLE_VALUE'
shapes = dict(tf.train.list_variables(f'{folder}/variables/variables'))
shapes = {name.removesuffix(end): shape for name, shape in shapes.items() if name.endswith(end)}
print('stored:', sum(4 * math.prod(shape) for shape in shapes.values()), 'bytes')
for group in ('_all_variables', 'variables'):
  print(f'{group}:', sorted(tuple(shape) for name, shape in shapes.items() if name.startswith(group)))
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
