#!/usr/bin/env bash
# ONNX Runtime's Resize of uint8 rounds down where it is not antialiased.
#
# Versions:  onnx 1.23.2, ONNX Runtime 1.32.0, NumPy 2.4.6; seen on Linux x86-64 with Python 3.11.
# Expected:  the result is that of float32, rounded to the nearest, as Pillow has it; at least with
#            and without antialias alike.
# Behaviour: without antialias the fraction is cut off: images become 0.44 levels darker. With
#            antialias it is rounded to the nearest.
# Seen, the width of an image of noise from 64 to 40, and the mean difference to float32's result:
#     antialias=0: cut off 100%, rounded 55%, mean -0.44
#     antialias=1: cut off 52%, rounded 99%, mean -0.01
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6

cat >"$folder/shown.py" <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

NOISE = np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64), dtype=np.uint8)


def resized(images, kind, antialias):
  node = helper.make_node(
    'Resize', ['x', '', '', 'sizes'], ['y'], mode='linear', antialias=antialias,
    coordinate_transformation_mode='half_pixel', exclude_outside=antialias,
  )
  graph = helper.make_graph(
    [node],
    'resize',
    [helper.make_tensor_value_info('x', kind, [1, 1, 64, 64])],
    [helper.make_tensor_value_info('y', kind, [1, 1, 64, 40])],
    [helper.make_tensor('sizes', TensorProto.INT64, [4], [1, 1, 64, 40])],
  )
  made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
  session = onnxruntime.InferenceSession(
    made.SerializeToString(), providers=['CPUExecutionProvider']
  )
  return session.run(None, {'x': images})[0]


for antialias in (0, 1):
  whole = resized(NOISE, TensorProto.UINT8, antialias)
  exact = resized(NOISE.astype(np.float32), TensorProto.FLOAT, antialias)
  cut_off, rounded = (whole == np.floor(exact)).mean(), (whole == np.round(exact)).mean()
  print(
    f'antialias={antialias}: cut off {cut_off:.0%}, rounded {rounded:.0%}, '
    f'mean {(whole - exact).mean():.2f}'
  )
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
