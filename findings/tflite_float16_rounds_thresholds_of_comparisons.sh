#!/usr/bin/env bash
# TFLite's float16 conversion rounds not only weights: a comparison has another threshold after it.
#
# Versions:  TensorFlow 2.21.0, ai-edge-litert 2.3.0, NumPy 2.4.6; seen on Linux x86-64 with Python
#            3.11.
# Expected:  weights become float16, as the guide to post-training float16 quantization has it, and a
#            model that ends with `x < 0.10005` says the same as before of numbers that it is given.
# Behaviour: the constant becomes float16 too, 0.10004, and numbers between the two are decided
#            otherwise. Integer constants stay, and so does a comparison of integers, made by floor
#            division and a cast.
# Seen, of x, whether it is less than 0.10005 as float32, as float16, and as float16 by integers:
#     0.10000 True True True
#     0.10003 True True True
#     0.10004 True False True
#     0.10006 False False False
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 ai-edge-litert==2.3.0 numpy==2.4.6

cat >"$folder/shown.py" <<'PYTHON'
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

THRESHOLD, ONE = 0.10005, 1 << 22


def plainly(x):
  return {'less': x < THRESHOLD}


def by_integers(x):
  # 2^-12 and 2^10 are float16 numbers, 2^-22 is none of the normal ones.
  whole = tf.cast(tf.math.floordiv(x * 2.0**10, 2.0**-12), tf.int32)
  return {'less': whole < int(THRESHOLD * ONE)}


def converted(function, is_float16):
  traced = tf.function(function, input_signature=[tf.TensorSpec([1], tf.float32, 'x')])
  converter = tf.lite.TFLiteConverter.from_concrete_functions(
    [traced.get_concrete_function()], tf.Module()
  )
  if is_float16:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
  interpreter = Interpreter(model_content=converter.convert())
  return interpreter.get_signature_runner()


runners = converted(plainly, False), converted(plainly, True), converted(by_integers, True)
for x in (0.1, 0.10003, 0.10004, 0.10006):
  given = np.array([x], np.float32)
  print(f'{x:.5f}', *(runner(x=given)['less'][0] for runner in runners))
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
