"""Entries of JSON, compared with what `json.loads` says of the whole."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slim_inception.datasets import json_entries

_VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
  lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
  max_leaves=8,
)


class _Slowly(io.StringIO):
  """A file that gives a few characters at a time, so that each border is tried."""

  def read(self, size=-1):
    return super().read(3)


@given(st.lists(_VALUES, max_size=6), st.booleans(), st.sampled_from([None, 1]))
def test_arrays(values, is_ascii, indent):
  text = json.dumps(values, ensure_ascii=is_ascii, indent=indent)
  for file in (io.StringIO(text), _Slowly(text)):
    assert list(json_entries.entries(file)) == [(None, value) for value in values]


@given(st.dictionaries(st.text(max_size=5), _VALUES, max_size=6), st.sampled_from([None, 1]))
def test_objects(values, indent):
  text = f' {json.dumps(values, indent=indent)}\r\n'
  assert list(json_entries.entries(_Slowly(text))) == list(values.items())


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', r'expected \[ or \{ \(line 1\)'),
    ('7', r'expected \[ or \{'),
    ('[1,\n2 3]', r"expected ',' \(line 2\)"),
    ('[1,\n\n]', r'Expecting value \(line 3\)'),
    ('[{"a": 1}', r"expected ','"),
    ('[{"a": 1', r"Expecting ',' delimiter"),
    ('{"a" 1}', "expected ':'"),
    ('{1: 2}', 'a key that is no text'),
    ('[1]\n[2]', r'something follows its end \(line 2\)'),
    ('[' * 200_000, 'nested too deeply'),
  ],
)
def test_damage(text, message):
  for file in (io.StringIO(text), *([_Slowly(text)] if len(text) < 99 else [])):
    with pytest.raises(json_entries.DamagedError, match=message):
      list(json_entries.entries(file))


def test_what_comes_before_damage_is_there_and_no_more_is_read():
  text = '[' + ', '.join(f'{{"path": "{n}.jpg"}}' for n in range(100_000))
  file = io.StringIO(text)
  entries = json_entries.entries(file)
  assert next(entries) == (None, {'path': '0.jpg'})
  assert file.tell() < len(text) / 10
  with pytest.raises(json_entries.DamagedError, match="expected ','"):
    assert len(list(entries)) == 99_999
