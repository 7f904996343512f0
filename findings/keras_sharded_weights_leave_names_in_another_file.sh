#!/usr/bin/env bash
# In Keras' sharded weights a layer's name may lie in another file than its arrays.
#
# Versions:  Keras 3.15.1, TensorFlow 2.21.0, h5py 3.14.0; seen on Linux x86-64 with Python 3.11.
# Expected:  each file that NAME.weights.json lists describes the layers whose arrays it holds, as a
#            .weights.h5 does: by the attribute `name` of the group's vars.
# Behaviour: the group is made, with the name, in the file that is being written; an array that does
#            not fit there any more goes into the next file, in a group without the name. The index
#            lists the next file alone for that layer.
# Seen, the file, the group, the attribute `name` and the arrays; and what the index says of dense_1:
#     net_00000 dense: first ['0', '1']
#     net_00000 dense_1: second []
#     net_00001 dense_1: None ['0', '1']
#     index: dense_1 is in net_00001.weights.h5
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1 TF_CPP_MIN_LOG_LEVEL=3
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow==2.21.0 numpy==2.4.6 keras==3.15.1 h5py==3.14.0

cat >"$folder/shown.py" <<'PYTHON'
import json
import os
import pathlib

import h5py
import keras

folder = pathlib.Path(os.path.dirname(__file__), 'weights')
folder.mkdir()
inputs = outputs = keras.Input((30,))
for name in ('first', 'second'):
  outputs = keras.layers.Dense(30, name=name)(outputs)
model = keras.Model(inputs, outputs)
model.save_weights(folder / 'net.weights.json', max_shard_size=4000 / 1024**3)  # GB: one kernel
for path in sorted(folder.glob('*.h5')):
  with h5py.File(path) as file:
    for group in sorted(file['layers']):
      variables = file['layers'][group]['vars']
      if group.startswith('dense'):
        name = variables.attrs.get('name')
        print(f'{path.name.split(".")[0]} {group}: {name} {sorted(variables)}')
index = json.loads((folder / 'net.weights.json').read_text())['weight_map']
files = index['/layers/dense_1/vars']
print('index: dense_1 is in', ', '.join([files] if isinstance(files, str) else files))
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
