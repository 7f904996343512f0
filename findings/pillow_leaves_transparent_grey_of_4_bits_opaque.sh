#!/usr/bin/env bash
# Pillow compares the transparent grey of a PNG of 2 or 4 bits with values that it spread to 8 bits.
#
# Versions:  Pillow 13.0.0; seen on Linux x86-64 with Python 3.11.
# Expected:  where a tRNS chunk says that the value 1 of a grey PNG is transparent, pixels of the
#            value 1 are, at any depth, as libpng has it.
# Behaviour: pixels are spread to 0..255, the value of the chunk is not: what is transparent stays
#            opaque (unless the value is 0). With 1 bit and with 8 it is right.
# Seen, the pixel of the value 1, which is transparent, by the depth of the PNG:
#     1 bits: mode 1, alpha 0
#     2 bits: mode L, alpha 255
#     4 bits: mode L, alpha 255
#     8 bits: mode L, alpha 0
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0

cat >"$folder/shown.py" <<'PYTHON'
import io
import struct
import zlib

from PIL import Image


def chunk(kind, content):
  check = struct.pack('>I', zlib.crc32(kind + content))
  return struct.pack('>I', len(content)) + kind + content + check


for bits in (1, 2, 4, 8):
  header = struct.pack('>IIBBBBB', 1, 1, bits, 0, 0, 0, 0)
  pixels = zlib.compress(bytes([0, 1 << 8 - bits]))  # no filter; the only pixel, 1
  transparent = chunk(b'tRNS', struct.pack('>H', 1))
  parts = chunk(b'IHDR', header), transparent, chunk(b'IDAT', pixels), chunk(b'IEND', b'')
  with Image.open(io.BytesIO(b'\x89PNG\r\n\x1a\n' + b''.join(parts))) as image:
    print(f'{bits} bits: mode {image.mode}, alpha {image.convert("RGBA").getpixel((0, 0))[3]}')
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
