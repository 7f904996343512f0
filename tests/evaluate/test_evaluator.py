"""Nets and ensembles on real records: every image counts once, whatever shares the work."""

import io
import itertools
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.datasets import records, shards
from slim_inception.nets import checkpoints, nets_factory

from slim_inception.cluster import Cluster
from slim_inception.evaluate import run
from slim_inception.evaluate.config import resolve
from slim_inception.evaluate.evaluator import Evaluation
from tests import records as small_records
from tests import tiny
from tests.datasets.odd_images import encode
from tests.evaluate import test_views

pytestmark = pytest.mark.integration

COUNT = 23


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  directory = tmp_path_factory.mktemp('data')
  return small_records.write_set(directory, count=COUNT, split='validation')


@pytest.fixture(scope='module')
def nets(tmp_path_factory):
  """Three checkpoints of untrained nets; the third is made for smaller images."""
  directory = tmp_path_factory.mktemp('nets')
  for i in range(3):
    tiny.random_net(3, seed=i).save(str(directory / f'model.ckpt-{i}'))
  return [str(directory / f'model.ckpt-{i}') for i in range(3)]


def request(data, *paths, **flags):
  nets = {'checkpoint_path': ','.join(paths), 'model_name': tiny.NAME}
  where = {'dataset_name': 'image_folder', 'dataset_dir': str(data), 'batch_size': 5}
  return resolve({**nets, 'preprocessing_name': 'inception', **where, **flags})


def evaluate(data, *paths, cluster=None, **flags):
  return Evaluation(request(data, *paths, **flags), cluster).evaluate(paths)


def logits_by_hand(data, path, image_size=32):
  """{file name: logits} by Pillow's decoder, slim's crop and the net alone."""
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  model.restore(path)
  images = {}
  for shard in sorted(data.glob('validation-*')):
    for record in tf.compat.v1.io.tf_record_iterator(str(shard)):
      features = tf.train.Example.FromString(record).features.feature
      with Image.open(io.BytesIO(features['image/encoded'].bytes_list.value[0])) as opened:
        pixels = np.asarray(opened, np.float32)[2:38, 3:45] / 255  # 0.875 of 40 x 48
      name = features['image/filename'].bytes_list.value[0].decode()
      images[name] = (
        tf.compat.v1.image.resize_bilinear(pixels[np.newaxis], [image_size] * 2) - 0.5
      ) * 2
  logits, _ = model(tf.concat(list(images.values()), axis=0))
  return dict(zip(images, logits.numpy(), strict=True))


def softmax(logits):
  return np.exp(logits) / np.exp(logits).sum()


def assert_predicts(predictions, probabilities):
  """Compares with {file name: [3] probabilities}."""
  assert sorted(predictions.filenames) == sorted(probabilities)
  for name, top, found in zip(
    predictions.filenames, predictions.top, predictions.probabilities, strict=True
  ):
    np.testing.assert_allclose(found, probabilities[name][top], atol=2e-3, err_msg=name)
    assert list(found) == sorted(found, reverse=True)
  right = [int(name.removesuffix('.jpg')) % 3 for name in predictions.filenames]
  assert predictions.labels.tolist() == [[label] for label in right]


@pytest.fixture(scope='module')
def alone(data, nets):
  return evaluate(data, nets[0])


def test_one_net(data, nets, alone):
  found = alone
  logits = logits_by_hand(data, nets[0])
  assert_predicts(found.predictions, {name: softmax(row) for name, row in logits.items()})
  assert found.predictions.record_indices.tolist() == list(range(COUNT))
  assert found.metrics['num_images'] == COUNT
  assert found.metrics['crop_scales'] == []  # slim's view is made of the whole image
  aspect = evaluate(data, nets[0], resize='aspect', max_images=1)
  assert aspect.metrics['crop_scales'] == [37]  # 32 / 0.875
  right = [row.argmax() == int(name[:-4]) % 3 for name, row in logits.items()]
  assert found.metrics['top_1'] == pytest.approx(np.mean(right))


