"""Every registered net through everything that is made of a net, at a tiny size.

`CAPABILITIES` is the table: what stands there works for every net.
"""

import csv
import functools
import io
import json
from collections.abc import Iterable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.nets import checkpoints, geometry, nets_factory, slim, summary
from slim_inception.preprocessing import preprocessing_factory

from slim_inception.classify import activation_maps
from slim_inception.draw import layout, svg
from slim_inception.evaluate import dense, views
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.evaluator import Evaluation
from slim_inception.export import onnx
from tests import golden, records, tiny, zygote

pytestmark = pytest.mark.integration

tf1 = tf.compat.v1

CLASSES = 3  # as the records of the tests have
# Where the net has an argument for it: what is tested is how layers hang together.
THIN = {'depth_multiplier': 0.125}
# `tiny.NAME` is registered by the tests.
NAMES = [name for name in nets_factory.NETS if name != tiny.NAME]


class Subject:
  """A net, thin where it can be, without auxiliary head, that tells images apart."""

  def __init__(self, net, folder, data):
    self.net, self.folder, self.data = net, folder, data
    smallest = geometry.smallest_input(net.body)
    sizes = range(smallest, 200)  # one that leaves 2 x 2 features
    self.size = next(s for s in sizes if geometry.output_size(net.body, s) == 2)
    pixels = (golden.images(8, self.size, self.size) + 1) * 127.5
    preprocessing = preprocessing_factory.get(net.preprocessing, 3)
    self.images = preprocessing.normalize(tf.cast(pixels, tf.uint8), tf.float32).numpy()
    self.arguments = net.select(**THIN, create_aux_logits=False)
    self.depth_flags = net.select(**THIN)

  def create(self, num_classes=CLASSES, **kwargs):
    kwargs = {'image_size': self.size, **self.arguments, **kwargs}
    return nets_factory.create_model(self.net.name, num_classes, **kwargs)

  @functools.cached_property
  def model(self):
    """Golden weights, and averages of what the layers see: else values grow from unit to unit.

    Most values pass the ReLUs, thanks to larger betas: else Inception-v4, which is deep and has no
    short cuts, makes 1.5e-3 of a relative change of 1e-6, and float32's rounding is as large.
    """
    model = self.create(arg_scope=self.net.arg_scope(batch_norm_decay=0.0))
    for name, variable in model.variables_by_name.items():
      values = golden.weights(name, variable.shape.as_list())
      variable.assign(values + 1 if name.endswith('beta') else values)
    model(self.images, training=True)
    return model

  @functools.cached_property
  def logits(self):
    return self.model(self.images)[0].numpy()

  @functools.cached_property
  def run(self):
    """The checkpoint of a run, whose config.json is beside it."""
    return self.write_run('run', self.model)

  def write_run(self, name, model):
    folder = self.folder / name
    folder.mkdir()
    model.save(folder / 'model.ckpt-7')
    config = {
      'model_name': model.name,
      'preprocessing_name': nets_factory.get_net(model.name).preprocessing,
      'dataset_name': 'image_folder',
      'dataset_dir': str(self.data),
      'run': {'image_size': model.image_size},
      **(self.depth_flags if model.name == self.net.name else {}),
    }
    (folder / 'config.json').write_text(json.dumps(config))
    return folder / 'model.ckpt-7'

  def evaluate(self, *runs, **flags):
    """{name of a file: probabilities by label}."""
    prefixes = list(map(str, runs or (self.run,)))
    flags = {'checkpoint_path': ','.join(prefixes), 'batch_size': 8, **flags}
    outcome = Evaluation(resolve_eval(flags)).evaluate(prefixes).predictions
    rows = zip(outcome.filenames, outcome.top, outcome.probabilities, strict=True)
    return {name: probabilities[np.argsort(top)] for name, top, probabilities in rows}

  def command(self, *arguments, **flags):
    """What `slim-inception ...` prints, once it has ended well."""
    done = zygote.run(*arguments, *(f'--{name}={value}' for name, value in flags.items()))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope='module')
def three_images(data):
  return records.write_set(data, count=3, split='validation', num_shards=1)


