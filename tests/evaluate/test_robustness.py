"""One table of ImageNet and its sisters, against the logits of a net computed by hand."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import (
  conversion,
  dataset_factory,
  evaluation_sets,
  imagenet,
  source_records,
)

from slim_inception.evaluate import calibrate, metrics, robustness, robustness_table
from slim_inception.evaluate.calibrate_config import resolve as resolve_calibration
from slim_inception.evaluate.config import resolve as resolve_evaluation
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.evaluate.ground_truth import padded
from slim_inception.evaluate.metrics import Predictions
from slim_inception.evaluate.robustness_config import resolve
from tests import tiny, zygote
from tests.datasets.odd_images import encode

pytestmark = pytest.mark.integration

SYNSETS = list(imagenet.synsets())
ALL = np.arange(1, 1001)
CHOICES = {
  name: np.array(evaluation_sets.subset(name)) if name in evaluation_sets.SUBSETS else ALL
  for name in ('imagenet_v2', 'imagenet_a', 'imagenet_r', 'imagenet_o', 'imagenet_c')
}


@pytest.fixture(scope='module')
def net(tmp_path_factory):
  path = str(tmp_path_factory.mktemp('net') / 'model.ckpt')
  model = tiny.random_net(1001, seed=3)
  model.save(path)
  return path, model


def picture(number):
  """A JPEG of 40 x 48 pixels in six colours, which has little in common with the others."""
  colors = np.random.default_rng(number).integers(0, 256, (2, 3, 3))
  return encode('JPEG', pixels=np.kron(colors, np.ones([20, 16, 1])).astype(np.uint8))


def logits_of(model, contents):
  """[N, 1001] of JPEGs, by slim's crop and the net alone."""
  views = []
  for content in contents:
    decoded = tf.io.decode_jpeg(content, dct_method='INTEGER_ACCURATE').numpy()
    pixels = decoded[2:38, 3:45].astype(np.float32) / 255  # 0.875 of 40 x 48
    views.append((tf.compat.v1.image.resize_bilinear(pixels[np.newaxis], [32] * 2) - 0.5) * 2)
  return model(tf.concat(views, axis=0))[0].numpy()


def labelled(model, count, choices, first):
  """(JPEG, label) of some images; every second label is the net's choice among `choices`.

  Images are those of which the net is surest: decoders differ a little.
  """
  images = [picture(i) for i in range(first, first + 3 * count)]
  logits = logits_of(model, images)[:, choices]
  ordered = np.sort(logits, axis=-1)
  surest = np.argsort(ordered[:, -2] - ordered[:, -1])[:count]
  order = np.argsort(-logits[surest], axis=-1)
  labels = choices[order[np.arange(count), np.arange(count) % 2]]
  return [(images[i], label) for i, label in zip(surest, labels.tolist(), strict=True)]


def write(root, images, name_of):
  for number, (content, label) in enumerate(images):
    path = root / name_of(number, label)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
  return str(root)


def by_synset(number, label):
  return f'{SYNSETS[label - 1]}/{number}.jpg'


