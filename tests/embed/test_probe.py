"""slim-inception probe: features of records, and the two classifiers on them."""

import json
import sys

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.datasets import records as records_lib
from slim_inception.nets import nets_factory
from slim_inception.preprocessing import preprocessing_factory

from slim_inception.embed import linear, neighbors
from slim_inception.embed import probe as probe_lib
from slim_inception.embed.probe_config import resolve
from slim_inception.evaluate.metrics import wilson_interval
from tests import records, tiny, zygote

# Neighbours


@pytest.mark.parametrize('k', [1, 7, 40])
@pytest.mark.parametrize('block', [1, 1 << 25])
def test_neighbours_vote_as_those_of_scikit_learn(k, block, monkeypatch):
  sklearn = pytest.importorskip('sklearn.neighbors')
  monkeypatch.setattr(neighbors, '_BLOCK', block)
  rng = np.random.default_rng(0)
  train, asked = (rng.normal(size=(n, 6)).astype(np.float32) for n in (40, 23))
  labels = np.arange(40) % 3
  expected = sklearn.KNeighborsClassifier(
    k, metric='cosine', algorithm='brute', weights=lambda distance: np.exp(-distance / 0.07)
  ).fit(train.astype(np.float64), labels)
  votes = neighbors.probabilities(train, labels, 3 * asked, 4, k, 0.07)
  assert votes.shape == (23, 4) and (votes[:, 3] == 0).all()
  np.testing.assert_allclose(
    votes[:, :3], expected.predict_proba(asked.astype(np.float64)), atol=1e-5
  )


def test_neighbours_vote_at_any_temperature():
  train = np.array([[1, 0], [0, 1]], np.float32)
  votes = neighbors.probabilities(
    train, np.array([1, 0]), np.array([[-2, -1]], np.float32), 2, temperature=1e-4
  )
  np.testing.assert_allclose(votes, [[1, 0]])


def test_neighbours_of_few_images_and_of_nothing():
  train, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
  votes = neighbors.probabilities(train, labels, np.array([[2, 0], [0, 0]], np.float32), 2, k=20)
  assert votes[0, 0] > 0.999 and votes[1].tolist() == [0.5, 0.5]
  with pytest.raises(ValueError, match='features are not finite numbers'):
    neighbors.probabilities(train, labels, np.array([[np.nan, 0]], np.float32), 2)


# The command


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data')
  records.write_set(folder, count=30)
  return records.write_set(folder, count=11, split='validation')


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  folder = tmp_path_factory.mktemp('run')
  tiny.random_net(3, seed=0).save(folder / 'model.ckpt')
  config = {'model_name': tiny.NAME, 'run': {'image_size': 32}}
  (folder / 'config.json').write_text(json.dumps(config))
  return folder / 'model.ckpt'


def request(checkpoint, data, **flags):
  of_records = {'dataset_name': 'image_folder', 'dataset_dir': str(data)}
  return resolve({'checkpoint_path': str(checkpoint), **of_records, 'batch_size': 8, **flags})


@pytest.fixture(scope='module')
def probed(checkpoint, data):
  pytest.importorskip('sklearn')
  return probe_lib.probe(request(checkpoint, data))


def by_hand(checkpoint, data, split):
  """Features and labels, image by image."""
  net = nets_factory.create_model(tiny.NAME, None, weights=str(checkpoint))
  images, labels = [], []
  paths = sorted(dataset_factory.get_dataset('image_folder', split, str(data)).paths)
  for record in tf.data.TFRecordDataset(paths):
    example = records_lib.parse_example(record)
    images.append(preprocessing_factory.INCEPTION.eval_image(example['encoded'], 32, 32))
    labels.append(int(example['label']))
  return net(np.stack(images))[0].numpy()[:, 0, 0], np.array(labels)


