"""slim-inception embed, beside what the nets themselves say of the images."""

import csv
import json

import h5py
import numpy as np
import pytest
import tensorflow as tf
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import formats
from slim_inception.preprocessing import preprocessing_factory

from slim_inception.classify import sources
from slim_inception.embed import embedder as embedder_lib
from slim_inception.embed.config import resolve
from slim_inception.embed.embedder import Embedder
from slim_inception.evaluate import views
from tests import records, tiny, zygote

pytestmark = pytest.mark.integration

COUNT = 5
SIDES = (32, 24)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  """Images, of which one is broken."""
  folder = tmp_path_factory.mktemp('photos')
  for i in range(COUNT):
    content = b'no image' if i == 2 else records.image(i % 3, i)
    (folder / f'{i}.jpg').write_bytes(content)
  return [str(folder / f'{i}.jpg') for i in range(COUNT)]


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """A checkpoint without classifier, and one with; of nets for images of two sizes."""
  prefixes = []
  for i, side in enumerate(SIDES):
    folder = tmp_path_factory.mktemp('run')
    tiny.random_net((None, 3)[i], seed=i).save(folder / 'model.ckpt')
    config = {'model_name': tiny.NAME, 'run': {'image_size': side}}
    (folder / 'config.json').write_text(json.dumps(config))
    prefixes.append(str(folder / 'model.ckpt'))
  return prefixes


@pytest.fixture(scope='module')
def expected(photos, runs):
  """[net][end point]: [images, width], those of the broken image left out."""
  of_nets = []
  for prefix, side in zip(runs, SIDES, strict=True):
    net = nets_factory.create_model(tiny.NAME, None, weights=prefix)
    files = [sources.expand([path], None) for path in photos if not path.endswith('2.jpg')]
    files = [source.read() for (source,) in files]
    images = [preprocessing_factory.INCEPTION.eval_image(file, side, side) for file in files]
    output, end_points = net(np.stack(images))
    of_nets.append(
      {
        None: output.numpy()[:, 0, 0],
        'Mixed_2a': end_points['Mixed_2a'].numpy().mean((1, 2)),
      }
    )
  return of_nets


def embed(photos, prefixes, **flags):
  values = {'checkpoint_path': ','.join(prefixes), 'output': 'a.npy', 'batch_size': 2, **flags}
  return list(Embedder(resolve(values)).embed(sources.expand(photos, None)))


def vectors(results):
  return np.stack([result.embedding for result in results if result.embedding is not None])


@pytest.mark.parametrize('end_point', [None, 'Mixed_2a'])
def test_embeddings_are_the_nets_own(photos, runs, expected, end_point):
  results = embed(photos, runs, end_point=end_point or '')
  assert [result.name for result in results] == photos
  assert [result.error for result in results] == [
    'not an image in any known format' if i == 2 else '' for i in range(COUNT)
  ]
  both = np.concatenate([of_net[end_point] for of_net in expected], axis=1)
  assert vectors(results).dtype == np.float32
  np.testing.assert_allclose(vectors(results), both, rtol=1e-4, atol=1e-4 * np.abs(both).max())


def test_scalar_products_of_normalized_ones_are_averages_of_cosines(photos, runs, expected):
  results = embed(photos, runs, normalize=True, ensemble_weights='3,1')
  units = [of_net[None] / np.linalg.norm(of_net[None], axis=1)[:, None] for of_net in expected]
  cosines = [unit @ unit.T for unit in units]
  products = vectors(results) @ vectors(results).T
  np.testing.assert_allclose(products, 0.75 * cosines[0] + 0.25 * cosines[1], atol=1e-4)


@pytest.mark.slow
def test_views_are_averaged(photos, runs):
  flags = {'checkpoint_path': runs[0], 'output': 'a.npy', 'crops': '10'}
  spec = resolve(flags).ensemble.members[0].spec
  image = spec.decode(tf.io.read_file(photos[0]))
  (scale,) = spec.scales
  squares = views.square_views(image, spec, tf.constant(scale), tf.constant(0.5, tf.float64))
  net = nets_factory.create_model(tiny.NAME, None, weights=runs[0])
  expected = net(spec.preprocessing.normalize(squares))[0].numpy().mean((0, 1, 2))
  (result,) = embed(photos[:1], runs[:1], crops='10')
  assert len(squares) == 10
  np.testing.assert_allclose(
    result.embedding, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
  )


@pytest.mark.parametrize(('width', 'preprocessing'), [(128, 'facenet_whitened'), (512, 'facenet')])
def test_faces_of_keras_are_seen_as_there(width, preprocessing, tmp_path):
  """Without flags: whole images of 160 pixels, whitened for facenet's older nets."""
  path = str(tmp_path / 'a.h5')
  with h5py.File(path, 'w') as file:
    file['model_weights/Bottleneck/Bottleneck/kernel:0'] = np.zeros((1792, width), np.float32)
  flags = {'checkpoint_path': path, 'output': 'a.npy', 'model_name': 'inception_resnet_v1'}
  spec = resolve(flags).ensemble.members[0].spec
  assert (spec.preprocessing.name, spec.image_size) == (preprocessing, 160)
  assert spec.crop_fraction == 1
  flags |= {'preprocessing_name': 'inception', 'eval_image_size': '96'}
  spec = resolve(flags).ensemble.members[0].spec
  assert (spec.preprocessing.name, spec.image_size) == ('inception', 96)
  assert formats.views(path, 'inception_v3') is None