@pytest.fixture(scope='module')
def subjects(tmp_path_factory, three_images):
  """{name of a net: what is tested}, one at a time in memory; the tests go net by net."""

  @functools.lru_cache(maxsize=1)
  def subject(name):
    return Subject(nets_factory.get_net(name), tmp_path_factory.mktemp(name), three_images)

  return subject


# The library


def a_graph_has_the_variables_and_outputs_of_the_model(subject):
  net, model = subject.net, subject.model
  own = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
  with tf.Graph().as_default(), tf1.Session() as session:
    with slim.arg_scope(net.arg_scope()):
      logits, end_points = net.network_fn(
        tf.constant(subject.images),
        num_classes=CLASSES,
        is_training=False,
        **subject.arguments,
      )
    variables = tf1.global_variables()
    assert [v.op.name for v in variables] == list(model.variables_by_name)
    session.run(
      [v.initializer for v in variables],
      {v.initializer.inputs[1]: own[v.op.name] for v in variables},
    )
    values, others = session.run((logits, end_points))
  expected, names = model(subject.images)
  assert list(others) == list(names)
  assert golden.relative_error(values, expected.numpy()) < 1e-4
  assert values.shape == (len(subject.images), CLASSES)


def the_registry_names_its_layers(subject):
  net, names = subject.net, list(subject.model.variables_by_name)
  assert net.first_weights == next(n for n in names if n.endswith('weights'))
  assert names[-2:] == [f'{net.logits_scope}/weights', f'{net.logits_scope}/biases']
  assert all(names[-1].startswith(scope) for scope in net.head_scopes[:1])
  heads = [name for name in names if name.startswith(net.head_scopes)]
  assert heads == names[-len(heads) :]


def every_variable_learns_and_every_average_moves(subject):
  model, images = subject.model, subject.images[::2]  # others than the averages are of
  copied = subject.create(arg_scope=subject.net.arg_scope(batch_norm_decay=0.5))
  before = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
  for name, variable in copied.variables_by_name.items():
    variable.assign(before[name])
  labels = np.arange(len(images)) % CLASSES

  def loss_of():
    logits, _ = copied(images, training=True, dropout_seed=tf.constant([1, 2]))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

  with tf.GradientTape() as tape:
    loss = loss_of() + copied.regularization_loss()
  gradients = tape.gradient(loss, copied.trainable_variables)
  assert all(g is not None and np.isfinite(g.numpy()).all() for g in gradients)
  assert any(np.abs(g.numpy()).max() > 0 for g in gradients)
  after = {name: variable.numpy() for name, variable in copied.variables_by_name.items()}
  moved = {name for name in before if not np.array_equal(before[name], after[name])}
  assert moved == {name for name in before if '/moving_' in name}


def frozen_it_keeps_its_averages(subject):
  model = subject.model
  before = {name: variable.numpy() for name, variable in model.variables_by_name.items()}
  model.trainable = False
  try:
    logits, _ = model(subject.images, training=True, dropout_seed=tf.constant([1, 2]))
    assert model.trainable_variables == ()
  finally:
    model.trainable = True
  for name, variable in model.variables_by_name.items():
    np.testing.assert_array_equal(variable, before[name], err_msg=name)
  if 'dropout_keep_prob' not in subject.net.arguments:
    assert golden.relative_error(logits.numpy(), subject.logits) < 1e-4


def the_summary_and_the_drawing_have_what_is_built(subject):
  """Of the whole net, as the documentation has it."""
  net, size = subject.net, subject.size
  described = summary.summarize(net.name, size, CLASSES)
  arguments = net.select(create_aux_logits=False)
  with tf.Graph().as_default(), slim.arg_scope(net.arg_scope()):
    _, end_points = net.network_fn(
      tf.zeros((1, size, size, 3)), num_classes=CLASSES, is_training=False, **arguments
    )
    trained = sum(v.shape.num_elements() for v in tf1.trainable_variables())
  auxiliary = described.auxiliary.parameters if described.auxiliary else 0
  assert described.parameters - auxiliary == trained
  shapes = {name: (1, *shape) for name, shape in summary.end_points(described).items()}
  assert {name: shapes[name] for name in end_points} == {
    name: tuple(tensor.shape) for name, tensor in end_points.items()
  }
  drawn = svg.render(layout.draw_net(described, net.name, compressed=False))
  scopes = [layer.scope for block in described.blocks for layer in block.layers]
  assert scopes and all(f'<title>{scope}: ' in drawn for scope in scopes)


