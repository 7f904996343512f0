"""What weights of no run need, and what is said of the wrong net, images or number of outputs."""

import json
import re
import tarfile
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from slim_inception.datasets import dataset_factory
from slim_inception.nets import catalogue, checkpoints, nets_factory
from slim_inception.preprocessing import preprocessing_factory

from slim_inception import needs
from slim_inception.evaluate import label_spaces
from slim_inception.evaluate.config import resolve as resolve_eval
from slim_inception.evaluate.scorer import Scorer
from slim_inception.evaluate.stored_weights import open_weights
from slim_inception.train import start, trainer
from tests import tiny
from tests.cli.test_convert import convert
from tests.train import processes

tf1 = tf.compat.v1
V1, V2 = 'resnet_v1_50', 'resnet_v2_50'
THIN = 0.125


def archive(folder, name, prefix):
  """A released archive: NAME.tar.gz with a checkpoint in it."""
  path = folder / f'{name}.tar.gz'
  with tarfile.open(path, 'w:gz') as file:
    for part in sorted(prefix.parent.glob(f'{prefix.name}*')):
      file.add(part, part.name)
  return path


def file_of_kind(folder, name, kind):
  """As little of a file as tells what it is."""
  path = folder / name
  path.parent.mkdir(parents=True, exist_ok=True)
  if kind == 'checkpoint':
    checkpoints.save(path, {'a': tf.ones(1)})
  elif kind == 'archive':
    checkpoints.save(folder / 'a.ckpt', {'a': tf.ones(1)})
    return archive(folder, name.removesuffix('.tar.gz'), folder / 'a.ckpt')
  elif kind == 'h5':
    path.write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(600))
  elif kind == 'safetensors':
    path.write_bytes((2).to_bytes(8, 'little') + b'{}')
  else:
    with zipfile.ZipFile(path, 'w') as file:
      file.writestr('archive/data.pkl', b'')
  return path


@pytest.mark.parametrize(
  ('name', 'kind', 'net', 'released', 'expected'),
  [
    ('x.ckpt', 'checkpoint', V1, 'resnet_v1_50_2016_08_28 of TF-Slim', ('vgg', 224, None)),
    ('x.ckpt', 'checkpoint', V2, 'resnet_v2_50_2017_04_14 of TF-Slim', ('inception', 299, None)),
    ('x.ckpt', 'checkpoint', 'inception_v2', 'inception_v2_2016_08_28 of TF-Slim',
     ('inception', 224, None)),
    ('x.ckpt', 'checkpoint', 'resnet_v1_200', '', ('vgg', 224, None)),
    ('ens3_adv_inception_v3_2017_08_18.tar.gz', 'archive', 'inception_v3',
     'ens3_adv_inception_v3_2017_08_18 of TF-Slim', ('inception', 299, None)),
    ('20180408-102900/model.ckpt', 'checkpoint', 'inception_resnet_v1',
     '20180408-102900 of facenet', ('facenet', 160, None)),
    ('x.ckpt', 'checkpoint', 'inception_resnet_v1', '', ('inception', 299, None)),
    ('f.pth', 'pth', 'inception_resnet_v1', 'a net of facenet', ('facenet', 160, None)),
    ('r.h5', 'h5', V1, 'ResNet50 of Keras', ('vgg', 224, 'keras')),
    ('r.h5', 'h5', V2, 'ResNet50V2 of Keras', ('inception', 224, 'keras')),
    ('v3.h5', 'h5', 'inception_v3', 'InceptionV3 of Keras', ('inception', 299, None)),
    ('googlenet.pth', 'pth', 'inception_v1', 'googlenet-1378be20 of torchvision',
     ('inception', 224, 'torch')),
    ('resnet50-11ad3fa6.pth', 'pth', 'resnet_v1_5_50', 'resnet50-11ad3fa6 of torchvision',
     ('torch', 224, None)),
    ('inception_v3.tf_in1k/model.safetensors', 'safetensors', 'inception_v3',
     'inception_v3.tf_in1k of timm', ('inception', 299, 'torch')),
  ],
)  # fmt: skip
def test_what_files_are_taken_for(name, kind, net, released, expected, tmp_path):
  path = str(file_of_kind(tmp_path, name, kind))
  found = needs.of_weights(path, net, {})
  assert (found.released, found[2:5]) == (released, expected)
  text = f'{path} is taken for {released}: preprocessing {expected[0]}, '
  assert not released or found.describe().startswith(text)