def test_views_are_counted_and_the_last_batch_is_traced_no_more(data, nets, caplog):
  """23 images of twelve views are 276, in batches of 50: the last has 26."""
  evaluation = Evaluation(request(data, *nets[:2], crops='12', batch_size=50))
  reported = []
  records = evaluation._records({})
  with caplog.at_level('INFO', 'absl'):
    evaluation._ensemble.load(nets[:2])
    predictions = list(evaluation._ensemble.predict(records, report=reported.append))
  assert reported == [50] * 10 + [26] * 2  # both nets look at each batch
  assert sum(reported) == evaluation._ensemble.num_views(COUNT)
  assert f'{nets[1]}: {tiny.NAME}, plain weights, 32 x 32 pixels, 12 views' in caplog.messages
  assert [message for message in caplog.messages if message.startswith('Tracing')] == [
    f'Tracing and compiling {tiny.NAME}: the first batch takes longer'
  ] * 2
  for scorer in evaluation._ensemble.scorers:
    assert scorer.score.experimental_get_tracing_count() == 1
  one_by_one = evaluate(data, *nets[:2], crops='12', batch_size=12).predictions
  for prediction, top, expected in zip(
    predictions, one_by_one.top, one_by_one.probabilities, strict=True
  ):
    np.testing.assert_allclose(prediction.probabilities[top], expected, rtol=1e-5)


def test_what_is_evaluated_is_said(data, nets, caplog):
  with caplog.at_level('INFO', 'absl'):
    run.evaluate(request(data, nets[0], max_images=7, eval_dir=str(data / 'eval')))
  first, second, *_ = caplog.messages
  assert first.startswith('Evaluating on image_folder validation: 7 images, 3 classes; on CPU (')
  assert second == f'{nets[0]}: {tiny.NAME}, plain weights, 32 x 32 pixels'


@pytest.mark.parametrize(
  'average', ['probabilities', pytest.param('logits', marks=pytest.mark.slow)]
)
def test_an_ensemble_of_one_is_the_net(data, nets, average):
  one = evaluate(data, nets[0], average=average)
  twice = evaluate(data, nets[0], nets[0], average=average)
  for name, value in vars(one.predictions).items():
    np.testing.assert_array_equal(getattr(twice.predictions, name), value)
  for member in twice.metrics['members']:
    assert member['top_1'] == one.metrics['top_1']


@pytest.mark.parametrize(
  ('sizes', 'average'),
  [
    pytest.param('32', 'probabilities', marks=pytest.mark.slow),
    ('32', 'logits'),
    ('32,32,24', 'probabilities'),
  ],
)
def test_an_ensemble_is_the_mean_of_its_members(data, nets, sizes, average):
  """Of one size, which share a pass over the images, and of two."""
  flags = {'eval_image_size': sizes, 'average': average, 'ensemble_weights': '1,2,1'}
  found = evaluate(data, *nets, **flags)
  last = int(sizes.rsplit(',')[-1])
  each = zip(nets, [32, 32, last], strict=True)
  rows = [logits_by_hand(data, path, size) for path, size in each]
  before, after = (np.asarray, softmax) if average == 'logits' else (softmax, np.asarray)
  expected = {
    name: after(np.average([before(of_net[name]) for of_net in rows], axis=0, weights=[1, 2, 1]))
    for name in rows[0]
  }
  assert_predicts(found.predictions, expected)
  for member, of_net in zip(found.metrics['members'], rows, strict=True):
    right = [row.argmax() == int(name[:-4]) % 3 for name, row in of_net.items()]
    assert member['top_1'] == pytest.approx(np.mean(right))
  assert [member['share'] for member in found.metrics['members']] == [0.25, 0.5, 0.25]


@pytest.mark.parametrize('replicas', [2, pytest.param(3, marks=pytest.mark.slow)])
def test_replicas_share_the_images(data, nets, alone, replicas):
  strategy = tf.distribute.MirroredStrategy([f'cpu:{i}' for i in range(replicas)])
  shared = evaluate(data, nets[0], cluster=Cluster(strategy))
  assert shared.metrics['num_images'] == COUNT
  assert shared.predictions.filenames == alone.predictions.filenames
  np.testing.assert_allclose(
    shared.predictions.probabilities, alone.predictions.probabilities, atol=1e-5
  )


def test_10007_records_at_batch_100_on_3_replicas(nets, tmp_path):
  """Of two sizes, so that an image given to the wrong record would show."""
  files = [encode('PNG', pixels=test_views.noise(32, 32 + i)[:, :32]) for i in range(7)]
  small_records.write_set(
    tmp_path, count=10007, num_shards=1, split='validation', image_of=lambda _, i: files[i % 7]
  )
  strategy = tf.distribute.MirroredStrategy([f'cpu:{i}' for i in range(3)])
  found = evaluate(tmp_path, nets[0], cluster=Cluster(strategy), batch_size=100)
  assert found.metrics['num_images'] == 10007
  assert found.predictions.filenames == [f'{i}.jpg' for i in range(10007)]
  for i in range(7):  # the same image, the same answer
    assert len(np.unique(found.predictions.probabilities[i::7].round(4), axis=0)) == 1
  assert found.metrics['skipped_images'] == 0