def batch_norm_folds_into_the_weights(subject):
  folded = subject.model.fold_batch_norm()
  assert len(folded.variables) < len(subject.model.variables)
  assert golden.relative_error(folded(subject.images)[0].numpy(), subject.logits) < 1e-3


def features_at_all_strides(subject):
  net, model = subject.net, subject.model
  arguments = {name: value for name, value in THIN.items() if name in net.arguments}
  pyramid = nets_factory.create_model(net.name, features_only=True, **arguments)
  for name, variable in pyramid.variables_by_name.items():
    variable.assign(model.variables_by_name[name])
  images = golden.images(1, 96, 128)
  features = pyramid(images)
  assert list(features) == [2, 4, 8, 16, 32]
  for stride, values in features.items():
    assert values.shape[3] == pyramid.channels[stride]
    assert 0 <= 96 / stride - values.shape[1] < 5  # VALID padding loses a few
    assert np.isfinite(values.numpy()).all()
  deepest = model.end_points(images)
  if net.features in deepest:
    np.testing.assert_allclose(features[32], deepest[net.features], rtol=1e-4, atol=1e-4)
  dilated = nets_factory.create_model(
    net.name, features_only=True, output_stride=16, strides=(16,), **arguments
  )
  assert dilated(images)[16].shape[1] > features[32].shape[1]


def checkpoints_both_ways(subject):
  read = subject.create('auto', weights=subject.run)
  np.testing.assert_allclose(read(subject.images)[0], subject.logits, rtol=1e-4, atol=1e-4)


def dense_evaluation_and_maps_are_the_logits(subject):
  net, model, size = subject.net, subject.model, subject.size
  places = dense.dense_logits(model, net, subject.images).numpy()
  assert places.shape == (len(subject.images), 1, 1, CLASSES)
  assert golden.relative_error(places[:, 0, 0], subject.logits) < 1e-4
  larger = golden.images(1, size + 32, size + 64)
  assert dense.dense_logits(model, net, larger).shape == (1, 2, 3, CLASSES)
  _, parts = activation_maps.logits_and_maps(model, net, subject.images)
  summed = parts['maps'].numpy().mean((1, 2)) + parts['biases'].numpy()
  assert golden.relative_error(summed, subject.logits) < 1e-4


def grey_images_are_three_equal_channels(subject):
  grey = subject.create(input_channels=1, weights=subject.run)
  images = subject.images[..., :1]
  expected = subject.model(images.repeat(3, axis=-1))[0].numpy()
  assert golden.relative_error(grey(images)[0].numpy(), expected) < 1e-3


def the_folded_net_as_onnx(subject):
  runtime = pytest.importorskip('onnxruntime')
  folded, size = subject.model.fold_batch_norm(), subject.size
  spec = tf.TensorSpec((None, size, size, 3))
  traced = tf.function(lambda images: tf.nn.softmax(folded(images)[0]), autograph=False)
  session = runtime.InferenceSession(
    onnx.convert(traced.get_concrete_function(spec)).SerializeToString()
  )
  (outputs,) = session.run(None, {session.get_inputs()[0].name: subject.images})
  np.testing.assert_allclose(outputs, tf.nn.softmax(subject.logits), atol=1e-4)


# The commands, on the folder of a run