@pytest.mark.integration
def test_figures_are_those_of_the_features(probed, checkpoint, data):
  sets = {split: by_hand(checkpoint, data, split) for split in ('train', 'validation')}
  (train, train_labels), (test, labels) = sets.values()
  assert (probed['num_train_images'], probed['num_images']) == (30, 11)
  assert (probed['num_classes'], probed['num_features']) == (3, train.shape[1])
  votes = neighbors.probabilities(train, train_labels, test, 3)
  hits = int((votes.argmax(-1) == labels).sum())
  assert probed['knn']['top_1'] == hits / 11
  assert probed['knn']['top_1_interval'] == list(wilson_interval(hits, 11))
  head = linear.fit(train, train_labels, 3, probed['linear']['l2'])
  hits = int((head.probabilities(test).argmax(-1) == labels).sum())
  assert probed['linear']['top_1'] == hits / 11
  losses = {float(l2): loss for l2, loss in probed['linear']['held_out_losses'].items()}
  assert probed['linear']['l2'] == min(losses, key=losses.get)
  assert 'top_5' not in probed['knn']  # of three classes


@pytest.mark.integration
def test_features_are_kept_until_something_changes(probed, checkpoint, data, tmp_path, monkeypatch):
  flags = {'features_dir': str(tmp_path)}
  first = probe_lib.probe(request(checkpoint, data, **flags))
  assert first['knn'] == probed['knn'] and first['linear'] == probed['linear']
  assert len(list(tmp_path.iterdir())) == 2

  def make(*_, **__):
    raise AssertionError('computed')

  monkeypatch.setattr(probe_lib, 'Ensemble', make)
  assert probe_lib.probe(request(checkpoint, data, neighbors=3, **flags))['knn']['k'] == 3
  for change in ({'end_point': 'Mixed_2a'}, {'eval_image_size': 24}, {'crops': '10'}):
    with pytest.raises(AssertionError, match='computed'):
      probe_lib.probe(request(checkpoint, data, **flags, **change))
  other = tmp_path / 'other.ckpt'
  tiny.random_net(3, seed=1).save(other)
  with pytest.raises(AssertionError, match='computed'):
    probe_lib.probe(request(other, data, model_name=tiny.NAME, **flags))
  for path in tmp_path.glob('*train*.npz'):  # cut short: not taken
    path.write_bytes(path.read_bytes()[:-50])
  with pytest.raises(AssertionError, match='computed'):
    probe_lib.probe(request(checkpoint, data, **flags))


@pytest.mark.integration
def test_the_command(probed, checkpoint, data, tmp_path):
  output = tmp_path / 'new' / 'probe.json'
  done = zygote.run(
    'probe', f'--checkpoint_path={checkpoint}', '--dataset_name=image_folder',
    f'--dataset_dir={data}', f'--output={output}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  written = json.loads(output.read_text())
  assert written['knn'] == probed['knn']
  low, high = probed['knn']['top_1_interval']
  assert f'knn_top_1 {probed["knn"]["top_1"]:.4f}\nknn_top_1_interval {low:.4f} {high:.4f}' in (
    done.stdout
  )


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'crops': 'dense'}, '--crops=dense is for classifiers'),
    ({'neighbors': 0}, '--neighbors=0: must be a whole number, at least 1'),
    ({'temperature': 0}, '--temperature=0: must be a number, greater than 0'),
    ({'dataset_dir': None}, '--dataset_dir must be given: '),
  ],
)
def test_bad_flags_are_one_line(flags, message, checkpoint, data):
  with pytest.raises(ValueError, match=message) as error:
    request(checkpoint, data, **flags)
  assert '\n' not in str(error.value)


def test_without_scikit_learn_no_feature_is_computed(checkpoint, data, monkeypatch):
  monkeypatch.setitem(sys.modules, 'sklearn.linear_model', None)
  monkeypatch.setattr(probe_lib, 'Extractor', pytest.fail)
  flags = {'dataset_dir': str(data), 'dataset_name': 'image_folder'}
  request = resolve({'checkpoint_path': str(checkpoint), **flags})
  with pytest.raises(ValueError, match=r'not installed: pip install .slim-inception\[features\]'):
    probe_lib.probe(request)
