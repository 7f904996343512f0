import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import records

from tests.datasets.slim_records import flowers_example, imagenet_example, write


def test_reads_slims_flowers():
  parsed = records.parse_example(tf.constant(flowers_example()))
  assert parsed['encoded'].numpy() == b'jpg bytes'
  assert (parsed['label'].numpy(), parsed['label'].dtype) == (3, tf.int64)
  assert parsed['bbox'].shape == (0, 4)
  assert parsed['filename'].numpy() == b''


def test_reads_slims_imagenet():
  parsed = records.parse_example(tf.constant(imagenet_example()))
  assert parsed['label'].numpy() == 231
  assert parsed['filename'].numpy() == b'n02105855_2933.JPEG'
  np.testing.assert_allclose(parsed['bbox'], [[0.2, 0.1, 0.6, 0.4], [0, 0.5, 1, 0.75]], rtol=1e-6)


def test_one_map_reads_both_layouts_in_tf_data(tmp_path):
  path = write(tmp_path / 'mixed', [flowers_example(), imagenet_example()])
  dataset = tf.data.TFRecordDataset(str(path)).map(records.parse_example)
  for got, serialized in zip(dataset, [flowers_example(), imagenet_example()], strict=True):
    eager = records.parse_example(tf.constant(serialized))
    assert got.keys() == eager.keys()
    for key in got:
      np.testing.assert_array_equal(got[key], eager[key])


def test_boxes_are_brought_into_the_image_and_need_area():
  boxes = [[-0.1, 0.2, 1.2, 0.9], [0.5, 0.5, 0.5, 0.8], [0.6, 0.1, 0.4, 0.2]]
  serialized = records.encode_example(
    b'', label=1, image_format='JPEG', height=2, width=2, boxes=boxes
  )
  bbox = records.parse_example(tf.constant(b''.join(serialized)))['bbox']
  np.testing.assert_allclose(bbox, [[0, 0.2, 1, 0.9]], rtol=1e-6)


def test_encodes_what_slim_encodes():
  ours = records.encode_example(
    b'jpeg bytes',
    label=231,
    image_format='JPEG',
    height=375,
    width=500,
    text='Shetland sheepdog',
    synset='n02105855',
    filename='n02105855_2933.JPEG',
    boxes=[(0.2, 0.1, 0.6, 0.4), (0.0, 0.5, 1.0, 0.75)],
  )
  assert tf.train.Example.FromString(b''.join(ours)) == tf.train.Example.FromString(
    imagenet_example()
  )


def test_what_a_data_set_has_not_is_left_out():
  serialized = records.encode_example(b'x', label=0, image_format='PNG', height=1, width=1)
  keys = set(tf.train.Example.FromString(b''.join(serialized)).features.feature)
  assert keys == {
    'image/encoded', 'image/format', 'image/class/label', 'image/height', 'image/width',
    'image/colorspace', 'image/channels',
  }  # fmt: skip


RNG = np.random.default_rng(0)
FEATURES = {
  'ints': [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)],
  'floats': [0.0, -1.5, 1e30],
  'bytes': [b'', b'x', RNG.bytes(70_000)],
  'Ümlaut': ['ä', 'b'],
  'one': [5],
}


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


def test_wire_format_is_protobufs():
  ours, proto = records.encode_features(FEATURES), as_proto(FEATURES).features
  assert tf.train.Features.FromString(ours) == proto
  assert ours == proto.SerializeToString(deterministic=True)


@pytest.mark.parametrize('size', [0, 100, 127, 128, 16_300, 16_384, 70_000, 2_097_100, 2_100_000])
def test_record_is_protobufs(size):
  """Lengths of one to four bytes; the keys are sorted as protobuf sorts them."""
  facts = {'label': 300, 'image_format': 'JPEG', 'height': 1, 'width': 70_000}
  ours = b''.join(
    records.encode_example(
      RNG.bytes(size), **facts, text='ä', synset='n1', filename='ö.jpg', boxes=[(0, 0, 0.5, 1)] * 40
    )
  )
  assert ours == tf.train.Example.FromString(ours).SerializeToString(deterministic=True)


def test_reads_what_protobuf_writes():
  decoded = records.decode_features(as_proto(FEATURES).SerializeToString())
  assert decoded.keys() == FEATURES.keys()
  assert decoded['ints'] == FEATURES['ints']
  np.testing.assert_array_equal(np.float32(decoded['floats']), np.float32(FEATURES['floats']))
  assert decoded['bytes'] == FEATURES['bytes']
  assert decoded['Ümlaut'] == ['ä'.encode(), b'b']


def test_noise_is_no_example():
  """Broken bytes end in ValueError, whatever they are."""
  whole = as_proto(FEATURES | {'bytes': [b'x']}).SerializeToString()
  for _ in range(300):
    noise = bytearray(whole[: RNG.integers(1, len(whole))])
    noise[RNG.integers(len(noise))] = RNG.integers(256)
    try:
      records.decode_features(bytes(noise))
    except ValueError as error:
      assert str(error).startswith('no tf.train.Example')
