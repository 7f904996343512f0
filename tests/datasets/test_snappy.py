"""Parts of what Google's Snappy compressed, which pyarrow brings along."""

import os
import random

import pytest
from slim_inception.datasets import snappy
from slim_inception.datasets.images import BadImageError

pyarrow = pytest.importorskip('pyarrow', reason='extra parquet')


def compressed(content):
  return pyarrow.Codec('snappy').compress(content).to_pybytes()


def mixed():
  """Photographs have no copies, their headers are copies of one; and one byte a thousand times."""
  header = bytes(range(256)) * 2
  return b''.join(header + os.urandom(size) + b'\xff' * 1000 for size in (3, 9000, 150_000, 70_000))


def index_of(path, content):
  packed = compressed(content)
  path.write_bytes(b'before' + packed + b'behind')
  data = path.read_bytes()
  return snappy.Index(str(path), data, 6, 6 + len(packed), len(content))


def test_any_part_is_read_without_the_whole(tmp_path):
  content = mixed()
  index, numbers = index_of(tmp_path / 'file', content), random.Random(0)
  places = [sorted(numbers.sample(range(len(content) + 1), 2)) for _ in range(300)]
  borders = range(0, len(content), snappy.BLOCK)
  places += [(border, border + 1) for border in borders] + [(0, len(content)), (7, 7)]
  for start, end in places:
    part = index.place(start, end - start)
    assert part.size == end - start and part.read() == content[start:end]
    assert part.packed_size <= end - start + snappy.BLOCK + 1000
    if end > start:
      assert index.read(start, end) == content[start:end]


def test_streams_of_which_no_part_can_be_read(tmp_path):
  literal = b'\xfe' + (snappy.BLOCK).to_bytes(3, 'little')  # of one byte more than a block
  crossing = b'\x81\x80\x04' + literal + bytes(snappy.BLOCK + 1)
  with pytest.raises(ValueError, match='crosses a border'):
    snappy.Index('', crossing, 0, len(crossing), snappy.BLOCK + 1)
  content = os.urandom(snappy.BLOCK) + b'of 64 KiB'
  packed = compressed(content)
  copying = packed[:-10] + b'\x22' + (9).to_bytes(2, 'little')  # nine bytes from before the border
  with pytest.raises(ValueError, match='crosses a border'):
    snappy.Index('', copying, 0, len(copying), len(content))
  text = ' '.join(map(str, range(100_000))).encode()
  packed = compressed(text)
  with pytest.raises(ValueError, match='too many elements'):
    snappy.Index('', packed, 0, len(packed), len(text))


def test_damage_is_of_one_image(tmp_path):
  path, content = tmp_path / 'file', bytes(range(256)) + b'ab' * 50 + os.urandom(300)
  part, packed = index_of(path, content).place(10, 600), path.read_bytes()
  for position in range(part.offset, part.offset + part.packed_size):
    for flipped in (0x01, 0x80, 0xFF):
      damaged = bytearray(packed)
      damaged[position] ^= flipped
      path.write_bytes(damaged)
      try:
        assert len(part.read()) == 600
      except BadImageError as error:
        assert str(error).startswith(f'is damaged in {path}: ')
