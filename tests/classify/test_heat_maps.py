"""Heat maps lie where the evidence is, and are what their papers say."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from slim_inception.nets import nets_factory

from slim_inception.classify import activation_maps, heat_maps, sources
from slim_inception.classify.classifier import Classifier
from slim_inception.classify.config import resolve
from tests import tiny

pytestmark = pytest.mark.integration

_SLOW = pytest.mark.slow
SIDE, PATCH = 32, 8
METHODS = ('cam', 'grad_cam', 'grad_cam_plus_plus', 'occlusion')


@pytest.mark.parametrize(
  ('name', 'size'),
  [
    (tiny.NAME, 32),
    pytest.param('inception_v3', 139, marks=_SLOW),
    pytest.param('inception_resnet_v2', 139, marks=_SLOW),
    pytest.param('resnet_v1_50', 65, marks=_SLOW),
    pytest.param('resnet_v2_50', 65, marks=_SLOW),
  ],
)
def test_gradients_give_the_class_activation_map_of_a_linear_head(name, size):
  net = nets_factory.get_net(name)
  model = nets_factory.create_model(name, 7, image_size=size, **net.select(create_aux_logits=False))
  images = tf.random.uniform((2, size, size, 3), -1, 1, seed=1)
  outputs = tf.constant([2, 5])
  logits, more = activation_maps.logits_and_maps(model, net, images)
  exact = more['maps'].numpy()[[0, 1], :, :, [2, 5]]
  pixels = exact[0].size
  maps, of_outputs = heat_maps.grad_cam(model, net, images, outputs)
  np.testing.assert_allclose(of_outputs, logits.numpy()[[0, 1], [2, 5]], rtol=1e-5, atol=1e-5)
  expected = np.maximum(exact, 0) / pixels
  np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
  assert (expected > 0).mean() > 0.05

  # Grad-CAM++ of a linear head: the gradient of a channel is its weight over the pixels.
  features = model.features(images).numpy().astype(np.float64)
  weights = model.variables_by_name[f'{net.logits_scope}/weights'].numpy()
  gradients = weights.reshape(weights.shape[-2:]).T[[2, 5]] / pixels
  shares = 1 / (2 + features.sum((1, 2)) * gradients)
  of_channels = pixels * shares * np.maximum(gradients, 0)
  expected = np.maximum(np.einsum('nhwc,nc->nhw', features, of_channels), 0)
  maps, _ = heat_maps.grad_cam_plus_plus(model, net, images, outputs)
  np.testing.assert_allclose(maps, expected, rtol=1e-2, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_a_bottleneck_is_explained():
  net = nets_factory.get_net('inception_resnet_v1')
  model = nets_factory.create_model(net.name, 7, image_size=107, bottleneck_layer_size=8)
  images = tf.repeat(tf.random.uniform((1, 107, 107, 3), -1, 1, seed=1), 7, 0)
  expected = model(images[:1])[0][0]
  for method in heat_maps.GRADIENTS.values():
    maps, logits = method(model, net, images, tf.range(7))
    assert maps.shape[1:] == (2, 2) and np.isfinite(maps).all()
    assert (maps.numpy().max((1, 2)) > 0).any() and maps.numpy().min() >= 0
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_masks_cover_all_of_an_image_and_each_its_place():
  masks = heat_maps.occlusion_masks(24, 36, 6)
  assert masks.shape == (6, 6, 24, 36)
  assert (~masks).any((0, 1)).all()
  covered = np.argwhere(~masks[2, 3])
  assert covered.min(0).tolist() == [6, 15] and covered.max(0).tolist() == [13, 26]
  assert (~masks[0, 0]).sum() == 6 * 9  # the rest lies outside


def image(rng, patch):
  """Noise, with a checkered patch whose corner is `patch`, if any."""
  pixels = rng.normal(0, 0.25, (SIDE, SIDE, 3)).astype(np.float32)
  if patch is not None:
    rows, columns = np.indices((PATCH, PATCH))
    checks = np.where((rows // 2 + columns // 2) % 2, 1, -1)[..., np.newaxis]
    pixels[patch[0] : patch[0] + PATCH, patch[1] : patch[1] + PATCH] = checks * [1, 1, -1]
  return pixels.clip(-1, 1)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A net that has learned to tell images with a patch, class 1, from those without."""
  tf.random.set_seed(0)
  rng = np.random.default_rng(0)
  model = nets_factory.create_model(tiny.NAME, 2, create_aux_logits=False)
  optimizer = tf.keras.optimizers.Adam(0.01)

  @tf.function(autograph=False)
  def step(images, labels):
    with tf.GradientTape() as tape:
      logits, _ = model(images, training=True)
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
      loss = tf.reduce_mean(losses)
    variables = model.trainable_variables
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return loss

  for _ in range(80):
    labels = rng.integers(0, 2, 32)
    images = [image(rng, rng.integers(0, SIDE - PATCH, 2) if label else None) for label in labels]
    loss = step(tf.constant(np.stack(images)), tf.constant(labels))
  assert loss < 0.1
  folder = tmp_path_factory.mktemp('run')
  model.save(str(folder / 'model.ckpt'))
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception', 'run': {'image_size': SIDE}}
  (folder / 'config.json').write_text(json.dumps(config))
  return str(folder / 'model.ckpt')


