#!/usr/bin/env bash
# to_parquet of Hugging Face's datasets writes paths of images, not images.
#
# Versions:  datasets 5.2.0, pyarrow 26.0.1, Pillow 13.0.0; seen on Linux x86-64 with Python 3.11.
# Expected:  the file holds the images, as the Parquet files of the Hub do (push_to_hub embeds
#            them), and can be read on another machine.
# Behaviour: of a data set made from a folder the column of the images has paths of this machine,
#            and null for the bytes. Once the folder is gone the file cannot be read.
# Seen, of two PNG files:
#     0.png: bytes None
#     1.png: bytes None
#     read while the folder is there: (8, 8)
#     read when it is gone: FileNotFoundError
# Needs Python 3.11 to 3.13 and a package index. Ends with 0 while all is as seen, otherwise with 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PYTHONDONTWRITEBYTECODE=1
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0

cat >"$folder/shown.py" <<'PYTHON'
import os

os.environ.update(HF_HUB_OFFLINE='1', HF_DATASETS_DISABLE_PROGRESS_BARS='1')

import datasets
import pyarrow.parquet
from PIL import Image

folder = os.path.dirname(os.path.abspath(__file__))
photos, path = os.path.join(folder, 'photos'), os.path.join(folder, 'photos.parquet')
os.makedirs(os.path.join(photos, 'cat'))
for number in range(2):
  Image.new('RGB', (8, 8), (100 * number, 0, 0)).save(f'{photos}/cat/{number}.png')
cache = {'split': 'train', 'cache_dir': os.path.join(folder, 'cache')}
datasets.load_dataset('imagefolder', data_dir=photos, **cache).to_parquet(path)
for row in pyarrow.parquet.read_table(path).to_pylist():
  print(f'{os.path.basename(row["image"]["path"])}: bytes {row["image"]["bytes"]}')
read = datasets.load_dataset('parquet', data_files=path, **cache)
print('read while the folder is there:', read[0]['image'].size)
os.rename(photos, photos + '.moved')
try:
  print('read when it is gone:', read[0]['image'].size)
except OSError as error:
  print('read when it is gone:', type(error).__name__)
PYTHON

"$folder/venv/bin/python" "$folder/shown.py" 2>"$folder/errors" | tee "$folder/found" ||
  { cat "$folder/errors" >&2; exit 1; }
# The header's lines are what is expected.
sed -n '/^# Seen/,/^set /s/^#     //p' "$0" | diff - "$folder/found" ||
  { echo 'This is not what was seen before' >&2; exit 1; }
