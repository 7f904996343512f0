"""slim-inception fid, from images to figures, beside the graph of 2015 with random weights."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image
from slim_inception.datasets import records as records_lib
from slim_inception.datasets import shards

from slim_inception.fid import figures, image_sets
from tests import graph_2015, zygote

pytestmark = pytest.mark.integration

COUNTS = {'real': 7, 'fake': 5}
SIDE = 48


def pixels(role):
  """[N, SIDE, SIDE, 3] uint8."""
  rng = np.random.default_rng(list(COUNTS).index(role))
  coarse = rng.integers(0, 256, (COUNTS[role], 6, 6, 3), np.uint8)
  return coarse.repeat(SIDE // 6, 1).repeat(SIDE // 6, 2)


def png(image):
  file = io.BytesIO()
  Image.fromarray(image).save(file, 'PNG')
  return file.getvalue()


@pytest.fixture(scope='module')
def graph():
  return graph_2015.build()


@pytest.fixture(scope='module')
def folder(tmp_path_factory, graph):
  """Weights, and both sets as folders and arrays; FAKE as records and as a tar too."""
  folder = tmp_path_factory.mktemp('fid')
  (folder / 'classify_image_graph_def.pb').write_bytes(graph.SerializeToString())
  for role in COUNTS:
    (folder / role).mkdir()
    for i, image in enumerate(pixels(role)):
      (folder / role / f'{i}.png').write_bytes(png(image))
    np.savez(folder / f'{role}_samples.npz', pixels(role))
  with tarfile.open(folder / 'fake.tar', 'w') as file:
    file.add(folder / 'fake', 'fake')
  return folder


@pytest.fixture(scope='module')
def expected(graph):
  """{figure: value}, of what the graph itself gives of the pixels."""
  fetched = 'pool_3:0', 'mixed_6/conv:0', 'softmax/logits/MatMul:0'
  outputs = [graph_2015.run(graph, pixels(role).astype(np.float32), *fetched) for role in COUNTS]
  pooled = [pool[:, 0, 0] for pool, *_ in outputs]
  spatial = [maps[..., :7].reshape(len(maps), -1) for _, maps, _ in outputs]
  logits = outputs[1][2].astype(np.float64)
  probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  manifolds = figures.precision_and_recall(*pooled)
  return {
    'fid': figures.frechet_distance_of_features(*pooled),
    'sfid': figures.frechet_distance_of_features(*spatial),
    'kid': figures.kernel_distance(*pooled).mean,
    'is': figures.inception_score(probabilities, 2).mean,
    **manifolds._asdict(),
  }


def fid(folder, *operands, **flags):
  path = folder / 'classify_image_graph_def.pb'
  flags = {'checkpoint_path': path, 'batch_size': 4, 'splits': 2, 'json': '-', **flags}
  flags = {name: value for name, value in flags.items() if value is not None}
  return zygote.run(
    'fid', *map(str, operands), *(f'--{name}={value}' for name, value in flags.items())
  )


def test_figures_are_those_of_the_graph(folder, expected):
  done = fid(folder, folder / 'real', folder / 'fake', resizing='legacy_tensorflow')
  assert done.returncode == 0, done.stderr
  content = json.loads(done.stdout)
  for name, value in expected.items():
    least = 1 if name == 'is' else 0
    assert content[name] - least == pytest.approx(value - least, rel=2e-3), name
  assert content['sets']['fake'] == {
    'name': str(folder / 'fake'), 'images': 5, 'failed': 0
  }  # fmt: skip
  assert 'the sets have 7 and 5 images' in done.stderr
  assert f'too large: {folder}/real has 7 and {folder}/fake has 5; about ' in done.stderr
  assert content['fid_bias'] > 0


def test_samples_records_archives_and_statistics(folder, expected, tmp_path):
  (tmp_path / 'records').mkdir()
  examples = [
    records_lib.encode_example(png(image), image_format='PNG', height=SIDE, width=SIDE, label=0)
    for image in pixels('real')
  ]
  shards.write_shard(tmp_path / 'records' / 'train-00000-of-00001', examples)
  flags = {'resizing': 'legacy_tensorflow', 'figures': 'fid,kid'}
  stored = tmp_path / 'real.npz'
  first = fid(folder, tmp_path / 'records', folder / 'fake.tar', save_statistics=stored, **flags)
  second = fid(folder, folder / 'real_samples.npz', folder / 'fake_samples.npz', **flags)
  for done in (first, second):
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content['fid'] == pytest.approx(expected['fid'], rel=2e-3)
    assert content['kid'] == pytest.approx(expected['kid'], rel=2e-3)
  with np.load(stored) as file:
    assert (file['mu'].shape, file['sigma'].shape) == ((2048,), (2048, 2048))
    assert file['sigma_s'].shape == (2023, 2023)


@pytest.mark.slow
def test_statistics_take_the_place_of_images(folder, expected, tmp_path):
  paths = [tmp_path / f'{role}.npz' for role in COUNTS]
  flags = {'resizing': 'legacy_tensorflow'}
  for role, path in zip(COUNTS, paths, strict=True):
    done = fid(folder, folder / role, save_statistics=path, figures='is', **flags)
    assert done.returncode == 0, done.stderr
  assert json.loads(done.stdout)['is'] == pytest.approx(expected['is'], rel=2e-3)
  done = fid(folder, *paths, checkpoint_path=None)
  assert done.returncode == 0, done.stderr
  content = json.loads(done.stdout)
  assert content['fid'] == pytest.approx(expected['fid'], rel=2e-3)
  assert content['sfid'] == pytest.approx(expected['sfid'], rel=2e-3)
  assert f'no KID, no precision and recall: {paths[0]} has statistics' in done.stderr
  done = fid(folder, paths[0], folder / 'fake', figures='fid', **flags)
  assert json.loads(done.stdout)['fid'] == pytest.approx(expected['fid'], rel=2e-3)
  assert 'compare it only with that of as many images' in done.stderr


def test_what_is_wrong_with_images_is_said(folder, tmp_path):
  shutil.copytree(folder / 'fake', tmp_path / 'fake')
  (tmp_path / 'fake' / 'broken.png').write_bytes(b'no image')
  shutil.copy(folder / 'real' / '3.png', tmp_path / 'fake' / 'copy.png')
  flags = {'figures': 'fid,is,precision_recall', 'neighbors': 6, 'batch_size': None}
  done = fid(folder, folder / 'real', tmp_path / 'fake', json=None, **flags)
  assert done.returncode == 1
  assert 'no precision and recall: precision and recall with 6 neighbours need' in done.stderr
  assert f'{tmp_path}/fake/broken.png: not an image in any known format' in done.stderr
  copied = f'1 file(s) of {tmp_path}/fake are in {folder}/real too: {tmp_path}/fake/copy.png'
  assert copied in done.stderr
  assert [line.split(' ')[0] for line in done.stdout.splitlines()] == ['FID', 'Inception']


def test_what_cannot_be_measured(folder, tmp_path):
  without = fid(folder, folder / 'real', folder / 'fake', checkpoint_path=None)
  assert without.returncode == 1
  assert 'pt_inception-2015-12-05-6726825d.pth' in without.stderr
  assert '--checkpoint_path must be given' in without.stderr
  three = fid(folder, 'a', 'b', 'c')
  assert three.returncode == 2
  assert '3 sets of images; expected REAL and FAKE' in three.stderr
  assert fid(folder, 'a', save_statistics='a.csv').returncode == 2


def test_arrays_that_are_no_images(tmp_path):
  path = str(tmp_path / 'a.npz')
  np.savez(path, images=np.zeros((2, 8, 8, 3), np.uint8))
  with pytest.raises(ValueError, match=r'a\.npz has images; expected arr_0, images uint8'):
    image_sets.open_set(path)
  for array in (np.zeros((2, 8, 8, 3)), np.zeros((2, 3, 8, 8), np.uint8), np.array([None])):
    np.savez(path, array)
    with pytest.raises(ValueError, match=r'arr_0 is .*; expected images, uint8 \[N, h, w, 3\]'):
      image_sets.open_set(path)


def test_an_array_that_is_damaged_at_its_end(tmp_path):
  path = tmp_path / 'a.npz'
  images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
  np.savez(path, images)
  content = bytearray(path.read_bytes())
  content[content.rindex(images[3].tobytes()) + 9000] ^= 255
  path.write_bytes(content)
  each = image_sets.open_set(str(path))
  read = [Image.open(io.BytesIO(source.read())) for source in list(each.images)[:3]]
  np.testing.assert_array_equal(np.stack(read), images[:3])
  *_, last = image_sets.open_set(str(path)).images
  with pytest.raises(ValueError, match='Bad CRC-32'):
    last.read()


def test_splits_of_records_must_be_named(tmp_path):
  for name in ('train-00000-of-00001', 'validation-00000-of-00001'):
    (tmp_path / name).write_bytes(b'')
  with pytest.raises(ValueError, match='has records of train, validation: name those of one'):
    image_sets.open_set(str(tmp_path))
