"""Classification beside the evaluation of the same images, and the names of classes."""

import json

import numpy as np
import pytest
from slim_inception.datasets import dataset_info, imagenet
from slim_inception.nets import nets_factory

from slim_inception.classify import classes, sources
from slim_inception.classify.classifier import Classifier
from slim_inception.classify.config import resolve
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.evaluator import Evaluation
from tests import records, tiny
from tests.datasets.odd_images import ODD

pytestmark = pytest.mark.integration

COUNT = 11
COLORS = {0: 'color 0', 1: 'color 1', 2: 'color 2'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  directory = tmp_path_factory.mktemp('data')
  return records.write_set(directory, count=COUNT, split='validation', broken=(4,))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """The images of `data` as files."""
  directory = tmp_path_factory.mktemp('photos')
  for i in range(COUNT):
    content = b'no image' if i == 4 else records.image(i % 3, i)
    (directory / f'{i}.jpg').write_bytes(content)
  return [str(directory / f'{i}.jpg') for i in range(COUNT)]


@pytest.fixture(scope='module')
def make_run(tmp_path_factory):
  def make(outputs=3, seed=0, **config):
    directory = tmp_path_factory.mktemp('run')
    tiny.random_net(outputs, seed).save(str(directory / 'model.ckpt-1'))
    (directory / 'checkpoint').write_text('model_checkpoint_path: "model.ckpt-1"')
    config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception', **config}
    (directory / 'config.json').write_text(json.dumps(config))
    return str(directory)

  return make


@pytest.fixture(scope='module')
def runs(make_run, data):
  return [
    make_run(seed=i, dataset_name='image_folder', dataset_dir=str(data), run={'image_size': size})
    for i, size in enumerate((32, 24))
  ]


def classify(paths, *checkpoints, **flags):
  request = resolve({'checkpoint_path': ','.join(checkpoints), 'batch_size': 4, **flags})
  return list(Classifier(request).classify(sources.expand(paths, None)))


def classes_of(*checkpoints, **flags):
  request = resolve({'checkpoint_path': ','.join(checkpoints), **flags})
  member = request.ensemble.members[0]
  labels = request.config.classes.labels
  return classes.find(labels, request.runs, member, f'{checkpoints[0]}/model.ckpt-1')


@pytest.mark.parametrize(
  ('members', 'flags'),
  [
    (1, {}),
    (2, {'ensemble_weights': '3,1'}),
    pytest.param(1, {'crops': '12', 'average': 'logits'}, marks=pytest.mark.slow),
    pytest.param(1, {'crops': 'dense'}, marks=pytest.mark.slow),
    pytest.param(2, {'resize': 'aspect', 'average': 'logits'}, marks=pytest.mark.slow),
  ],
  ids=['one', 'two', 'twelve', 'dense', 'aspect'],
)
def test_probabilities_are_those_of_the_evaluation(data, photos, runs, members, flags):
  """The nets of the ensemble see images of different sizes; one file is broken."""
  runs, flags = runs[:members], {**flags, 'batch_size': 4}
  request = eval_config.resolve({'checkpoint_path': ','.join(runs), **flags})
  expected = Evaluation(request).evaluate([f'{run}/model.ckpt-1' for run in runs]).predictions
  by_name = dict(
    zip(expected.filenames, zip(expected.top, expected.probabilities, strict=True), strict=True)
  )
  found = classify(photos, *runs, **flags)
  assert [result.name for result in found] == photos
  for result in found:
    if result.error:
      assert result.name.endswith('/4.jpg')
      assert result.error == 'not an image in any known format'
      continue
    top, probabilities = by_name[result.name.rsplit('/', 1)[1]]
    np.testing.assert_array_equal(result.probabilities[top].astype(np.float32), probabilities)


def test_sigmoid(photos, runs):
  (found,) = classify(photos[:1], runs[0], loss='sigmoid')
  (softmax,) = classify(photos[:1], runs[0])
  odds = found.probabilities / (1 - found.probabilities)
  np.testing.assert_allclose(odds / odds.sum(), softmax.probabilities, rtol=1e-4)


@pytest.mark.parametrize('flags', [{}, pytest.param({'crops': '10'}, marks=pytest.mark.slow)])
def test_what_fails_is_named_in_its_place(photos, runs, tmp_path, flags):
  cut = tmp_path / 'without_tables.jpg'
  # Passes for an image until it is decoded.
  cut.write_bytes(ODD['plain.jpg'][0].replace(b'\xff\xdb', b'\xff\xe5'))
  paths = [str(cut), 'none.jpg', photos[0], str(cut), photos[1], photos[4], str(cut)]
  found = classify(paths, *runs, **flags)
  damaged = 'does not decode: it is damaged or cut short'
  missing, text = 'No such file or directory', 'not an image in any known format'
  assert [result.error for result in found] == [damaged, missing, '', damaged, '', text, damaged]
  assert [result.name for result in found] == paths
  first, second = classify(photos[:2], *runs, **flags)
  np.testing.assert_allclose(found[2].probabilities, first.probabilities, rtol=1e-5)
  np.testing.assert_allclose(found[4].probabilities, second.probabilities, rtol=1e-5)
  assert classify(['none.jpg'], *runs, **flags)[0].error == missing
  assert classify([], *runs, **flags) == []


def test_images_are_read_as_they_are_needed(photos, runs):
  """Ten thousand of them, of which a tenth has been read when the first results come."""
  asked = []
  content = records.image(0, 0)

  def endless():
    for i in range(10_000):
      yield sources.Source(str(i), lambda i=i: asked.append(i) or content)

  classifier = Classifier(resolve({'checkpoint_path': ','.join(runs), 'batch_size': 4}))
  results = classifier.classify(endless())
  for i in range(20):
    assert next(results).name == str(i)
  assert 20 <= len(asked) < 1000
  results.close()


def test_a_net_is_traced_for_its_first_batches_alone(photos, runs, tmp_path, caplog):
  """Batches of 4, the rest of a stream, streams of fewer images, and images of several sizes."""
  caplog.set_level('INFO', 'absl')
  wide = tmp_path / 'wide.jpg'
  wide.write_bytes(ODD['plain.jpg'][0])
  classifier = Classifier(resolve({'checkpoint_path': runs[0], 'batch_size': 4}))
  traces = []
  for paths in ([*photos, str(wide)], photos[:1], photos[:2], photos[:3], photos):
    results = list(classifier.classify(sources.expand(paths, None)))
    assert len(results) == len(paths)
    traces.append(caplog.text.count('Tracing and compiling'))
  assert traces == [1, 2, 2, 2, 2]


# Classes


def test_names_of_a_run(runs):
  assert classes_of(*runs).labels_to_names == COLORS


def test_names_of_a_file(photos, runs, make_run, tmp_path):
  path = tmp_path / 'labels.txt'
  path.write_text('0:background\n1:cat\n2:dog\n3:a: b\n')
  found = classes_of(runs[0], labels=str(path))
  assert (found.labels_to_names[3], found.label_range) == ('a: b', (1, 3))
  (result,) = classify(photos[:1], runs[0], labels=str(path))
  assert result.probabilities[0] == 0
  assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
  for content, message in (
    (b'cat\ndog\n', r'--labels=.*labels.txt: 2 names for 3 outputs; --labels_offset says which'),
    (b'0:cat\n5:dog\n', r': 2 names for 3 outputs, of classes up to 5; '),
    (b'0:cat\n999999999999:x\n', 'labels.txt: 999999999999:x has no index of a class, 0 to 99999'),
    (b'', 'is empty: lines index:name'),
  ):
    path.write_bytes(content)
    for run in runs[0], make_run(labels_offset=0):  # a run of the training says its offset
      with pytest.raises(ValueError, match=message):
        classes_of(run, labels=str(path))
  path.write_text('cat\ndog\nrabbit\n')
  assert classes_of(make_run(labels_offset=0), labels=str(path)).num_classes == 3
  with pytest.raises(ValueError, match='3 names for 3 outputs, with --labels_offset=1; '):
    classes_of(runs[0], labels=str(path), labels_offset=1)
  with pytest.raises(FileNotFoundError):
    classes_of(runs[0], labels=str(tmp_path / 'none.txt'))
  path.write_text(''.join(f'{i}:{i}\n' for i in range(7)))
  with pytest.raises(ValueError, match=r'labels.txt: 7 names for 3 outputs; --labels_offset says'):
    classify([], runs[0], labels=str(path))


def test_names_of_imagenet(make_run, photos):
  """By the number of outputs; nets with and without background go together."""
  with_background, without = make_run(1001), make_run(1000)
  names = dict(enumerate(imagenet.labels()))
  assert names[250] == 'malamute, malemute, Alaskan malamute'
  assert names[251] == 'Siberian husky'
  for checkpoints in ([with_background], [without], [without, with_background]):
    assert classes_of(*checkpoints).labels_to_names == names
  (one,) = classify(photos[:1], without)
  assert one.probabilities[0] == 0
  assert one.probabilities.sum() == pytest.approx(1, abs=1e-5)
  of_run = make_run(1000, labels_offset=1, dataset_name='imagenet', dataset_dir='/none')
  assert classes_of(of_run).labels_to_names == names


def test_numbers_where_nothing_names_the_classes(make_run, caplog):
  found = classes_of(make_run(5, dataset_name='flowers', dataset_dir='/none'))
  assert (found.num_classes, found.labels_to_names) == (5, {})
  assert classes_of(make_run(1000, dataset_name='other', dataset_dir='/none')).labels_to_names == {}
  shifted = classes_of(make_run(5, labels_offset=1))
  assert (shifted.num_classes, shifted.label_range) == (6, (1, 5))


def test_runs_of_other_classes(make_run, runs, tmp_path):
  info = dataset_info.DatasetInfo('pets', {}, 3, ('cat', 'dog', 'cow'))
  dataset_info.write_info(tmp_path, info)
  other = make_run(dataset_name='pets', dataset_dir=str(tmp_path))
  assert classes_of(other).labels_to_names == {0: 'cat', 1: 'dog', 2: 'cow'}
  with pytest.raises(ValueError, match='are of different classes: --labels=FILE names those of'):
    classes_of(runs[0], other)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'csv': '-', 'json': '-'}, '--csv and --json are both -'),
    ({'explain': 'a', 'crops': '12'}, '--explain shows the one view of --crops=1, not those of 12'),
    ({'checkpoint_path': ''}, '--checkpoint_path is empty: '),
  ],
)
def test_refused(runs, flags, message):
  with pytest.raises(ValueError, match=message):
    resolve({'checkpoint_path': runs[0], **flags})


@pytest.mark.slow
def test_weights_of_other_libraries(photos, tmp_path):
  """timm's, whose 1000 classes have no background, beside the checkpoint that they came from."""
  from slim_inception.nets.convert import conversion

  model = nets_factory.create_model('inception_v4', 1000, image_size=75, create_aux_logits=False)
  model.save(str(tmp_path / 'v4.ckpt'))
  weights = conversion.read(str(tmp_path / 'v4.ckpt'), 'inception_v4')
  conversion.write_timm(str(tmp_path / 'v4.safetensors'), weights)
  flags = {'model_name': 'inception_v4', 'eval_image_size': '75'}
  (expected,) = classify(photos[:1], str(tmp_path / 'v4.ckpt'), **flags)
  (found,) = classify(photos[:1], str(tmp_path / 'v4.safetensors'), **flags)
  np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=1e-4)
  with pytest.raises(ValueError, match=r'--model_name must be given'):
    resolve({'checkpoint_path': str(tmp_path / 'v4.safetensors')})