SHAPES = [test_views.noise(*shape) for shape in test_views.SHAPES.values()]
FLAGS = {
  '10': {'interpolation': 'bicubic'},
  '12': {'crop_scales': '30'},
  '144': {'crop_scales': '27,31,34,38'},
  'dense': {'crop_scales': '40'},
}


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
  """Images landscape and portrait, smaller and larger than every scale."""
  return small_records.write_set(
    tmp_path_factory.mktemp('shapes'),
    count=len(SHAPES),
    split='validation',
    image_of=lambda _, i: encode('PNG', pixels=SHAPES[i]),
  )


def dense_by_hand(model, image):
  """Probabilities at each place of a window of the last feature map, and of the mirror image."""
  variables = model.variables_by_name
  weights, biases = (
    variables[f'InceptionTiny/Logits/Logits/{name}'].numpy() for name in ('weights', 'biases')
  )
  window = model(tf.zeros((1, test_views.SIZE, test_views.SIZE, 3)))[1]['Mixed_3a'].shape[1]
  height, width = image.shape[:2]
  if max(height, width) > 8 * min(height, width):  # the centre of a ribbon
    return None
  whole = test_views.resized(Image.fromarray(image), 40, 'bilinear')
  found = []
  for pixels in (np.asarray(whole), np.asarray(whole)[:, ::-1]):
    features = model(pixels[np.newaxis] / np.float32(127.5) - 1)[1]['Mixed_3a'].numpy()[0]
    rows, columns = (side - window + 1 for side in features.shape[:2])
    for y, x in itertools.product(range(rows), range(columns)):
      pooled = features[y : y + window, x : x + window].mean((0, 1))
      found.append(softmax(pooled @ weights + biases))
  assert len(found) > 2
  return np.mean(found, axis=0)


@pytest.mark.parametrize(
  'crops', [pytest.param(c, marks=pytest.mark.slow if c == '12' else ()) for c in FLAGS]
)
def test_views_and_nets_equal_the_papers_by_hand(shapes, nets, crops):
  """Image by image, with Pillow's resizing and NumPy's means."""
  flags = {'crops': crops, 'eval_image_size': test_views.SIZE, 'batch_size': 7, **FLAGS[crops]}
  found = evaluate(shapes, nets[0], **flags)
  assert (found.metrics['num_images'], found.metrics['crops']) == (len(SHAPES), crops)
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  model.restore(nets[0])
  for row, name in enumerate(found.predictions.filenames):
    image = SHAPES[int(name.removesuffix('.jpg'))]
    if crops == 'dense':
      expected = dense_by_hand(model, image)
    else:
      pixels = test_views.expected_views(image, crops) / np.float32(127.5) - 1
      expected = np.mean([softmax(logits) for logits in model(pixels)[0].numpy()], axis=0)
    if expected is not None:
      found_there = found.predictions.probabilities[row]
      np.testing.assert_allclose(
        found_there, expected[found.predictions.top[row]], atol=1e-5, err_msg=name
      )


# Which images count


def test_images_that_are_left_out(data, nets, tmp_path, caplog):
  names = tmp_path / 'out.txt'
  names.write_text('3.jpg\n11\nno_such.jpg\n')
  with caplog.at_level('WARNING', 'absl'):
    found = evaluate(data, nets[0], exclude_list=str(names))
  assert found.metrics['num_images'] == COUNT - 2
  assert (found.metrics['excluded_images'], found.metrics['skipped_images']) == (2, 0)
  assert {'3.jpg', '11.jpg'}.isdisjoint(found.predictions.filenames)
  assert '1 of 3 entries name no image: no_such.jpg' in caplog.text


def test_the_first_images(data, nets, alone):
  found = evaluate(data, nets[0], max_images=7)
  assert found.metrics['num_images'] == 7
  assert found.metrics['skipped_images'] == 0
  assert found.predictions.filenames == alone.predictions.filenames[:7]
  assert evaluate(data, nets[0], max_num_batches=2).metrics['num_images'] == 10
  assert evaluate(data, nets[0], max_images=100).metrics['num_images'] == COUNT


def test_several_right_answers(data, nets, tmp_path):
  path = tmp_path / 'real.json'
  answers = {f'{i}.jpg': [[0, 1, 2], [], [i % 3]][i % 3] for i in range(COUNT)}
  path.write_text(json.dumps(answers))
  found = evaluate(data, nets[0], real_labels=str(path))
  assert found.metrics['num_images'] == len([a for a in answers.values() if a])
  assert found.metrics['unlabelled_images'] == len([a for a in answers.values() if not a])
  top = dict(zip(found.predictions.filenames, found.predictions.top[:, 0].tolist(), strict=True))
  right = [top[name] in labels for name, labels in answers.items() if labels]
  assert found.metrics['top_1'] == pytest.approx(np.mean(right))