def test_a_run_says_it_itself():
  run = {'model_name': V1, 'preprocessing_name': 'torch', 'padding': 'keras'}
  found = needs.of_weights('runs/a/model.ckpt-1', V1, {**run, 'run': {'image_size': 48}})
  assert found[1:] == ('runs/a was trained with', 'torch', 48, 'keras', '')
  # timm's config.json, which lies beside its weights, is no run's.
  assert needs.of_weights('a/model.ckpt', V2, {'architecture': V2}).image_size == 299


@pytest.mark.parametrize('checkpoint', catalogue.CHECKPOINTS, ids=lambda c: c.name)
def test_the_catalogue_agrees_with_the_nets(checkpoint):
  """`conversion.read` makes weights for the images of the net, facenet's excepted."""
  net = nets_factory.get_net(checkpoint.net)
  of_faces = {512: 'facenet', 128: 'facenet_whitened'}
  assert checkpoint.preprocessing == of_faces.get(checkpoint.outputs, net.preprocessing)
  assert checkpoint.preprocessing in preprocessing_factory.PREPROCESSING
  by = (checkpoint.by,)
  assert catalogue.find(checkpoint.net, f'x/{checkpoint.name}.tar.gz', by) == checkpoint
  assert catalogue.find(checkpoint.net, f'{checkpoint.name}/model.ckpt', by) == checkpoint


def thin_v1(folder):
  """ResNet-v1-50 as released, but thin: TF1's file of one piece, 1000 outputs, the mean."""
  with tf.Graph().as_default(), tf1.Session() as session:
    net = nets_factory.get_net(V1)
    network_fn = nets_factory.get_network_fn(V1, 1000)
    network_fn(tf.zeros((1, 33, 33, 3)), depth_multiplier=THIN)
    tf1.get_variable(f'{net.scope}/mean_rgb', initializer=tf.constant([123.68, 116.78, 103.94]))
    session.run(tf1.global_variables_initializer())
    saver = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
    saver.save(session, str(folder / 'resnet_v1_50.ckpt'), write_meta_graph=False)
  (folder / 'checkpoint').unlink()
  return folder / 'resnet_v1_50.ckpt'


@pytest.fixture(scope='module')
def v1(tmp_path_factory):
  return thin_v1(tmp_path_factory.mktemp('v1'))


@pytest.fixture(scope='module')
def v2(tmp_path_factory):
  """Some of ResNet-v2-50: enough to tell which net it is."""
  prefix = tmp_path_factory.mktemp('v2') / 'resnet_v2_50.ckpt'
  names = ('conv1/weights', 'conv1/biases', 'postnorm/gamma', 'logits/biases')
  checkpoints.save(prefix, {f'{V2}/{name}': tf.ones((1, 1)) for name in names})
  return prefix


@pytest.mark.integration
def test_an_archive_of_v1_is_evaluated_as_released(v1, tmp_path, caplog):
  path = archive(tmp_path, 'resnet_v1_50_2016_08_28', v1)
  flags = {'checkpoint_path': str(path), 'model_name': V1, 'depth_multiplier': THIN}
  flags |= {'dataset_name': 'imagenet', 'dataset_dir': 'data'}
  with caplog.at_level('INFO', 'absl'):
    _, request = resolve_eval(flags)
  assert caplog.messages == [
    f'{path} is taken for resnet_v1_50_2016_08_28 of TF-Slim: preprocessing vgg, 224 x 224 pixels '
    '(--preprocessing_name and --eval_image_size override it)'
  ]
  (member,) = request.members
  scorer = Scorer(member, request, numbered(1, 1001), tf.distribute.get_strategy())
  assert scorer.load(str(path)).labels_offset == 1
  assert scorer.model.image_size == 224
  caplog.clear()
  resolve_eval({**flags, 'preprocessing_name': 'inception', 'eval_image_size': 96})
  assert caplog.messages == [
    '--preprocessing_name=inception, but resnet_v1_50_2016_08_28 of TF-Slim takes vgg'
  ]


def test_a_net_read_as_another(v1, v2, tmp_path):
  """By evaluation, classification and export, fine-tuning, conversion and `create_model`."""
  zipped = archive(tmp_path, 'resnet_v1_50_2016_08_28', v1)
  for path, own, other in ((v1, V1, V2), (zipped, V1, V2), (v2, V2, V1)):
    message = f'{re.escape(str(path))} is a.* not of {other}: it has no .*, but is of {own}$'
    with pytest.raises(ValueError, match=message):
      open_weights(str(path), other)
    with pytest.raises(ValueError, match=message):
      nets_factory.create_model(other, weights=path)
    with pytest.raises(ValueError, match=message):
      convert(path, tmp_path / 'out.ckpt', other)
    config = tiny.config(checkpoint_path=str(path), model_name=other, preprocessing_name='vgg')
    state = types.SimpleNamespace(model=types.SimpleNamespace(variables_by_name={}))
    with pytest.raises(ValueError, match=message):
      start.restore_or_init(config.finetune, other, 'vgg', state, None)


