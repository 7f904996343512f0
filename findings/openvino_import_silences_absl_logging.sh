#!/usr/bin/env bash
# Importing OpenVINO takes absl's handler away from the log: lines get another form, or are lost.
#
# Versions:  openvino 2026.4.1, absl-py 2.5.1; seen on Linux x86-64 with Python 3.11.
# Expected:  an import leaves the log of the program as it is.
# Behaviour: openvino.tools.ovc, which `import openvino` imports, removes absl's handler from the root
#            logger, so that INFO is no longer shown, and after the first call of the module's
#            functions has the form of logging.basicConfig. logging.use_absl_handler() puts it back.
# Seen, the handlers of the root logger before, after the import, and after use_absl_handler():
#     ['ABSLHandler']
#     []
#     ['ABSLHandler']
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet openvino==2026.4.1 absl-py==2.5.1

cat >"$folder/shown.py" <<'PYTHON'
import logging

import absl.logging


def handlers():
  return [type(handler).__name__ for handler in logging.getLogger().handlers]


absl.logging.use_absl_handler()
print(handlers())
import openvino

print(handlers())
absl.logging.use_absl_handler()
print(handlers())
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
