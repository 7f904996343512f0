#!/usr/bin/env bash
# On TensorFlow 2.21 all of tf-slim's layers work but batch_norm, which tf-keras does not help.
#
# Versions:  TensorFlow 2.21.0, tf-slim 1.1.0, then also tf-keras 2.21.0; seen on Linux x86-64 with
#            Python 3.11.
# Expected:  either all of tf-slim works (it is the newest release) or none of it; and the module
#            that the error names is there once the package of that name is installed.
# Behaviour: batch_norm asks for tf_keras, and with tf-keras installed for a name that tf-keras no
#            longer has.
# Seen:
#     without tf-keras
#     conv2d: (2, 8, 8, 4)
#     separable_conv2d: (2, 8, 8, 4)
#     conv2d_transpose: (2, 16, 16, 4)
#     fully_connected: (2, 4)
#     max_pool2d: (2, 4, 4, 3)
#     avg_pool2d: (2, 4, 4, 3)
#     dropout: (2, 8, 8, 3)
#     batch_norm: ModuleNotFoundError: No module named 'tf_keras'
#     with tf-keras
#     conv2d: (2, 8, 8, 4)
#     separable_conv2d: (2, 8, 8, 4)
#     conv2d_transpose: (2, 16, 16, 4)
#     fully_connected: (2, 4)
#     max_pool2d: (2, 4, 4, 3)
#     avg_pool2d: (2, 4, 4, 3)
#     dropout: (2, 8, 8, 3)
#     batch_norm: ModuleNotFoundError: No module named 'tf_keras.legacy_tf_layers'
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 tf-slim==1.1.0

cat >"$folder/shown.py" <<'PYTHON'
import importlib.util
import warnings

import tensorflow as tf
import tf_slim as slim

warnings.simplefilter('ignore')  # each layer is deprecated
LAYERS = {
  'conv2d': lambda images: slim.conv2d(images, 4, 3),
  'separable_conv2d': lambda images: slim.separable_conv2d(images, 4, 3, 1),
  'conv2d_transpose': lambda images: slim.conv2d_transpose(images, 4, 3, 2),
  'fully_connected': lambda images: slim.fully_connected(slim.flatten(images), 4),
  'max_pool2d': lambda images: slim.max_pool2d(images, 2),
  'avg_pool2d': lambda images: slim.avg_pool2d(images, 2),
  'dropout': slim.dropout,
  'batch_norm': slim.batch_norm,
}
print('with tf-keras' if importlib.util.find_spec('tf_keras') else 'without tf-keras')
for name, layer in LAYERS.items():
  with tf.Graph().as_default():
    try:
      print(f'{name}: {layer(tf.zeros([2, 8, 8, 3])).shape}')
    except Exception as error:
      print(f'{name}: {type(error).__name__}: {error}')
PYTHON

for extra in '' tf-keras==2.21.0; do
  # shellcheck disable=SC2086
  [ -z "$extra" ] || "$folder/venv/bin/pip" install --quiet $extra
  "$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" ||
    { cat "$folder/errors" >&2; exit 1; }
done | tee "$folder/found"
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
