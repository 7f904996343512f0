import hypothesis
import numpy as np
import tensorflow as tf
from hypothesis import strategies
from slim_inception.datasets import records

from tests.datasets.slim_records import flowers_example, imagenet_example, write


def test_one_map_reads_slims_flowers_and_imagenet(tmp_path):
  path = write(tmp_path / 'mixed', [flowers_example(), imagenet_example()])
  flowers, imagenet = tf.data.TFRecordDataset(str(path)).map(records.parse_example)
  assert flowers['encoded'].numpy() == b'jpg bytes'
  assert (flowers['label'].numpy(), flowers['label'].dtype) == (3, tf.int64)
  assert flowers['bbox'].shape == (0, 4)
  assert flowers['filename'].numpy() == b''
  assert imagenet['label'].numpy() == 231
  assert imagenet['filename'].numpy() == b'n02105855_2933.JPEG'
  np.testing.assert_allclose(imagenet['bbox'], [[0.2, 0.1, 0.6, 0.4], [0, 0.5, 1, 0.75]], rtol=1e-6)


def test_encodes_what_slim_encodes():
  ours = records.encode_example(
    b'jpeg bytes', label=231, image_format='JPEG', height=375, width=500,
    text='Shetland sheepdog', synset='n02105855', filename='n02105855_2933.JPEG',
    boxes=[(0.2, 0.1, 0.6, 0.4), (0.0, 0.5, 1.0, 0.75)],
  )  # fmt: skip
  assert tf.train.Example.FromString(b''.join(ours)) == tf.train.Example.FromString(
    imagenet_example()
  )


quick = hypothesis.settings(max_examples=60, derandomize=True, database=None, deadline=None)
TEXT = strategies.text(strategies.characters(exclude_categories=['Cs']), max_size=20)
INTS = strategies.integers(-(2**63), 2**63 - 1)
# TensorFlow's threads take subnormal numbers for 0, NumPy does not.
SIDE = strategies.floats(-0.5, 1.5, width=32, allow_subnormal=False)
FLOATS = strategies.floats(width=32, allow_nan=False)
FEATURES = strategies.dictionaries(
  TEXT,
  strategies.one_of(
    strategies.lists(values, min_size=1, max_size=5)
    for values in (INTS, FLOATS, TEXT, strategies.binary(max_size=200))
  ),
)


def as_proto(features):
  whole = tf.train.Example()
  for key, values in features.items():
    feature = whole.features.feature[key]
    if isinstance(values[0], int):
      feature.int64_list.value.extend(values)
    elif isinstance(values[0], float):
      feature.float_list.value.extend(values)
    else:
      feature.bytes_list.value.extend(v.encode() if isinstance(v, str) else v for v in values)
  return whole


@quick
@hypothesis.given(FEATURES)
def test_wire_format_is_protobufs(features):
  """Both ways; the order of the features makes no difference."""
  ours, proto = records.encode_features(features), as_proto(features)
  assert tf.train.Features.FromString(ours) == proto.features
  assert ours == records.encode_features(dict(reversed(features.items())))
  decoded = records.decode_features(proto.SerializeToString())
  assert decoded == {
    key: [value.encode() if isinstance(value, str) else value for value in values]
    for key, values in features.items()
  }


@quick
@hypothesis.given(
  # Lengths of one to four bytes.
  size=strategies.sampled_from([0, 100, 127, 128, 16_300, 16_384, 70_000, 2_097_100, 2_100_000]),
  label=strategies.integers(0, 1000),
  text=strategies.none() | TEXT,
  synset=strategies.none() | TEXT,
  filename=strategies.none() | TEXT,
  boxes=strategies.lists(strategies.tuples(*[SIDE] * 4)),
)
def test_records_are_protobufs_and_parse(size, label, text, synset, filename, boxes):
  serialized = b''.join(
    records.encode_example(
      bytes(size), label=label, image_format='JPEG', height=1, width=70_000,
      text=text, synset=synset, filename=filename, boxes=boxes,
    )
  )  # fmt: skip
  proto = tf.train.Example.FromString(serialized)
  assert serialized == proto.SerializeToString(deterministic=True)
  feature = proto.features.feature
  assert sum('bbox' in key for key in feature) == (5 if boxes else 0)
  for key, value in {'class/text': text, 'class/synset': synset, 'filename': filename}.items():
    assert (f'image/{key}' in feature) == (value is not None)
    if value is not None:
      assert feature[f'image/{key}'].bytes_list.value == [value.encode()]
  parsed = records.parse_example(tf.constant(serialized))
  assert parsed['encoded'].numpy() == bytes(size)
  assert parsed['label'].numpy() == label
  assert parsed['filename'].numpy() == (filename or '').encode()
  clipped = np.clip(np.reshape(np.float32(boxes), [-1, 4]), 0, 1)
  has_area = (clipped[:, :2] < clipped[:, 2:]).all(-1)
  np.testing.assert_array_equal(parsed['bbox'], clipped[has_area])


@quick
@hypothesis.given(FEATURES.filter(bool), strategies.data())
def test_noise_is_no_example(features, data):
  """Broken bytes end in ValueError, if in anything."""
  whole = bytearray(as_proto(features).SerializeToString())
  whole[data.draw(strategies.integers(0, len(whole) - 1))] = data.draw(strategies.integers(0, 255))
  try:
    records.decode_features(bytes(whole[: data.draw(strategies.integers(1, len(whole)))]))
  except ValueError as error:
    assert str(error).startswith('no tf.train.Example')