@pytest.mark.slow
def test_nets_of_other_widths_that_see_the_same_views(photos, runs, tmp_path):
  other = nets_factory.create_model('inception_v1', None, image_size=SIDES[0])
  other.save(tmp_path / 'v1.ckpt')
  flags = {'model_name': f'{tiny.NAME},inception_v1', 'eval_image_size': SIDES[0]}
  both = vectors(embed(photos, [runs[0], str(tmp_path / 'v1.ckpt')], **flags))
  (width,) = vectors(embed(photos, runs[:1]))[0].shape
  np.testing.assert_allclose(both[:, :width], vectors(embed(photos, runs[:1])), rtol=1e-5)
  assert both.shape == (COUNT - 1, width + 1024)


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({'output': 'a.txt'}, r'--output=a.txt: choose a name that ends in .csv, .npy, .parquet'),
    ({'crops': 'dense'}, '--crops=dense is for classifiers'),
    ({'ensemble_weights': '1,2'}, '--ensemble_weights needs --normalize'),
    ({'end_point': 'Mixed_9'}, '--end_point=Mixed_9: below its classifier inception_tiny has Conv'),
  ],
)
def test_refused(photos, runs, flags, message):
  with pytest.raises(ValueError, match=message):
    embed(photos, runs, **flags)


def test_command(photos, runs, tmp_path):
  folder = photos[0].rpartition('/')[0]
  tables = {}
  for ending in ('csv', 'npy', 'parquet'):
    path = tmp_path / 'new' / f'a.{ending}'
    done = zygote.run(
      'embed', folder, 'none.jpg', f'--checkpoint_path={runs[0]}', f'--output={path}'
    )
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert f'slim-inception embed: {photos[2]}: not an image in any known format' in lines
    assert 'slim-inception embed: none.jpg: No such file or directory' in lines
    assert lines[-1] == f'{path}: 4 embedding(s) of 40 numbers'
    tables[ending] = path
  names = [*photos, 'none.jpg']
  with open(tables['csv'], newline='') as file:
    header, *rows = csv.reader(file)
  assert header[:3] == ['file', 'error', 'e0']
  assert [row[0] for row in rows] == names
  values = np.array([row[2:] for row in rows if not row[1]], np.float32)
  array = np.load(tables['npy'])
  np.testing.assert_array_equal(array, values)
  assert array.dtype == np.float32
  with open(f'{tables["npy"]}.csv', newline='') as file:
    _, *rows = csv.reader(file)
  assert [row[0] for row in rows] == ['0', '1', '', '2', '3', '']
  assert [row[1] for row in rows] == names
  assert rows[2][2] == 'not an image in any known format'

  parquet = pytest.importorskip('pyarrow.parquet', reason='pyarrow is not installed')
  columns = parquet.read_table(tables['parquet']).to_pydict()
  assert columns['file'] == names
  assert [error is None for error in columns['error']] == [True, True, False, True, True, False]
  stored = [row for row in columns['embedding'] if row is not None]
  np.testing.assert_array_equal(np.array(stored, np.float32), values)


def test_what_is_there_stays_when_no_image_can_be_embedded(photos, runs, tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('before')
  done = zygote.run('embed', photos[2], f'--checkpoint_path={runs[0]}', f'--output={path}')
  assert done.returncode != 0
  message = f'--output={path} is not written: none of 1 image(s) can be embedded'
  assert done.stderr.splitlines()[-1] == f'slim-inception embed: {message}'
  assert path.read_text() == 'before'


def test_tables_without_embeddings_and_of_many(tmp_path):
  from slim_inception.embed import output

  failed = embedder_lib.Result('a\n.jpg', 'broken')
  some = [embedder_lib.Result(f'{i}', '', np.arange(3, dtype=np.float32) + i) for i in range(2500)]
  for i, results in enumerate(([], [failed], [failed] * 1100 + some)):
    paths = [str(tmp_path / f'{i}{ending}') for ending in output.WRITERS]
    for path, writer in zip(paths, output.WRITERS.values(), strict=True):
      with writer(path) as write:
        for result in results:
          write(result)
    with open(paths[0], newline='') as file:
      header, *rows = csv.reader(file)
    count = max(0, len(results) - 1100)
    assert header == ['file', 'error', *(['e0', 'e1', 'e2'] if count else [])]
    assert len(rows) == len(results)
    array = np.load(paths[1])
    assert array.shape == (count, 3 if count else 0)
    parquet = pytest.importorskip('pyarrow.parquet', reason='pyarrow is not installed')
    assert parquet.read_table(paths[2]).num_rows == len(results)
    if count:
      np.testing.assert_array_equal(array, [result.embedding for result in some])
      assert rows[0] == [output.files.csv_cell('a\n.jpg'), 'broken']


def test_what_ends_early_leaves_what_was_there(tmp_path):
  from slim_inception.embed import output

  for ending, writer in output.WRITERS.items():
    path = tmp_path / f'a{ending}'
    path.write_text('before')
    with pytest.raises(KeyboardInterrupt), writer(str(path)) as write:
      write(embedder_lib.Result('a', '', np.zeros(3, np.float32)))
      raise KeyboardInterrupt
    assert path.read_text() == 'before'
  assert sorted(p.name for p in tmp_path.iterdir()) == ['a.csv', 'a.npy', 'a.parquet']
