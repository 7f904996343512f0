#!/usr/bin/env bash
# TensorFlow's decode_jpeg is most of a level too dark unless it is told not to be.
#
# Versions:  TensorFlow 2.21.0, NumPy 2.4.6; seen on Linux x86-64 with Python 3.11.
# Expected:  the default decodes about as well as libjpeg's INTEGER_ACCURATE; at quality 100 nothing
#            but rounding is left of the difference to the image that was encoded.
# Behaviour: the default is dct_method='INTEGER_FAST'. Its pixels are 0.6 to 0.8 levels darker in
#            the mean, at every quality, and at quality 100 it is the worst: noise
#            comes back dozens of levels off. decode_image and decode_and_crop_jpeg have the same
#            default, and decode_image has no argument to change it.
# Seen, the mean of (default - INTEGER_ACCURATE), and at most how far each is from the original at
# quality 100:
#     default is INTEGER_FAST: True
#     smooth, quality 75: -0.6
#     smooth, quality 95: -0.8
#     smooth, quality 100: -0.8
#     noise, quality 75: -0.8
#     noise, quality 95: -0.8
#     noise, quality 100: -0.8
#     noise, quality 100, more than 50 levels off: default True, INTEGER_ACCURATE False
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6

cat >"$folder/shown.py" <<'PYTHON'
import numpy as np
import tensorflow as tf

rng = np.random.default_rng(0)
rows, columns = np.mgrid[:256, :256]
waves = 128 + 60 * np.sin(rows / 23) + 40 * np.cos(columns / 31 + rows / 47)
grain = rng.normal(0, 4, (256, 256, 3))
images = {
  'smooth': np.clip(waves[..., np.newaxis] + grain, 0, 255).astype(np.uint8),
  'noise': rng.integers(0, 256, (256, 256, 3), dtype=np.uint8),
}


def decode(encoded, method):
  return tf.io.decode_jpeg(encoded, dct_method=method).numpy().astype(int)


lines, same = [], []
for name, image in images.items():
  for quality in (75, 95, 100):
    encoded = tf.io.encode_jpeg(image, quality=quality, chroma_downsampling=False)
    default, accurate = decode(encoded, ''), decode(encoded, 'INTEGER_ACCURATE')
    same.append((default == decode(encoded, 'INTEGER_FAST')).all())
    lines.append(f'{name}, quality {quality}: {(default - accurate).mean():.1f}')
far = [bool(np.abs(each - images['noise']).max() > 50) for each in (default, accurate)]
print('default is INTEGER_FAST:', all(same))
print(*lines, sep='\n')
print(
  f'noise, quality 100, more than 50 levels off: default {far[0]}, INTEGER_ACCURATE {far[1]}'
)
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
