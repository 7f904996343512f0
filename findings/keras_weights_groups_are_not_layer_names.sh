#!/usr/bin/env bash
# The groups of a Keras .weights.h5 are not the names of its layers, though they look like it.
#
# Versions:  Keras 3.15.1, TensorFlow 2.21.0, h5py 3.14.0; seen on Linux x86-64 with Python 3.11.
# Expected:  the weights of the layer that is called conv2d_2 are in the group layers/conv2d_2.
# Behaviour: groups are counted anew by class, in the order of the layers, whatever their names are.
#            So the group conv2d_2 holds the weights of another layer, and there may be a layer of
#            that name elsewhere. The attribute `name` of the group's vars has the name.
# Seen, the group, the layer whose weights it holds, and the shape of its kernel:
#     layers/conv2d: conv2d_2 (1, 1, 3, 2)
#     layers/conv2d_1: conv2d (1, 1, 2, 5)
#     layers/conv2d_2: conv2d_1 (1, 1, 5, 7)
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 keras==3.15.1 h5py==3.14.0

cat >"$folder/shown.py" <<'PYTHON'
import os
import tempfile

import h5py
import keras

layers = [('conv2d_2', 2), ('conv2d', 5), ('conv2d_1', 7)]
inputs = outputs = keras.Input((8, 8, 3))
for name, filters in layers:
  outputs = keras.layers.Conv2D(filters, 1, name=name)(outputs)
path = os.path.join(tempfile.mkdtemp(dir=os.path.dirname(__file__)), 'net.weights.h5')
keras.Model(inputs, outputs).save_weights(path)
with h5py.File(path) as file:
  for group in sorted(file['layers']):
    variables = file['layers'][group]['vars']
    if '0' in variables:
      print(f'layers/{group}: {variables.attrs["name"]} {variables["0"].shape}')
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
