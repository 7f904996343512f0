#!/usr/bin/env bash
# WebDataset's reader merges samples that its writer kept apart, where their keys have dots.
#
# Versions:  webdataset 1.0.2; seen on Linux x86-64 with Python 3.11.
# Expected:  what TarWriter takes, WebDataset gives back: as many samples, with their keys and
#            entries; or the writer refuses such a key.
# Behaviour: the writer names the files KEY.EXTENSION. The reader ends the key at the first dot, so
#            keys with dots (photos of 2024.06.01, say) lose what follows it, and neighbours that
#            agree up to there become one sample. Nothing is said.
# Seen, four samples written, each with the entry txt:
#     written: a.1, a.2, b.1, b.2
#     read: a with 1.txt, 2.txt
#     read: b with 1.txt, 2.txt
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2

cat >"$folder/shown.py" <<'PYTHON'
import os

import webdataset

path = os.path.join(os.path.dirname(__file__), 'shard.tar')
keys = ['a.1', 'a.2', 'b.1', 'b.2']
with webdataset.TarWriter(path) as writer:
  for key in keys:
    writer.write({'__key__': key, 'txt': f'the text of {key}'})
print('written:', ', '.join(keys))
for sample in webdataset.WebDataset(path, shardshuffle=False):
  entries = sorted(name for name in sample if not name.startswith('__'))
  print(f'read: {sample["__key__"]} with {", ".join(entries)}')
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