def fine_tuning_finds_the_head(subject):
  """The checkpoint is of five classes: the head is made anew, and it alone is trained."""
  other, net = subject.create(5), subject.net
  for name, variable in other.variables_by_name.items():
    if not name.startswith(net.logits_scope):
      variable.assign(subject.model.variables_by_name[name])
  other.save(subject.folder / 'five.ckpt')
  train_dir = subject.folder / 'tuned'
  # An embedding is a head too, but nets have none unless it is asked for.
  scopes = [scope for scope in net.head_scopes if not scope.endswith('Bottleneck')]
  said = subject.command(
    'train', '--freeze_batch_norm', '--clone_on_cpu',
    recipe='finetune', model_name=net.name, checkpoint_path=subject.folder / 'five.ckpt',
    train_dir=train_dir, dataset_name='image_folder', dataset_dir=subject.data,
    trainable_scopes=','.join(scopes), train_image_size=subject.size, batch_size=4,
    max_number_of_steps=2, learning_rate=1e-4, **subject.depth_flags,
  )  # fmt: skip
  assert f'fresh: {net.logits_scope}/weights' in said
  tuned = checkpoints.read(train_dir, list(other.variables_by_name))
  for name, variable in other.variables_by_name.items():
    if name.startswith(net.logits_scope):
      assert tuned[name].shape == (*variable.shape[:-1], CLASSES)
    elif not name.startswith(net.head_scopes):
      np.testing.assert_array_equal(tuned[name], variable, err_msg=name)
  assert json.loads((train_dir / 'config.json').read_text())['model_name'] == net.name


def training_goes_on(subject):
  """All of it, from nothing, by a recipe; then on from the checkpoint."""
  recipe = 'resnet' if subject.net.name.startswith('resnet') else 'paper'
  flags = {
    'recipe': recipe, 'model_name': subject.net.name, 'train_dir': subject.folder / 'trained',
    'dataset_name': 'image_folder', 'dataset_dir': subject.data, 'batch_size': 4,
    'train_image_size': subject.size, 'log_every_n_steps': 1, **subject.depth_flags,
  }  # fmt: skip
  for steps in (1, 2):
    subject.command('train', '--clone_on_cpu', max_number_of_steps=steps, **flags)
    assert f'model.ckpt-{steps}' in checkpoints.checkpoint_files.latest(subject.folder / 'trained')


def crops_are_averages_over_their_views(subject):
  """Twelve views, and the whole image; tests/evaluate has all layouts of views with one net."""
  net, size = subject.net, subject.size
  preprocessing = preprocessing_factory.get(net.preprocessing, 3)
  spec = views.make_spec(preprocessing, size, '12')
  (scale,) = views.default_scales(size, '12')
  middle = tf.constant(0.5, tf.float64)  # of the longer side
  expected = {}
  for i in range(3):
    image = spec.decode(tf.constant(records.image(i, i)))
    of_image = views.square_views(image, spec, tf.constant(scale), middle)
    images = preprocessing.normalize(of_image, tf.float32)
    assert len(images) == 12
    expected[f'{i}.jpg'] = tf.nn.softmax(subject.model(images)[0]).numpy().mean(0)
  assert_same(subject.evaluate(crops='12'), expected)
  spec = views.make_spec(preprocessing, size, 'dense')
  expected = {}
  for i in range(3):
    view = views.dense_view(spec.decode(tf.constant(records.image(i, i))), spec)
    images = preprocessing.normalize(view[tf.newaxis], tf.float32)
    expected[f'{i}.jpg'] = dense.dense_probabilities(subject.model, net, images).numpy()[0]
  assert_same(subject.evaluate(crops='dense'), expected)


def it_and_another_family_are_an_ensemble(subject):
  """Of other images and outputs: the other has a class of the background."""
  other = subject.write_run('other', tiny.random_net(CLASSES + 1, seed=1))
  alone = subject.evaluate(), subject.evaluate(other, labels_offset='-1')
  mean = {name: (row + alone[1][name]) / 2 for name, row in alone[0].items()}
  assert_same(subject.evaluate(subject.run, other, labels_offset='0,-1'), mean)


