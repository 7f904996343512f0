"""Records as TF-Slim writes them, built without the code under test."""

import tensorflow as tf


def feature(value):
  value = value if isinstance(value, list) else [value]
  if isinstance(value[0], bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
  if isinstance(value[0], float):
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))
  return tf.train.Feature(int64_list=tf.train.Int64List(value=value))


def example(**keys):
  """A serialized Example; "_" in a keyword stands for "/", "__" for "_"."""
  features = {
    key.replace('__', ' ').replace('_', '/').replace(' ', '_'): feature(value)
    for key, value in keys.items()
  }
  whole = tf.train.Example(features=tf.train.Features(feature=features))
  return whole.SerializeToString(deterministic=True)


def flowers_example(label=3):
  """As slim's dataset_utils.image_to_tfexample writes it."""
  return example(
    image_encoded=b'jpg bytes',
    image_format=b'jpg',
    image_class_label=label,
    image_height=240,
    image_width=320,
  )


def imagenet_example():
  """As slim's build_imagenet_data.py writes it."""
  return example(
    image_height=375,
    image_width=500,
    image_colorspace=b'RGB',
    image_channels=3,
    image_class_label=231,
    image_class_synset=b'n02105855',
    image_class_text=b'Shetland sheepdog',
    image_object_bbox_xmin=[0.1, 0.5],
    image_object_bbox_xmax=[0.4, 0.75],
    image_object_bbox_ymin=[0.2, 0.0],
    image_object_bbox_ymax=[0.6, 1.0],
    image_object_bbox_label=[231, 231],
    image_format=b'JPEG',
    image_filename=b'n02105855_2933.JPEG',
    image_encoded=b'jpeg bytes',
  )


def write(path, examples):
  """Writes a TFRecord file."""
  with tf.io.TFRecordWriter(str(path)) as writer:
    for serialized in examples:
      writer.write(serialized)
  return path