def test_valid_labels(data, nets, tmp_path):
  """The net chooses between two of three classes; images of the third do not count."""
  (tmp_path / 'valid.txt').write_text('0\n2\n')
  found = evaluate(data, nets[0], valid_labels=str(tmp_path / 'valid.txt'))
  logits = logits_by_hand(data, nets[0])
  of_valid = {n: row[[0, 2]] for n, row in logits.items() if int(n[:-4]) % 3 != 1}
  assert found.metrics['num_images'] == len(of_valid)
  assert found.metrics['other_images'] == COUNT - len(of_valid)
  assert found.metrics['unlabelled_images'] == 0
  right = [2 * row.argmax() == int(name[:-4]) % 3 for name, row in of_valid.items()]
  assert found.metrics['top_1'] == pytest.approx(np.mean(right))
  for name, top, found_shares in zip(
    found.predictions.filenames, found.predictions.top, found.predictions.probabilities, strict=True
  ):
    np.testing.assert_allclose(found_shares, softmax(of_valid[name])[top // 2], atol=2e-3)


def test_broken_images_are_skipped_and_counted(nets, tmp_path):
  small_records.write_set(tmp_path, count=12, split='validation', broken=(2, 5))
  for flags in ({}, {'crops': '12'}, {'crops': 'dense'}):
    found = evaluate(tmp_path, nets[0], **flags)
    assert (found.metrics['num_images'], found.metrics['skipped_images']) == (10, 2)
    assert {'2.jpg', '5.jpg'}.isdisjoint(found.predictions.filenames)


# Members


def test_heads_of_other_widths_are_mapped(tmp_path, nets):
  """A net of the classes without background, beside one with it, on labels 1..3 of 0..3."""
  examples = [
    records.encode_example(
      small_records.image(i % 3, i), label=i % 3 + 1, image_format='JPEG', height=40, width=48
    )
    for i in range(9)
  ]
  shards.write_shard(tmp_path / shards.shard_name('validation', 0, 1), examples)
  (tmp_path / 'labels.txt').write_text('0:background\n1:a\n2:b\n3:c\n')
  wide = nets_factory.create_model(tiny.NAME, 4, create_aux_logits=False)
  wide.restore(nets[0], ignore_mismatched=True)
  source = checkpoints.read(nets[0], ['InceptionTiny/Logits/Logits/weights'])
  (weights,) = source.values()
  wide.variables_by_name['InceptionTiny/Logits/Logits/weights'].assign(
    tf.concat([tf.zeros((weights.shape[0], 1)), weights], axis=1)
  )
  biases = wide.variables_by_name['InceptionTiny/Logits/Logits/biases']
  biases.assign([-100.0, *checkpoints.read(nets[0], [biases.name[:-2]])[biases.name[:-2]].numpy()])
  wide.save(str(tmp_path / 'wide.ckpt'))
  narrow = evaluate(tmp_path, nets[0])
  assert narrow.metrics['labels_offset'] == 1
  both = evaluate(tmp_path, nets[0], str(tmp_path / 'wide.ckpt'))
  assert [member['labels_offset'] for member in both.metrics['members']] == [1, 0]
  np.testing.assert_array_equal(both.predictions.top[:, :3], narrow.predictions.top[:, :3])
  np.testing.assert_allclose(
    both.predictions.probabilities, narrow.predictions.probabilities, atol=1e-5
  )


def test_outputs_that_are_no_numbers(data, nets, tmp_path):
  model = nets_factory.create_model(tiny.NAME, 3, create_aux_logits=False)
  model.restore(nets[0])
  model.variables_by_name['InceptionTiny/Logits/Logits/biases'].assign([0, math.nan, 0])
  model.save(str(tmp_path / 'nan.ckpt'))
  with pytest.raises(ValueError, match=r'nan.ckpt: the outputs of the net are not finite'):
    evaluate(data, str(tmp_path / 'nan.ckpt'))


# Files


def test_files_of_an_evaluation(data, nets, tmp_path):
  found = run.evaluate(
    request(data, nets[0], eval_dir=str(tmp_path / 'eval'), report=True, num_example_images=9)
  )
  files = {path.name for path in (tmp_path / 'eval').iterdir()}
  assert files == {
    'metrics.json', 'predictions.csv', 'per_class.csv', 'confusion.csv', 'report.html',
    'predictions.png',
  }  # fmt: skip
  assert found == json.loads((tmp_path / 'eval' / 'metrics.json').read_text())
  with Image.open(tmp_path / 'eval' / 'predictions.png') as sheet:
    assert sheet.size == (8 * 118 + 6, 2 * 152 + 6)