def numbered(first, num_classes):
  names = {label: str(label) for label in range(num_classes)}
  return dataset_factory.without_records('imagenet', num_classes, names, first)


@pytest.mark.parametrize(
  ('outputs', 'classes', 'offset', 'right'),
  [(1000, 1001, 0, 1), (1001, 1001, 1, 0), (1001, 1000, 0, -1), (1000, 1000, -1, 0)],
)
def test_a_wrong_offset_names_the_right_one(outputs, classes, offset, right):
  dataset = numbered(1 if classes == 1001 else 0, classes)
  with pytest.raises(ValueError) as raised:
    label_spaces.check_offset(outputs, dataset, offset)
  background = 'the first a background' if outputs == 1001 else 'no background'
  assert str(raised.value) == (
    f'--labels_offset={offset} asks for {classes - offset} outputs, and the net has {outputs}, '
    f'{background}: --labels_offset={right} is right'
  )
  label_spaces.check_offset(outputs, dataset, right)
  assert label_spaces.find_offset(outputs, dataset) == right


def test_a_wrong_offset_is_refused_before_the_net_is_built(v1):
  flags = {'checkpoint_path': str(v1), 'model_name': V1, 'labels_offset': 0}
  _, request = resolve_eval({**flags, 'dataset_name': 'imagenet', 'dataset_dir': 'data'})
  scorer = Scorer(request.members[0], request, numbered(1, 1001), tf.distribute.get_strategy())
  with pytest.raises(ValueError, match='and the net has 1000, no background: --labels_offset=1 is'):
    scorer.load(str(v1))


@pytest.mark.parametrize(('stored', 'asked'), [(1000, 1001), (1001, 1000)])
def test_a_classifier_with_another_background_says_so(stored, asked, tmp_path, caplog):
  prefix = str(tmp_path / 'model.ckpt')
  nets_factory.create_model(tiny.NAME, stored, create_aux_logits=False).save(prefix)
  line = f'begins fresh: the weights have {stored} outputs '
  with caplog.at_level('INFO', 'absl'):
    model = nets_factory.create_model(tiny.NAME, asked, weights=prefix, create_aux_logits=False)
    assert caplog.text.count(line) == 1
    state = types.SimpleNamespace(model=model, restart_averages=lambda: None)
    finetune = tiny.config(checkpoint_path=prefix).finetune
    start.restore_or_init(finetune, tiny.NAME, 'inception', state, None)
  assert caplog.text.count(line) == 2
  assert f'and {asked} are asked for; a net of {stored} keeps it (--labels_offset)' in caplog.text


def of_checkpoint(tmp_path, path, name, **flags):
  config = tiny.config(
    train_dir=str(tmp_path / 'run'),
    checkpoint_path=path and str(path),
    model_name=name,
    **{'preprocessing_name': None, **flags},
  )
  settled = start.of_checkpoint(config)
  chosen = settled.augment.preprocessing_name, settled.model.train_image_size
  return (*chosen, settled.model.padding), settled


