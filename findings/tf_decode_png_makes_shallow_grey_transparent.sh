#!/usr/bin/env bash
# TensorFlow's decode_png makes the alpha of a grey PNG of 1, 2 or 4 bits 1, 3 or 15, not 255.
#
# Versions:  TensorFlow 2.21.0, Pillow 13.0.0, NumPy 2.4.6; seen on Linux x86-64 with Python 3.11.
# Expected:  a PNG without transparency that is decoded to four channels is opaque, 255, at any depth.
# Behaviour: grey is spread to 0..255, the alpha that is added is the largest value of the file's
#            depth: nearly transparent. With 8 bits it is 255, and with three channels all is right.
# Seen, a white pixel of a grey PNG by its depth:
#     1 bits: TensorFlow [255, 255, 255, 1], Pillow [255, 255, 255, 255]
#     2 bits: TensorFlow [255, 255, 255, 3], Pillow [255, 255, 255, 255]
#     4 bits: TensorFlow [255, 255, 255, 15], Pillow [255, 255, 255, 255]
#     8 bits: TensorFlow [255, 255, 255, 255], Pillow [255, 255, 255, 255]
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 pillow==13.0.0

cat >"$folder/shown.py" <<'PYTHON'
import io
import struct
import zlib

import numpy as np
import tensorflow as tf
from PIL import Image


def chunk(kind, content):
  check = struct.pack('>I', zlib.crc32(kind + content))
  return struct.pack('>I', len(content)) + kind + content + check


for bits in (1, 2, 4, 8):
  header = struct.pack('>IIBBBBB', 1, 1, bits, 0, 0, 0, 0)
  pixels = zlib.compress(bytes([0, 255]))  # no filter; the only pixel, white
  file = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', pixels) + chunk(b'IEND', b'')
  ours = tf.io.decode_png(file, channels=4).numpy()[0, 0].tolist()
  pillows = np.asarray(Image.open(io.BytesIO(file)).convert('RGBA'))[0, 0].tolist()
  print(f'{bits} bits: TensorFlow {ours}, Pillow {pillows}')
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
