#!/usr/bin/env bash
# TensorFlow's fused batch norm averages an unbiased variance, that of Keras 3 a biased one.
#
# Versions:  TensorFlow 2.21.0, Keras 3.15.1, NumPy 2.4.6; seen on Linux x86-64 with Python 3.11.
# Expected:  one framework, one moving variance: a net trained by tf.nn and evaluated by Keras, or
#            the other way round, has the same statistics.
# Behaviour: the fused kernel (TF-Slim's, and tf.compat.v1.nn.fused_batch_norm) gives the moving
#            average n / (n - 1) times the variance of the batch, n being the values of a channel.
#            Keras 3 gives it the variance itself. At 8 x 8 and a batch of 32 that is 0.05 %, at 1 x
#            1 it is 3.2 %.
# Seen, the variance for the moving average by that of the batch, for a batch of 32:
#     1 x 1: fused kernel 1.0323, Keras 1.0000, n / (n - 1) 1.0323
#     8 x 8: fused kernel 1.0005, Keras 1.0000, n / (n - 1) 1.0005
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 keras==3.15.1

cat >"$folder/shown.py" <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

for side in (1, 8):
  images = np.random.default_rng(0).normal(size=(32, side, side, 4)).astype(np.float32)
  biased = images.var((0, 1, 2))
  _, _, variance = tf.compat.v1.nn.fused_batch_norm(
    images, np.ones(4, np.float32), np.zeros(4, np.float32), is_training=True
  )
  layer = keras.layers.BatchNormalization(momentum=0.0)  # so that the average is the last value
  layer(images, training=True)
  fused, kerass = variance.numpy() / biased, np.asarray(layer.moving_variance) / biased
  n = images.size // 4
  print(
    f'{side} x {side}: fused kernel {fused.mean():.4f}, Keras {kerass.mean():.4f}, '
    f'n / (n - 1) {n / (n - 1):.4f}'
  )
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
