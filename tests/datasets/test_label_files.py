"""Names of classes in the forms that people have."""

import codecs

import pytest
from slim_inception.datasets import label_files

PETS = {0: 'cat', 1: 'dog', 2: 'rabbit'}
ITEM = 'item {{\n  name: "/m/0{0}"\n  id: {0}\n  display_name: "{1}"\n}}\n'


@pytest.mark.parametrize(
  ('text', 'names'),
  [
    ('0:cat\n1:dog\n2:rabbit\n', PETS),
    ('0:cat\r\n1:dog\r\n2:rabbit\r\n', PETS),
    ('0: cat\n\n2: rabbit\n1: dog', PETS),
    ('5:a: b\n', {5: 'a: b'}),
    ('cat\ndog\nrabbit\n', PETS),
    ('cat: pet\n', {0: 'cat: pet'}),
    ('b\u2028c\x0bd\n', {0: 'b\u2028c\x0bd'}),
    ('0 cat\n1 dog\n2 rabbit\n', PETS),
    ('1\tdog\n0\tcat\n2\trabbit\n', PETS),
    ('3 wheeler\n4 wheeler\n', {0: '3 wheeler', 1: '4 wheeler'}),
    ('0\n1\n', {0: '0', 1: '1'}),
    ('["cat", "dog", "rabbit"]', PETS),
    ('{"0": "cat", "1": "dog", "2": "rabbit"}', PETS),
    ('{"0": ["n01", "cat"], "2": ["n03", "rabbit"], "1": ["n02", "dog"]}', PETS),
    ('{"cat": 0, "rabbit": 2, "dog": 1}', PETS),
    ("{0: 'cat',\n 1: 'dog',\n 2: \"rabbit\",}\n", PETS),
    (
      'item {\n  id: 1\n  name: "cat"\n}\n# {\nitem: { k { id: 7 } name: \'a\\"b}\', id: 2 }',
      {1: 'cat', 2: 'a"b}'},
    ),
    (ITEM.format(1, 'cat') + ITEM.format(3, 'd\\u00f6g'), {1: 'cat', 3: 'dög'}),
  ],
)
def test_forms(text, names, tmp_path):
  path = tmp_path / 'labels'
  path.write_text(text, 'utf-8', newline='')
  assert label_files.read_labels(path) == names
  path.write_bytes(codecs.BOM_UTF8 + text.encode())
  assert label_files.read_labels(path) == names
  path.write_text(text, 'utf-16', newline='')
  assert label_files.read_labels(path) == names


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'', ' is empty: lines index:name, names one a line, JSON or a label map'),
    (b' \n', ' is empty: '),
    (b'0:\xff\n', ' is no UTF-8 text'),
    (b'0:cat\ndog\n', ": line 2 is no index:name, as others are: 'dog'"),
    (b'-1:cat\n', ': -1:cat has no index of a class, 0 to 9999999'),
    (b'999999999999:cat\n', ': 999999999999:cat has no index of a class'),
    (b'0:cat\n0:dog\n', ': class 0 is named twice, cat and dog'),
    (b'cat\n\ndog\n', ': line 2 has no name'),
    (b'{}', ': names no class; '),
    (b'[]', ': names no class; '),
    (b'{"0": 1.5}', ": the name of '0' is no text: 1.5"),
    (b'{"0": null}', ": the name of '0' is no text: None"),
    (b'[["n01", "cat"], []]', ': the name of 1 is no text: []'),
    (b'{"a": "cat"}', ": 'a' is no index of a class"),
    (b'{"0": "cat"', ': is neither JSON nor a Python literal'),
    (b'{' * 100_000, ': is neither JSON nor a Python literal'),
    (b'item { id: 1 name: "a" }\nitem { id: 2', ": is a label map, but this is no item: 'item"),
    (b'item {\n name: "cat"\n}', ': an item needs id and name: \'name: "cat"\''),
  ],
)
def test_what_is_no_such_file_is_named(content, message, tmp_path):
  path = tmp_path / 'labels'
  path.write_bytes(content)
  with pytest.raises(ValueError) as error:
    label_files.read_labels(path)
  assert str(error.value).startswith(f'{path}{message}')
