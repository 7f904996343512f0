"""slim-inception classify as a user starts it."""

import csv
import io
import json

import pytest
from PIL import Image
from slim_inception.nets import nets_factory

from slim_inception.classify import output
from slim_inception.classify.config import resolve
from slim_inception.classify.output import Prediction, Row
from slim_inception.classify.run import classify
from tests import records, tiny, zygote
from tests.datasets.odd_images import JPEG, PNG

pytestmark = pytest.mark.integration

FOUND = Row('a, b.jpg', (Prediction(2, 'cat, "tom"', 0.75), Prediction(10, '10', 0.125)))
FAILED = Row('f\udcff\n.jpg', error='empty file')


def run(*arguments, stdin=b''):
  done = zygote.run('classify', *arguments, stdin=stdin)
  return done.returncode, done.stderr.splitlines(), done.stdout


def test_a_user_classifies(tmp_path, capsys):
  """Odd files, a list on standard input, CSV on standard output, JSON and heat maps."""
  nets_factory.create_model(tiny.NAME, 3).save(str(tmp_path / 'model.ckpt'))
  records.write_set(tmp_path / 'data')
  config = {
    'model_name': tiny.NAME, 'preprocessing_name': 'inception', 'dataset_name': 'image_folder',
    'dataset_dir': str(tmp_path / 'data'),
  }  # fmt: skip
  (tmp_path / 'config.json').write_text(json.dumps(config))
  photos = tmp_path / 'photos'
  photos.mkdir()
  for name, content in (('a.jpg', JPEG), ('b.jpg', b''), ('c.png', PNG)):
    (photos / name).write_bytes(content)
  code, lines, text = run(
    '-', f'{photos}/*.gif', photos / 'c.png', f'--checkpoint_path={tmp_path}/model.ckpt',
    '--csv=-', f'--json={tmp_path}/found.json', f'--explain={tmp_path}/why', '--top_k=2',
    stdin=f'{photos}\n'.encode(),
  )  # fmt: skip
  assert code == 1
  assert lines[0] == f'{tmp_path}/model.ckpt: {tiny.NAME}, plain weights, 32 x 32 pixels'
  assert lines[1].startswith('Classifying images on CPU (')  # how many, standard input knows
  assert lines[2] == f'Tracing and compiling {tiny.NAME}: the first batch takes longer'
  assert lines[3:] == [
    f'slim-inception classify: {photos}/b.jpg: empty file',
    f'slim-inception classify: {photos}/*.gif: no file matches',
  ]
  rows = list(csv.DictReader(io.StringIO(text)))
  files = [f'{photos}/{name}' for name in ('a.jpg', 'b.jpg', 'c.png', '*.gif', 'c.png')]
  assert [row['file'] for row in rows] == files
  assert [row['error'] for row in rows] == ['', 'empty file', '', 'no file matches', '']
  assert rows[0]['name_1'].startswith('color ')
  found = json.loads((tmp_path / 'found.json').read_text())
  assert [each['file'] for each in found] == files
  for row, each in zip(rows, found, strict=True):
    assert each.get('error', '') == row['error']
    for rank, prediction in enumerate(each.get('predictions', ()), start=1):
      assert str(prediction['label']) == row[f'label_{rank}']
      assert prediction['probability'] == float(row[f'probability_{rank}'])
  drawn = [row['explained'] for row in rows if row['explained']]
  names = ('a.explain.png', 'c.explain.png', 'c.2.explain.png')
  assert drawn == [f'{tmp_path}/why/{name}' for name in names]
  for path in drawn:
    with Image.open(path) as image:
      image.load()

  complaints = []
  request = resolve({'checkpoint_path': f'{tmp_path}/model.ckpt'})
  assert classify([f'{photos}/a.jpg', 'none.jpg'], request, complaints.append) == 1
  assert complaints == ['none.jpg: No such file or directory']
  best = [rows[0][f'{what}_1'] for what in ('probability', 'label', 'name')]
  text = capsys.readouterr().out.splitlines()
  assert text[:2] == [
    f'{photos}/a.jpg', f'  {float(best[0]):.4f}  {best[1]:>4s}  {best[2]}',
  ]  # fmt: skip
  assert len(text) == 4


def test_tables(tmp_path, capsys):
  with output.csv_writer(str(tmp_path / 'a.csv'), 3) as write:
    write(FOUND)
    write(FAILED)
  assert (tmp_path / 'a.csv').read_bytes().decode() == (
    'file,label_1,name_1,probability_1,label_2,name_2,probability_2,label_3,name_3,probability_3,'
    'explained,error\r\n'
    '"a, b.jpg",2,"cat, ""tom""",0.75,10,10,0.125,,,,,\r\n'
    'f\\udcff\\x0a.jpg,,,,,,,,,,,empty file\r\n'
  )
  with output.json_writer(str(tmp_path / 'a.json')) as write:
    write(FOUND)
    write(FAILED)
  assert json.loads((tmp_path / 'a.json').read_text()) == [
    {
      'file': 'a, b.jpg',
      'predictions': [
        {'label': 2, 'name': 'cat, "tom"', 'probability': 0.75},
        {'label': 10, 'name': '10', 'probability': 0.125},
      ],
    },
    {'file': FAILED.file, 'error': 'empty file'},
  ]
  with output.json_writer('-'):
    pass
  output.write_text(FOUND)
  output.write_text(FAILED)
  assert capsys.readouterr().out == ('[]\na, b.jpg\n  0.7500     2  cat, "tom"\n  0.1250    10\n')


def test_tables_are_whole_or_not_there(tmp_path):
  for writer in (
    output.csv_writer(str(tmp_path / 'a'), 1),
    output.json_writer(str(tmp_path / 'b')),
  ):
    with pytest.raises(ValueError, match='on the way'), writer as write:
      write(FOUND)
      raise ValueError('on the way')
  assert list(tmp_path.iterdir()) == []
