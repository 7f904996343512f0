#!/usr/bin/env bash
# TensorFlow's decode_image gives the indices of a BMP with a palette for its colours.
#
# Versions:  TensorFlow 2.21.0, Pillow 13.0.0, NumPy 2.4.6; seen on Linux x86-64 with Python 3.11.
# Expected:  a BMP of 8 bits a pixel decodes to the colours of its palette, as a PNG with a palette
#            does, or is refused.
# Behaviour: the pixels are the indices into the palette, grey, also with channels=3; nothing is
#            said.
# Seen, an image of a red, a green and a blue pixel, in a palette:
#     PNG, TensorFlow: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
#     PNG, Pillow: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
#     BMP, TensorFlow: [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
#     BMP, Pillow: [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 pillow==13.0.0

cat >"$folder/shown.py" <<'PYTHON'
import io

import numpy as np
import tensorflow as tf
from PIL import Image

COLORS = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
image = Image.fromarray(np.arange(3, dtype=np.uint8)[np.newaxis], 'P')
image.putpalette(sum(COLORS, []))
for kind in ('PNG', 'BMP'):
  file = io.BytesIO()
  image.save(file, kind)
  pillows = np.asarray(Image.open(file).convert('RGB'))[0].tolist()
  ours = tf.io.decode_image(file.getvalue(), channels=3, expand_animations=False)
  print(f'{kind}, TensorFlow: {ours.numpy()[0].tolist()}')
  print(f'{kind}, Pillow: {pillows}')
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
