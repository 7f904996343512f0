#!/usr/bin/env bash
# Keras 3 writes bfloat16 weights as opaque bytes, which h5py does not read as numbers.
#
# Versions:  Keras 3.15.1, h5py 3.14.0, TensorFlow 2.21.0; seen on Linux x86-64 with Python 3.11.
# Expected:  an array of .weights.h5 can be read as float32, as those of float16 can.
# Behaviour: its type is opaque, of two bytes, and the conversion fails; the attribute dtype says
#            what the bytes are.
# Seen:
#     float16: type <f2, attribute None, as float32: equal
#     bfloat16: type |V2, attribute bfloat16, as float32: OSError, viewed as bfloat16: equal
# nets/convert/keras_applications.py goes by the attribute. Needs Python 3.11 to 3.13 and a package
# index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export TF_CPP_MIN_LOG_LEVEL=3 PYTHONDONTWRITEBYTECODE=1 KERAS_BACKEND=tensorflow
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 keras==3.15.1 h5py==3.14.0

cat >"$folder/read.py" <<'PYTHON'
import sys

import h5py
import keras
import numpy as np
import tensorflow as tf

VALUES = np.arange(6).reshape(3, 2) / 4  # exact in both types
for kind in ('float16', 'bfloat16'):
  model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, dtype=kind, use_bias=False)])
  model.layers[0].kernel.assign(VALUES)
  path = f'{sys.argv[1]}/{kind}.weights.h5'
  model.save_weights(path)
  with h5py.File(path) as file:
    array = file['layers/dense/vars/0']
    text = f'{kind}: type {array.dtype.str}, attribute {array.attrs.get("dtype")}, as float32: '
    try:
      text += 'equal' if np.array_equal(np.asarray(array, np.float32), VALUES) else 'other values'
    except (OSError, TypeError, ValueError) as error:
      text += type(error).__name__
    if kind == 'bfloat16':
      values = np.asarray(array[()]).view(tf.bfloat16.as_numpy_dtype)
      text += f', viewed as bfloat16: {"equal" if np.array_equal(values, VALUES) else "other"}'
    print(text)
PYTHON

"$folder/venv/bin/python" "$folder/read.py" "$folder" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^# nets/s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