def corrupted(number, label):
  corruption = [*evaluation_sets.ALEXNET_ERRORS][number // 10]
  return f'{corruption}/{number // 2 % 5 + 1}/{by_synset(number, label)}'


@pytest.fixture(scope='module')
def sets(tmp_path_factory, net):
  """Published layouts: records of all but ImageNet-A, and its folder."""
  root, records = tmp_path_factory.mktemp('sources'), tmp_path_factory.mktemp('records')
  _, model = net
  images = {
    name: labelled(model, 150 if name == 'imagenet_c' else 11, choices, 500 * i)
    for i, (name, choices) in enumerate(CHOICES.items())
  }
  validation = [
    image
    for i, name in enumerate(('imagenet_a', 'imagenet_r', 'imagenet_o'))
    for image in labelled(model, 9, CHOICES[name], 3000 + 50 * i)
  ]
  write(root / 'ilsvrc' / 'val', validation, by_synset)
  write(
    root / 'imagenetv2-matched-frequency', images['imagenet_v2'], lambda i, n: f'{n - 1}/{i}.jpg'
  )
  write(root / 'imagenet-r', images['imagenet_r'], by_synset)
  write(root / 'imagenet-o', images['imagenet_o'], by_synset)
  write(root / 'imagenet-c', images['imagenet_c'], corrupted)
  sources = {'imagenet': 'ilsvrc', 'imagenet_v2': 'imagenetv2-matched-frequency'}
  sources |= {'imagenet_r': 'imagenet-r', 'imagenet_o': 'imagenet-o', 'imagenet_c': 'imagenet-c'}
  order = root / 'classes.txt'  # a part of ImageNet-V2's numbers alone may count from 0 or from 1
  order.write_text('\n'.join(SYNSETS))
  for name, source in sources.items():
    options = conversion.Options(labels=str(order) if name == 'imagenet_v2' else None)
    dataset_factory.DATASETS[name].convert(str(root / source), records / name, options)
  return records, write(root / 'imagenet-a', images['imagenet_a'], by_synset)


def request(checkpoint, sets, **values):
  nets = {'checkpoint_path': checkpoint, 'model_name': tiny.NAME}
  return resolve({**nets, 'preprocessing_name': 'inception', 'sets': sets, **values})


@pytest.fixture(scope='module')
def table(sets, net):
  records, source_of_a = sets
  names = [name for name, *_ in examples(records / 'imagenet')]
  real = {name: [0, i, 999] for i, name in enumerate(names) if i % 3}
  (records / 'real.json').write_text(json.dumps({**real, names[0]: []}))
  folders = f'{records},{source_of_a}'
  return robustness.evaluate(request(net[0], folders, real_labels=str(records / 'real.json')))


def examples(folder):
  """[(file name, label, image)] of the validation split."""
  rows = []
  for shard in sorted(folder.glob('validation-*')):
    for record in tf.compat.v1.io.tf_record_iterator(str(shard)):
      features = tf.train.Example.FromString(record).features.feature
      name = features['image/filename'].bytes_list.value[0].decode()
      label = features['image/class/label'].int64_list.value[0]
      rows.append((name, label, features['image/encoded'].bytes_list.value[0]))
  return rows


def by_hand(folder, net):
  """Names, labels and logits of the records in a folder."""
  names, labels, contents = zip(*examples(folder), strict=True)
  return list(names), np.array(labels), logits_of(net[1], contents)


def row(table, name, measure='top-1'):
  (only,) = [each for each in table.rows if (each.name, each.measure) == (name, measure)]
  return only


@pytest.mark.parametrize('name', ['imagenet_v2', 'imagenet_a', 'imagenet_r'])
def test_sets_among_their_classes(sets, net, table, name):
  """Half of the labels are the net's choice among the classes of the set, and no others are."""
  records, source_of_a = sets
  folder = records / name if name != 'imagenet_a' else Path(source_records.make(source_of_a))
  _, labels, logits = by_hand(folder, net)
  choices = CHOICES[name]
  expected = np.mean(choices[logits[:, choices].argmax(-1)] == labels)
  assert expected == 6 / 11
  result = row(table, name)
  assert result.value == expected
  assert result.interval == metrics.wilson_interval(6, 11)
  assert result.num_images == 11
  assert result.size == evaluation_sets.SETS[name].size
  best = choices[np.argsort(-logits[:, choices])[:, :5]]
  assert result.top_5 == np.mean((best == labels[:, None]).any(-1)) == 1


@pytest.mark.parametrize('name', ['imagenet_a', 'imagenet_r'])
def test_clean_counterparts(sets, net, table, name):
  """Of the validation images those of the 200 classes, among these alone."""
  _, labels, logits = by_hand(sets[0] / 'imagenet', net)
  choices = CHOICES[name]
  inside = np.isin(labels, choices)
  hits = choices[logits[inside][:, choices].argmax(-1)] == labels[inside]
  result = row(table, f'{name}_clean')
  assert (result.value, result.num_images) == (hits.mean(), inside.sum())
  assert 0 < result.value < 1
  assert result.size == 10_000


def test_validation_and_real_labels(sets, net, table):
  names, labels, logits = by_hand(sets[0] / 'imagenet', net)
  assert row(table, 'imagenet').value == np.mean(logits[:, 1:].argmax(-1) + 1 == labels)
  real = json.loads((sets[0] / 'real.json').read_text())
  hits = [row[1:].argmax() in real[n] for n, row in zip(names, logits, strict=True) if real.get(n)]
  result = row(table, 'imagenet_real')
  assert (result.value, result.num_images) == (np.mean(hits), len(hits))


def test_out_of_distribution(sets, net, table):
  sklearn = pytest.importorskip('sklearn.metrics')
  choices = CHOICES['imagenet_o']
  confidence, outlier = [], []
  for name in ('imagenet', 'imagenet_o'):
    _, labels, logits = by_hand(sets[0] / name, net)
    chosen = logits[np.isin(labels, choices)][:, choices].astype(np.float64)
    shares = np.exp(chosen - chosen.max(-1, keepdims=True))
    confidence += (shares.max(-1) / shares.sum(-1)).tolist()
    outlier += [name == 'imagenet_o'] * len(chosen)
  scores = -np.array(confidence)
  auroc, aupr = row(table, 'imagenet_o', 'AUROC'), row(table, 'imagenet_o', 'AUPR')
  assert auroc.value == pytest.approx(sklearn.roc_auc_score(outlier, scores), abs=0.02)
  assert aupr.value == pytest.approx(sklearn.average_precision_score(outlier, scores), abs=0.02)
  assert auroc.num_images == sum(outlier)


def test_corruption_errors(sets, net, table):
  names, labels, logits = by_hand(sets[0] / 'imagenet_c', net)
  wrong = logits[:, 1:].argmax(-1) + 1 != labels
  of_all = []
  for corruption, alexnet in evaluation_sets.ALEXNET_ERRORS.items():
    own = [n.startswith(f'{corruption}/') for n in names]
    error = wrong[own].mean() / alexnet  # as many images of each severity
    assert row(table, f'imagenet_c/{corruption}', 'CE').value == pytest.approx(error)
    of_all.append(error)
  assert row(table, 'imagenet_c', 'mCE').value == pytest.approx(np.mean(of_all))
  assert set(table.corruption_errors) == set(evaluation_sets.ALEXNET_ERRORS)
  assert {*table.corruption_errors['fog']} == {1, 2, 3, 4, 5}


def test_the_command_writes_the_table(sets, net, tmp_path):
  """From records made beside a source by an earlier run."""
  records, source_of_a = sets
  done = zygote.run(
    'robustness',
    f'--checkpoint_path={net[0]}',
    f'--model_name={tiny.NAME}',
    '--preprocessing_name=inception',
    f'--sets={source_of_a},{records / "imagenet_v2"}',
    '--max_images=7',
    f'--output={tmp_path / "out" / "table"}',
  )
  assert done.returncode == 0, done.stderr
  header, *lines = csv.reader((tmp_path / 'out' / 'table.csv').read_text().splitlines())
  assert header == ['set', 'measure', '%', '95 % interval', 'top-5 %', 'images']
  assert [line[0] for line in lines] == ['ImageNet-V2 matched frequency', 'ImageNet-A']
  assert all(line[5] == '7' for line in lines)
  for line in lines:
    assert line[0] in done.stdout
  assert 'ImageNet-A: 7 images, 7,500 are published' in done.stderr
  content = json.loads((tmp_path / 'out' / 'table.json').read_text())
  assert [each['name'] for each in content['rows']] == ['imagenet_v2', 'imagenet_a']
  assert content['max_images'] == 7
  assert 'ImageNet-A' in (tmp_path / 'out' / 'table.html').read_text()


@pytest.mark.parametrize(
  ('folder', 'values', 'message'),
  [
    ('photos', {}, 'photos is image_folder, not one of imagenet, imagenet_v2'),
    ('digits', {}, 'digits holds digits, not one of imagenet, imagenet_v2'),
    ('nowhere', {}, 'nowhere does not exist'),
    ('imagenet_v2', {'real_labels': 'x'}, '--real_labels needs the validation images of ImageNet'),
  ],
)
def test_what_is_no_such_set(sets, net, tmp_path, folder, values, message):
  records = sets[0]
  write(tmp_path / 'photos', [(picture(0), 1)] * 2, lambda i, n: f'{i}/0.jpg')
  if folder == 'digits':
    pytest.importorskip('sklearn')
    dataset_factory.DATASETS['digits'].convert(None, tmp_path / 'digits')
  where = records if folder == 'imagenet_v2' else tmp_path
  with pytest.raises((OSError, ValueError), match=message):
    robustness.evaluate(request(net[0], str(where / folder), **values))


def test_labels_of_real_are_given_once(sets, net, tmp_path):
  info = json.loads((sets[0] / 'imagenet' / 'dataset.json').read_text())
  real = tmp_path / 'imagenet_real'
  shutil.copytree(sets[0] / 'imagenet', real)
  (real / 'dataset.json').write_text(json.dumps({**info, 'name': 'imagenet_real'}))
  both = f'{sets[0] / "imagenet"},{real}'
  with pytest.raises(ValueError, match=f'--real_labels and {real} of --sets .* give one'):
    robustness.evaluate(request(net[0], both, real_labels='x'))


def test_a_set_of_which_nobody_knew_a_label_is_left_out(caplog):
  """As the first images of ReaL may be, with --max_images."""
  top = np.arange(10, dtype=np.int32).reshape(2, 5)
  unlabelled = Predictions(np.arange(2), ['a', 'b'], padded([(), ()]), top, top / np.float32(45))
  one = Predictions(np.arange(2), ['a', 'b'], padded([(), (5,)]), top, top / np.float32(45))
  both = {'imagenet_v2': {'': one}, 'imagenet_real': {'': unlabelled}}
  (only,) = robustness._rows(both, None)
  assert (only.name, only.num_images, only.value, only.size) == ('imagenet_v2', 1, 1.0, 9_999)
  assert 'ImageNet validation, ReaL is left out: no image has a label' in caplog.text


def test_two_folders_of_one_set(sets, net):
  folder = sets[0] / 'imagenet_v2'
  with pytest.raises(ValueError, match='both hold imagenet_v2: give one'):
    robustness.evaluate(request(net[0], f'{folder},{folder}'))


def framed(pixels):
  """A PNG with ObjectNet's red border of two pixels."""
  framed = np.pad(pixels, ((2, 2), (2, 2), (0, 0)))
  framed[[0, 1, -2, -1]] = framed[:, [0, 1, -2, -1]] = (255, 0, 0)
  return encode('PNG', pixels=framed)


def test_any_class_of_an_object_is_right(net, tmp_path):
  """In `robustness` among the classes of ObjectNet, and in `eval` among these or among all."""
  path, model = net
  objects, choices = evaluation_sets.objects(), np.array(evaluation_sets.subset('objectnet'))
  several = [each for each in objects if len(each.labels) > 1]
  right, right_of_all = {}, {}
  for number in range(16):
    colors = np.random.default_rng(number).integers(0, 256, (2, 3, 3))
    pixels = np.kron(colors, np.ones([20, 16, 1])).astype(np.uint8)
    view = tf.compat.v1.image.resize_bilinear(pixels[np.newaxis, 2:38, 3:45] / 255.0, [32] * 2)
    logits = model((view - 0.5) * 2)[0].numpy()[0]
    best = choices[logits[choices].argmax()]
    own = next(each for each in objects if best in each.labels)
    each = own if number % 2 else several[number % len(several)]
    name = f'{each.folder}/{number}.png'
    file = tmp_path / 'objectnet-1.0' / 'images' / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(framed(pixels))
    right[name], right_of_all[name] = best in each.labels, logits.argmax() in each.labels
  folder = tmp_path / 'records'
  dataset_factory.DATASETS['objectnet'].convert(str(tmp_path / 'objectnet-1.0'), folder)
  table = robustness.evaluate(request(path, str(folder)))
  expected = np.mean(list(right.values()))
  assert 0.5 <= expected < 1
  assert (row(table, 'objectnet').value, row(table, 'objectnet').num_images) == (expected, 16)

  flags = {'checkpoint_path': path, 'model_name': tiny.NAME, 'preprocessing_name': 'inception'}
  flags |= {'dataset_name': 'objectnet', 'dataset_dir': str(folder)}
  for labels, of_image in (('objectnet', right), (None, right_of_all)):
    outcome = Evaluation(resolve_evaluation(flags | {'valid_labels': labels})).evaluate([path])
    assert outcome.metrics['top_1'] == np.mean(list(of_image.values()))
    names = outcome.predictions.filenames
    assert outcome.predictions.right.tolist() == [of_image[name] for name in names]
  with pytest.raises(ValueError, match='images of objectnet may have several right labels'):
    calibrate.calibrate(resolve_calibration(flags))


def test_a_folder_of_sources_and_one_that_is_damaged(net, tmp_path, caplog):
  """The others are evaluated, and the table says which is missing.

  Images that nobody knew a label of do not count; ImageNet's own need no folders of classes.
  """
  prepared = Path(__file__).parents[1] / 'data' / 'sisters'
  shutil.copytree(prepared / 'imagenet_r', tmp_path / 'sets' / 'imagenet_r')
  write(tmp_path / 'sets' / 'imagenet-a', [(picture(0), 7), (picture(1), 12)], by_synset)
  for number in (1, 2):
    name = f'ILSVRC2012_val_{number:08d}.JPEG'
    write(tmp_path / 'ILSVRC2012_img_val', [(picture(number), 1)], lambda *_, name=name: name)
  cache = tmp_path / 'cache'
  others = prepared / 'imagenet_v2', prepared / 'imagenet2012_real', tmp_path / 'ILSVRC2012_img_val'
  sets = ','.join(map(str, (tmp_path / 'sets', *others)))
  table = robustness.evaluate(request(net[0], sets, cache_dir=str(cache)))
  names = ['imagenet', 'imagenet_v2', 'imagenet_a', 'imagenet_r', 'imagenet_real']
  assert [each.name for each in table.rows] == names and not table.facts['failed']
  real = row(table, 'imagenet_real')
  assert (real.num_images, real.size, row(table, 'imagenet').num_images) == (2, 49_999, 2)
  (shard,) = cache.glob('imagenet_r-*/validation-*')
  content = bytearray(shard.read_bytes())
  content[len(content) // 2] ^= 1
  shard.write_bytes(content)
  sets = f'{shard.parent},{prepared / "imagenet_v2"}'
  table = robustness.evaluate(request(net[0], sets, cache_dir=str(cache)))
  assert [each.name for each in table.rows] == ['imagenet_v2']
  assert list(table.facts['failed']) == ['imagenet_r']
  assert str(shard) in table.facts['failed']['imagenet_r']
  paths = robustness_table.write(str(tmp_path / 'table'), *table)
  page, lines = (Path(paths[i]).read_text() for i in (2, 3))
  assert 'imagenet_r is left out' in page
  assert lines.splitlines()[0].startswith('| set | measure | % | 95 % interval |')


# Without a net


def predictions(filenames, top, labels, confidence=None):
  count = len(filenames)
  shares = np.ones(count) if confidence is None else np.array(confidence)
  return Predictions(
    np.arange(count),
    filenames,
    np.array(labels, np.int32).reshape(count, -1),
    np.array(top, np.int32).reshape(count, -1),
    shares.astype(np.float32).reshape(count, 1),
  )


def test_a_mean_of_corruptions_needs_all_of_them():
  names = [f'fog/{severity}/n/{i}.jpg' for severity in range(1, 6) for i in range(2)]
  names += ['snow/1/n/0.jpg', 'spatter/1/n/0.jpg']
  half = predictions(names, [1, 2] * 6, [1] * 12)
  (only,) = robustness_table.corruptions('imagenet_c', 'ImageNet-C', half, 2)
  assert (only.name, only.measure) == ('imagenet_c/fog', 'CE')
  assert only.value == pytest.approx(0.5 / evaluation_sets.ALEXNET_ERRORS['fog'])
  assert (only.num_images, only.size) == (10, 10)
  assert robustness_table.corruption_errors(half)['spatter'] == {1: 1.0}


def test_published_figures_are_of_the_only_net():
  rows = [robustness_table.accuracy('imagenet_a', 'A', predictions(['x'], [1], [1]), 7500)]
  of_v3 = robustness_table.published(['inception_v3'])
  assert list(of_v3) == [
    f'inception_v3.{of}_in1k' for of in ('tf', 'tv', 'tf_adv', 'gluon')
  ]  # as in results-imagenet-a.csv of timm
  header, line = robustness_table.cells(rows, of_v3)
  assert line[:6] == ['A', 'top-1', '100.00', '20.65 to 100.00', '100.00', '1']
  assert line[6:] == ['10.85', '9.89', '10.88', '12.51']
  assert header[6:] == list(of_v3)
  assert robustness_table.published(['inception_v3', 'inception_v4']) == {}
  assert robustness_table.published(['inception_v1']) == {}