PATCHES = ((2, 2), (4, 20), (20, 6), (12, 12), (21, 22), (0, 11))


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Files with the patch in other places; PNG, so that nothing is lost."""
  folder, rng = tmp_path_factory.mktemp('photos'), np.random.default_rng(9)
  for number, patch in enumerate(PATCHES):
    pixels = np.round((image(rng, patch) + 1) * 127.5).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f'{number}.png')
  return sorted(str(path) for path in folder.iterdir())


@pytest.mark.parametrize('method', METHODS)
def test_maps_are_where_the_patch_is(run, photos, method, tmp_path):
  flags = {'checkpoint_path': run, 'explain': str(tmp_path), 'explain_method': method}
  flags |= {'crops': '1', 'resize': 'aspect', 'crop_fraction': '1', 'batch_size': '40'}
  results = [*Classifier(resolve(flags)).classify(sources.expand(photos, None))]
  shares = []
  for result, (top, left) in zip(results, PATCHES, strict=True):
    assert result.probabilities.argmax() == 1 and result.probabilities[1] > 0.5
    (evidence,) = result.explanation.evidence
    assert evidence.unit == heat_maps.UNITS[method]
    heat = np.maximum(evidence.map, 0)
    height, width = heat.shape
    rows, columns = ((np.arange(n) + 0.5) * SIDE / n for n in (height, width))
    margin = 4.5  # of the receptive field, and of the square that covers
    inside = ((rows >= top - margin) & (rows < top + PATCH + margin))[:, np.newaxis] & (
      (columns >= left - margin) & (columns < left + PATCH + margin)
    )
    assert inside[np.unravel_index(heat.argmax(), heat.shape)], (method, top, left)
    assert inside.mean() < 0.33
    shares.append(heat[inside].sum() / heat.sum())
  assert np.mean(shares) > 0.6, shares


def test_occlusion_asks_the_net(run, photos, tmp_path):
  flags = {'checkpoint_path': run, 'explain': str(tmp_path), 'explain_method': 'occlusion'}
  flags |= {'resize': 'aspect', 'crop_fraction': '1'}
  (result,) = Classifier(resolve(flags)).classify(sources.expand(photos[3:4], None))
  (evidence,) = result.explanation.evidence
  model = nets_factory.create_model(tiny.NAME, 2, weights=run, create_aux_logits=False)
  with Image.open(photos[3]) as file:
    view = np.asarray(file, np.float32)[np.newaxis] / 127.5 - 1
  logit = model(view)[0][0, 1]
  assert evidence.map.shape == (12, 12)
  for row, column in [(0, 0), (5, 6), (11, 3)]:
    covered = view.copy()
    top, left = (round((place - 0.5) * SIDE / 12) for place in (row, column))
    bottom, right = (round((place + 1.5) * SIDE / 12) for place in (row, column))
    covered[:, max(0, top) : bottom, max(0, left) : right] = 0
    expected = float(logit - model(covered)[0][0, 1])
    np.testing.assert_allclose(evidence.map[row, column], expected, rtol=1e-3, atol=1e-3)


def test_refused(run):
  with pytest.raises(ValueError, match='--explain_method=occlusion needs --explain'):
    resolve({'checkpoint_path': run, 'explain_method': 'occlusion'})
  with pytest.raises(ValueError, match='--explain_method=lime: choose one of cam, grad_cam, '):
    resolve({'checkpoint_path': run, 'explain': 'a', 'explain_method': 'lime'})
