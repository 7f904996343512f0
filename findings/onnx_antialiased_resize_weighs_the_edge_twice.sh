#!/usr/bin/env bash
# ONNX's antialiased Resize counts the pixels at the edge more than once, unless it is told not to.
#
# Versions:  onnx 1.23.2, ONNX Runtime 1.32.0, Pillow 13.0.0, NumPy 2.4.6; seen on Linux x86-64 with
#            Python 3.11.
# Expected:  Resize with antialias=1, which the operator's text compares with Pillow's, gives
#            Pillow's values.
# Behaviour: where the filter reaches beyond the image, the pixel at the edge stands for what is
#            missing, so that it weighs more than its share. Pillow leaves out what is missing and
#            scales the rest, which is exclude_outside=1; its default is 0. The reference
#            implementation does the same as ONNX Runtime.
# Seen, a row of nine pixels made four, linear:
#     Pillow: [176.03, 92.29, 28.32, 21.86]
#     exclude_outside=0, ONNX Runtime: [181.15, 92.29, 28.32, 24.62]
#     exclude_outside=0, reference: [181.15, 92.29, 28.32, 24.62]
#     exclude_outside=1, ONNX Runtime: [176.03, 92.29, 28.32, 21.86]
#     exclude_outside=1, reference: [176.03, 92.29, 28.32, 21.86]
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 pillow==13.0.0

cat >"$folder/shown.py" <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

ROW = np.array([[217, 162, 130, 68, 78, 10, 19, 4, 44]], np.float32)


def model(exclude_outside):
  node = helper.make_node(
    'Resize', ['x', '', '', 'sizes'], ['y'], mode='linear', antialias=1,
    coordinate_transformation_mode='half_pixel', exclude_outside=exclude_outside,
  )
  graph = helper.make_graph(
    [node],
    'resize',
    [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 1, 1, 9])],
    [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, 1, 1, 4])],
    [helper.make_tensor('sizes', TensorProto.INT64, [4], [1, 1, 1, 4])],
  )
  made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
  checker.check_model(made, full_check=True)
  return made


def rounded(values):
  return [round(float(value), 2) for value in np.ravel(values)]


pillows = Image.fromarray(ROW).resize((4, 1), Image.Resampling.BILINEAR)
print('Pillow:', rounded(np.asarray(pillows)))
for exclude_outside in (0, 1):
  made, inputs = model(exclude_outside), {'x': ROW[np.newaxis, np.newaxis]}
  session = onnxruntime.InferenceSession(
    made.SerializeToString(), providers=['CPUExecutionProvider']
  )
  for name, run in (('ONNX Runtime', session.run), ('reference', ReferenceEvaluator(made).run)):
    print(f'exclude_outside={exclude_outside}, {name}:', rounded(run(None, inputs)[0]))
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
