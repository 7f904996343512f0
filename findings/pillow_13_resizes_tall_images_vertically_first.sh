#!/usr/bin/env bash
# Pillow 13 resizes tall images vertically first; Pillow up to 12.3 never does.
#
# Versions:  Pillow 12.3.0 and 13.0.0; NumPy of the day; seen on Linux x86-64 with Python 3.11.
# Expected:  one image, resized by one filter to one size, gives the same pixels in both.
# Behaviour: 12.3.0 resizes horizontally, then vertically. 13.0.0 does it the other way round where
#            height - new_height > max(0, 2 * (width - new_width)), in pixels, of the whole image
#            also where box= is given. Both passes round and clip to uint8, so the order is seen.
# Seen, of black and white noise with bicubic, and how far apart the two orders are:
#     Pillow 12.3.0
#     60 x 120 to 40 x 80: horizontal first (orders differ by up to 16)
#     60 x 121 to 40 x 80: horizontal first (orders differ by up to 17)
#     60 x 120 to 80 x 119: horizontal first (orders differ by up to 27)
#     60 x 121, of it 60 x 61, to 40 x 40: horizontal first (orders differ by up to 16)
#     Pillow 13.0.0
#     60 x 120 to 40 x 80: horizontal first (orders differ by up to 16)
#     60 x 121 to 40 x 80: vertical first (orders differ by up to 17)
#     60 x 120 to 80 x 119: vertical first (orders differ by up to 27)
#     60 x 121, of it 60 x 61, to 40 x 40: vertical first (orders differ by up to 16)
# preprocessing/resizing.py follows 13. Needs Python 3.11 or newer (Pillow 13 does) and a package
# index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
for version in 12.3.0 13.0.0; do
  "$folder/venv/bin/pip" install --quiet --target "$folder/$version" "pillow==$version" numpy
done

cat >"$folder/orders.py" <<'PYTHON'
import numpy as np
import PIL
from PIL import Image

CUBIC = Image.Resampling.BICUBIC
# Width and height; the box, where one is given; the new width and height.
CASES = [
  ((60, 120), None, (40, 80)),  # 40 > 2 * 20 is false
  ((60, 121), None, (40, 80)),  # 41 > 2 * 20
  ((60, 120), None, (80, 119)),  # 1 > 0: the width grows
  ((60, 121), (0, 0, 60, 61), (40, 40)),  # 81 > 2 * 20, though of the box 21 > 2 * 20 is false
]
rng = np.random.default_rng(0)
print(f'Pillow {PIL.__version__}')
for old, box, new in CASES:
  image = Image.fromarray(np.where(rng.random(old[::-1]) < 0.5, 0, 255).astype(np.uint8))
  left, top, right, bottom = box or (0, 0, *old)
  # One axis at a time; what is outside the box is seen by the kernels, as in one call.
  vertical = image.resize((old[0], new[1]), CUBIC, (0, top, old[0], bottom))
  vertical = vertical.resize(new, CUBIC, (left, 0, right, new[1]))
  horizontal = image.resize((new[0], old[1]), CUBIC, (left, 0, right, old[1]))
  horizontal = horizontal.resize(new, CUBIC, (0, top, new[0], bottom))
  found = image.resize(new, CUBIC, box)
  apart = np.abs(np.asarray(vertical).astype(int) - np.asarray(horizontal)).max()
  orders = {'horizontal': horizontal, 'vertical': vertical}
  order = ' and '.join(name for name, expected in orders.items() if found == expected)
  part = f', of it {right - left} x {bottom - top},' if box else ''
  print(
    f'{old[0]} x {old[1]}{part} to {new[0]} x {new[1]}: {order or "neither"} first'
    f' (orders differ by up to {apart})'
  )
PYTHON

for version in 12.3.0 13.0.0; do
  PYTHONPATH=$folder/$version "$folder/venv/bin/python" "$folder/orders.py"
done | tee "$folder/found"
# The header's lines are what is expected.
sed -n '/^# Seen/,/^# preproc/s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
