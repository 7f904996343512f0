"""Files, folders and names that are no weights of a net: what they are, and what to do.

They are told by their first bytes, by names that only such files have, or by what a folder holds.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path

SOURCE = 'give the checkpoint or the file of weights that it was made from'
_IMAGE = 'an image, not weights: slim-inception classify takes images'
# {where the bytes begin: {bytes: what a file of them is}}
_BYTES: dict[int, dict[bytes, str]] = {
  0: {
    b'\xff\xd8\xff': _IMAGE,
    b'\x89PNG': _IMAGE,
    b'GIF8': _IMAGE,
    b'BM': _IMAGE,
    b'II*\x00': _IMAGE,
    b'MM\x00*': _IMAGE,
    b'\x93NUMPY': 'an array of NumPy, without the names of a net: ' + SOURCE,
    b'GGUF': 'a language model (GGUF), not weights of a net of images',
    b'\x08\x01\x12': 'the graph of a SavedModel: name its folder, where the variables are',
    b'%PDF': 'a document (PDF), not weights',
  },
  4: {b'TFL3': 'a TFLite model, whose layers are folded and have no names: ' + SOURCE},
  8: {b'WEBP': _IMAGE},
}
_ONNX = re.compile(rb'\x08[\x03-\x20](\x12|:|B)')  # ir_version, then producer, graph or version
_PICKLE = re.compile(rb'\x80[\x02-\x05]')
_TEXTS = {  # how it begins, in lower case
  b'model_checkpoint_path': 'the list of the checkpoints of a run, not weights: name its folder',
  b'{': 'a JSON file, not weights: name the file of the weights beside it',
  b'node {': 'a graph written as text, without weights: ' + SOURCE,
  b'<!doctype': 'a web page, not weights: download the file itself',
  b'<html': 'a web page, not weights: download the file itself',
  b'<?xml': 'a web page, not weights: download the file itself',
  b'version https://git-lfs': ('a Git LFS pointer, not weights: fetch the file with git lfs pull'),
}
# {what a name has: what the file is}, of state dicts and of checkpoints
_NAMES = {
  r'(^|[._/])(lora_(A|B|up|down|embedding_A)|hada_w1_a|lokr_w1|ia3_l)([._]|$)': (
    'an adapter (LoRA), which changes the weights of another model: merge it into that '
    '(merge_and_unload() of peft) and save the whole model'
  ),
  r'(^|[./])(exp_avg(_sq)?|momentum_buffer|param_groups|optimizer(_state_dict)?)([./]|$)': (
    'the state of an optimizer, without weights: give the file that has them'
  ),
  r'(^|[./])(rpn|roi_heads|bbox_head|class_embed|anchor_generator|\w*BoxPredictor(_\d+)?)[./]'
  r'|(^|\.)model\.\d+\.(dfl|anchors|m\.\d+\.(weight|bias)$)': (
    'a detector, with another net in it: give one whose net is that of --model_name'
  ),
  r'\d+[./](attn|attention|self_attn|self_attention)[./]': 'a transformer, not a convolutional net',
}
_IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff')
_RECORDS = re.compile(r'.+(?<!\.data)-\d{5}-of-\d{5}$|.+\.tfrecords?$')
_LOOKED_AT = 10_000  # entries of a folder


def of_bytes(head: bytes) -> str:
  """What a file that begins so is; '' if that is not known.

  Args:
    head: its first 512 bytes, or all of them.
  """
  for start, kinds in _BYTES.items():
    for magic, text in kinds.items():
      if head.startswith(magic, start):
        return text
  if _ONNX.match(head):
    return 'an ONNX model, whose layers may be folded and have lost their names: ' + SOURCE
  if _PICKLE.match(head):
    return 'a pickle of Python, which is not opened, since it can run code: save a state_dict()'
  return ''


def of_text(head: bytes) -> str:
  """What a text that begins so is; '' if it is no text."""
  text = head.lstrip(b'\xef\xbb\xbf \t\r\n')
  for beginning, kind in _TEXTS.items():
    if text.lower().startswith(beginning):
      return kind
  try:
    content = text.decode()
  except UnicodeDecodeError as error:
    if error.start < len(text) - 3:  # else a character that the head cuts
      return ''
    content = text[: error.start].decode()
  if not content or not all(c.isprintable() or c in '\t\r\n' for c in content):
    return ''
  return f'a text ("{content.splitlines()[0][:40]}"...), not weights: name the file of the weights'


def of_names(names: Collection[str]) -> str:
  """What a file with arrays of these names is; '' if that is not known."""
  for pattern, text in _NAMES.items():
    if any(re.search(pattern, name) for name in names):
      return text
  return ''


def of_folder(path: str) -> str:
  """What a folder without weights is; '' if that is not known."""
  entries = sorted(os.scandir(path), key=lambda entry: entry.name)[:_LOOKED_AT]
  models = [
    entry.path
    for entry in entries
    if entry.is_dir() and os.path.exists(os.path.join(entry.path, 'saved_model.pb'))
  ]
  if models:
    return f'a folder of SavedModels: name one of {", ".join(models[:5])}'
  names = [entry.name for entry in entries if entry.is_file()]
  if any(_RECORDS.match(name) for name in names):
    return 'a folder of records, a data set and no weights: --dataset_dir takes it'
  below = (file for entry in entries if entry.is_dir() for file in _first_files(entry.path))
  if any(name.lower().endswith(_IMAGES) for name in (*names, *below)):
    return 'a folder of images and no weights: slim-inception data makes a data set of it'
  return ''


def _first_files(path: str, count: int = 100) -> list[str]:
  return [entry.name for _, entry in zip(range(count), Path(path).iterdir(), strict=False)]