def test_a_run_takes_what_its_start_needs(tmp_path):
  """Where it is not the net's own, and no flag says otherwise; and keeps it when it goes on."""
  keras = file_of_kind(tmp_path, 'r.h5', 'h5')
  assert of_checkpoint(tmp_path, keras, V1)[0] == (None, None, 'keras')
  chosen, settled = of_checkpoint(tmp_path, keras, V2)
  assert chosen == (None, 224, 'keras')
  assert settled.model.net_arguments == {'padding': 'keras'}
  flags = {'train_image_size': 299, 'padding': 'slim'}
  assert of_checkpoint(tmp_path, keras, V2, **flags)[0] == (None, 299, 'slim')
  torch = file_of_kind(tmp_path, 'g.pth', 'pth')
  assert of_checkpoint(tmp_path, torch, 'inception_v1')[0] == (None, None, 'torch')
  chosen, settled = of_checkpoint(tmp_path, torch, 'inception_v3')
  assert chosen == (None, None, 'torch')
  assert settled.model.net_arguments == {'count_padding': True}
  # Another run, whose images were others.
  before = tmp_path / 'before'
  checkpoints.save(file_of_kind(before, 'model.ckpt', 'checkpoint'), {'a': tf.ones(1)})
  run = {'model_name': V1, 'preprocessing_name': 'torch', 'padding': 'keras'}
  (before / 'config.json').write_text(json.dumps({**run, 'run': {'image_size': 48}}))
  checkpoint = before / 'model.ckpt'
  assert of_checkpoint(tmp_path, checkpoint, V1)[0] == ('torch', None, 'keras')
  # Started again before its first checkpoint: anew. Then as it began, even without the file.
  (tmp_path / 'run').mkdir()
  own = {'model_name': V2, 'checkpoint_path': str(keras), 'train_image_size': 224}
  (tmp_path / 'run' / 'config.json').write_text(json.dumps({**own, 'padding': 'keras'}))
  assert of_checkpoint(tmp_path, torch, 'inception_v1')[0] == (None, None, 'torch')
  checkpoints.save(tmp_path / 'run' / 'model.ckpt-1', {'a': tf.ones(1)})
  assert of_checkpoint(tmp_path, torch, V2)[0] == (None, None, 'keras')  # which is ignored then
  keras.unlink()
  assert of_checkpoint(tmp_path, keras, V2)[0] == (None, 224, 'keras')
  assert of_checkpoint(tmp_path, None, V2)[0] == (None, None, 'keras')


@pytest.mark.parametrize(
  ('name', 'padding', 'message'),
  [
    ('inception_v4', 'torch', '--padding is for inception_v1, .*inception_v3; inception_v4 has'),
    ('inception_v3', 'keras', '--padding is for inception_v1, resnet_v1_50, .*; inception_v3 has'),
    ('resnet_v1_5_50', 'slim', None),
  ],
)
def test_nets_without_a_choice_of_padding(name, padding, message):
  if message is None:
    assert tiny.config(model_name=name, padding=padding).model.net_arguments == {}
  else:
    with pytest.raises(ValueError, match=message):
      tiny.config(model_name=name, padding=padding)


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(('name', 'version'), [(V1, ''), (V2, 'V2')])
def test_training_from_keras_is_keras_net(name, version, data, tmp_path, caplog):
  """A step of rate 0, and then the run gives the logits of Keras' own model."""
  keras = pytest.importorskip('keras')
  tf.random.set_seed(0)
  theirs = getattr(keras.applications, f'ResNet50{version}')(
    weights=None, classes=3, input_shape=(64, 64, 3), classifier_activation=None
  )
  path = tmp_path / 'r.weights.h5'
  theirs.save_weights(path)
  flags = {'checkpoint_path': str(path), 'model_name': name, 'preprocessing_name': None}
  still = {'learning_rate': 0.0, 'weight_decay': 0.0, 'batch_norm_decay': 1.0}
  size = {'train_image_size': 64, 'max_number_of_steps': 1, 'recipe': 'slim'}
  with caplog.at_level('INFO', 'absl'):
    trainer.train(processes.config(tmp_path / 'run', data, **flags, **still, **size))
  assert f'is taken for ResNet50{version} of Keras' in caplog.text
  assert json.loads((tmp_path / 'run' / 'config.json').read_text())['padding'] == 'keras'
  pixels = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
  images = preprocessing_factory.get('inception' if version else 'vgg').normalize(pixels)
  own = images if version else pixels[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
  expected = theirs(own, training=False).numpy()
  _, request = resolve_eval({'checkpoint_path': str(tmp_path / 'run')})
  (member,) = request.members
  assert member.net_arguments == {'padding': 'keras'}
  for arguments, is_same in ((member.net_arguments, True), ({}, False)):
    model = nets_factory.create_model(name, 3, image_size=64, **arguments)
    model.restore(tmp_path / 'run')
    distance = np.abs(model(images)[0].numpy() - expected).max() / np.abs(expected).max()
    assert (distance < 1e-3) == is_same, distance
  # A converted checkpoint says it too.
  lines = convert(path, tmp_path / 'c.ckpt', name)
  assert any(f'is taken for ResNet50{version} of Keras' in line for line in lines)
  _, request = resolve_eval(
    {'checkpoint_path': str(tmp_path / 'c.ckpt'), 'dataset_name': 'digits', 'dataset_dir': 'x'}
  )
  assert request.members[0].net_arguments == {'padding': 'keras'}
  assert request.members[0].spec.image_size == 224
