#!/usr/bin/env bash
# safetensors reads bfloat16 into NumPy only if somebody has imported ml_dtypes.
#
# Versions:  safetensors 0.8.0, NumPy 2.4.6, ml_dtypes 0.6.0; seen on Linux x86-64 with Python 3.11.
# Expected:  load_file of safetensors.numpy reads a file, or says what it needs, whatever else the
#            program has imported.
# Behaviour: it fails with an error of NumPy's until ml_dtypes, which adds the type to NumPy, is
#            imported: by the caller, or by chance by another library.
# Seen, of the same file of [1, 2]:
#     import numpy: TypeError: data type 'bfloat16' not understood
#     import ml_dtypes: [1.0, 2.0]
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0

cat >"$folder/shown.py" <<'PYTHON'
import json
import os
import struct
import subprocess
import sys

LOAD = """
from safetensors.numpy import load_file
try:
  print(load_file(sys.argv[1])['w'].tolist())
except Exception as error:
  print(f'{type(error).__name__}: {error}')
"""
path = os.path.join(os.path.dirname(__file__), 'w.safetensors')
header = json.dumps({'w': {'dtype': 'BF16', 'shape': [2], 'data_offsets': [0, 4]}}).encode()
with open(path, 'wb') as file:  # the upper halves of the float32 numbers 1 and 2
  file.write(struct.pack('<Q', len(header)) + header + bytes.fromhex('803f0040'))
for before in ('import numpy', 'import ml_dtypes'):
  code = f'import sys\n{before}\n{LOAD}'
  print(f'{before}: ', end='', flush=True)
  subprocess.run([sys.executable, '-c', code, path], check=True)
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