def files_are_classified_and_explained(subject):
  paths = [subject.folder / f'{i}.jpg' for i in range(3)]
  for i, path in enumerate(paths):
    path.write_bytes(records.image(i, i))
  explained = subject.folder / 'why'
  text = subject.command(
    'classify', *paths, checkpoint_path=subject.run, explain=explained, csv='-', top_k=CLASSES
  )
  expected = subject.evaluate()
  rows = [row for row in csv.DictReader(io.StringIO(text)) if row['file'].endswith('.jpg')]
  assert len(rows) == 3
  for path, row in zip(paths, rows, strict=True):
    ranks = range(1, CLASSES + 1)
    by_label = {int(row[f'label_{rank}']): float(row[f'probability_{rank}']) for rank in ranks}
    probabilities = [by_label[label] for label in range(CLASSES)]
    np.testing.assert_allclose(probabilities, expected[path.name], atol=1e-4)
    with Image.open(row['explained']) as image:
      image.load()


def exports_are_the_checkpoint(subject, kind):
  folder = subject.folder / kind
  said = subject.command('export', checkpoint_path=subject.run, output=folder, format=kind)
  assert 'the best class is the same on 100%' in said
  described = json.loads((folder / 'export.json').read_text())
  assert described['model_name'] == subject.net.name
  assert described['preprocessing_name'] == subject.net.preprocessing
  assert described['comparison']['difference'] < 1e-4


def it_is_shown_and_listed(subject):
  name, path = subject.net.name, subject.folder / 'net.svg'
  subject.command('show', name, output=path, image_size=subject.size, **subject.depth_flags)
  assert path.read_text().startswith('<svg')
  table = subject.command('show', name, '--table', num_classes=CLASSES)
  assert all(unit.scope in table for unit in subject.net.body)
  assert name in subject.command('list')


def it_is_measured(subject):
  text = subject.command(
    'benchmark', mode='infer', model_name=subject.net.name, image_size=subject.size, batch_size=2,
    num_rounds=1, warmup_steps=2, output_json=subject.folder / 'rate.json',
  )  # fmt: skip
  assert subject.net.name in text
  (line,) = (subject.folder / 'rate.json').read_text().splitlines()
  assert json.loads(line)['images_per_second'] > 0


def assert_same(probabilities, expected):
  assert probabilities.keys() == expected.keys()
  for name, row in expected.items():
    np.testing.assert_allclose(probabilities[name], row, atol=2e-4, err_msg=name)


BOTH = 'inception_v2', 'resnet_v1_50'
# {what a net can: the nets on which that is tested in seconds}; ./run test --all has all the nets.
CAPABILITIES = {
  a_graph_has_the_variables_and_outputs_of_the_model: BOTH,
  the_registry_names_its_layers: BOTH,
  every_variable_learns_and_every_average_moves: BOTH,
  frozen_it_keeps_its_averages: BOTH,
  the_summary_and_the_drawing_have_what_is_built: BOTH,
  batch_norm_folds_into_the_weights: BOTH,
  features_at_all_strides: BOTH,
  checkpoints_both_ways: BOTH,
  dense_evaluation_and_maps_are_the_logits: BOTH,
  grey_images_are_three_equal_channels: BOTH,
  the_folded_net_as_onnx: BOTH,
  fine_tuning_finds_the_head: ['inception_v2'],
  training_goes_on: [],
  crops_are_averages_over_their_views: [],
  it_and_another_family_are_an_ensemble: ['resnet_v1_50'],
  files_are_classified_and_explained: ['resnet_v1_50'],
  functools.partial(exports_are_the_checkpoint, kind='saved_model'): ['resnet_v1_50'],
  functools.partial(exports_are_the_checkpoint, kind='tflite'): [],
  functools.partial(exports_are_the_checkpoint, kind='onnx'): ['inception_v2'],
  it_is_shown_and_listed: ['resnet_v1_50'],
  it_is_measured: [],
}


def cases() -> Iterable:
  for name in NAMES:
    for capability, fast in CAPABILITIES.items():
      function = getattr(capability, 'func', capability)
      arguments = getattr(capability, 'keywords', {}).values()
      label = '-'.join((name, function.__name__, *arguments))
      marks = () if name in fast else pytest.mark.slow
      yield pytest.param(name, capability, id=label, marks=marks)


@pytest.mark.parametrize(('name', 'capability'), cases())
def test_every_net(subjects, name, capability):
  capability(subjects(name))
