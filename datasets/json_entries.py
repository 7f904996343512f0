"""The entries of a large JSON array or object, one at a time: the whole is never in memory."""

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

_CHUNK = 1 << 16  # characters that are read at a time; more where an entry is longer
_SPACE = re.compile(r'[ \t\n\r]*')
_CLOSING = {'[': ']', '{': '}'}
_AFTER_VALUE = frozenset(' \t\n\r,:]}')


class DamagedError(ValueError):
  """This is no JSON array and no object: what was yielded before is as it says."""


def entries(file: TextIO) -> Iterator[tuple[str | None, Any]]:
  """Yields None and value of each entry of an array, or key and value of each of an object.

  Raises:
    DamagedError: this is neither.
  """
  reader = _Reader(file)
  opening = reader.character()
  if opening not in _CLOSING:
    raise reader.error('expected [ or {')
  closing, is_first = _CLOSING[opening], True
  reader.skip()
  while reader.character() != closing:
    if not is_first:
      reader.expect(',')
    is_first, key = False, None
    if opening == '{':
      key = reader.value()
      if not isinstance(key, str):
        raise reader.error('a key that is no text')
      reader.expect(':')
    yield key, reader.value()
  reader.skip()
  if reader.character():
    raise reader.error('something follows its end')


class _Reader:
  """A position in a text that is read as far as it is needed."""

  def __init__(self, file: TextIO) -> None:
    self._file = file
    self._text, self._position = '', 0
    self._line = 1  # of the beginning of `_text`
    self._decoder = json.JSONDecoder()

  def character(self) -> str:
    """The next one that is no space; '' at the end."""
    while True:
      match = _SPACE.match(self._text, self._position)
      self._position = match.end() if match else self._position
      if self._position < len(self._text):
        return self._text[self._position]
      if not self._more():
        return ''

  def skip(self) -> None:
    """Passes over the next character."""
    self._position += 1

  def expect(self, character: str) -> None:
    """Passes over this one; raises DamagedError where it is another."""
    if self.character() != character:
      raise self.error(f'expected {character!r}')
    self.skip()

  def value(self) -> Any:
    """The next value; raises DamagedError where there is none."""
    self.character()
    while True:
      try:
        value, end = self._decoder.raw_decode(self._text, self._position)
        # 1, and 1. too, may be the beginning of 1.5.
        if self._text[end : end + 1] in _AFTER_VALUE or not self._more():
          self._position = end
          return value
      except json.JSONDecodeError as error:
        if not self._more():
          raise self.error(error.msg) from None
      except RecursionError:
        raise self.error('it is nested too deeply') from None

  def error(self, what: str) -> DamagedError:
    line = self._line + self._text.count('\n', 0, self._position)
    return DamagedError(f'{what} (line {line:,})')

  def _more(self) -> bool:
    """Reads on, and forgets what lies before the position; False at the end."""
    # Twice as much where an entry has not ended: it is decoded from its beginning each time.
    chunk = self._file.read(max(_CHUNK, len(self._text) - self._position))
    if chunk:
      self._line += self._text.count('\n', 0, self._position)
      self._text, self._position = self._text[self._position :] + chunk, 0
    return bool(chunk)
