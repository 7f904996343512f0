"""What a run took from its data set belongs to it, whatever becomes of the data set."""

import json
import pathlib
import shutil

import pytest
from slim_inception.datasets import image_folder
from slim_inception.datasets.conversion import Options
from slim_inception.nets import checkpoint_files

from slim_inception import flags
from slim_inception.classify import classes
from slim_inception.classify import config as classify_config
from slim_inception.cli import convert as convert_command
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate import run as run_evaluation
from slim_inception.export import config as export_config
from slim_inception.export import export
from slim_inception.train import trainer
from tests import records, tiny
from tests.train import processes

pytestmark = pytest.mark.integration

NAMES = ('cat', 'dog', 'rabbit')
SWAPPED = ('ant', 'cat', 'dog')
RENAMED = ('cat', 'dog', 'zebra')


def convert(folder: pathlib.Path, names=NAMES, seed=0, prefix='') -> pathlib.Path:
  """Records of a folder of images for each name, which have the colours of `NAMES`."""
  photos = folder / 'photos'
  shutil.rmtree(photos, ignore_errors=True)
  for label, name in enumerate(names):
    (photos / name).mkdir(parents=True)
    for number in range(6):
      path = photos / name / f'{prefix}{number}.jpg'
      path.write_bytes(records.image(label, 10 * label + number))
  options = Options(validation_fraction=0.34, seed=seed, overwrite=True)
  image_folder.convert(str(photos), folder / 'records', options)
  return folder / 'records'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  folder = tmp_path_factory.mktemp('trained')
  trainer.train(processes.config(folder / 'run', convert(folder), max_number_of_steps=2))
  return folder


@pytest.fixture
def folder(trained, tmp_path):
  """With `records` and a `run` of them, to be changed."""
  copy = shutil.copytree(trained, tmp_path / 'copy')
  for path in (copy / 'run').glob('*.json'):
    path.write_text(path.read_text().replace(str(trained), str(copy)))
  return copy


def train(folder, steps=3):
  trainer.train(processes.config(folder / 'run', folder / 'records', max_number_of_steps=steps))


def evaluate(folder, **flags):
  flags = {'checkpoint_path': str(folder / 'run'), **flags}
  return run_evaluation.evaluate(eval_config.resolve(flags))


def names_in_classification(checkpoint, **flags):
  request = classify_config.resolve({'checkpoint_path': str(checkpoint), **flags})
  member = request.ensemble.members[0]
  dataset = classes.find(
    request.config.classes.labels, request.runs, member, checkpoint_files.resolve(checkpoint)
  )
  return tuple(dataset.labels_to_names.values())


def names_in_export(folder):
  flags = {'checkpoint_path': str(folder / 'run'), 'output': str(folder / 'export')}
  export.export(export_config.resolve(flags))
  return tuple((folder / 'export' / 'labels.txt').read_text().splitlines())


def facts_of(folder):
  return json.loads((folder / 'run' / 'config.json').read_text())['run']


def test_names_are_those_of_the_run(folder, caplog):
  facts = facts_of(folder)
  assert (facts['labels'], facts['label_offset']) == (list(NAMES), 0)
  assert evaluate(folder)['num_images'] == 6
  train(folder, 2)
  assert names_in_classification(folder / 'run') == NAMES
  assert caplog.text.count('WARNING') == 0

  convert(folder, SWAPPED)
  assert names_in_classification(folder / 'run') == NAMES
  assert names_in_export(folder) == NAMES
  changes = "label 0 was 'cat' and is 'ant', label 1 was 'dog' and is 'cat' and 1 more"
  message = f'its records have others now: {changes}'
  assert caplog.text.count(message) == 2
  message = f'was trained on other classes than .*: {changes}'
  with pytest.raises(ValueError, match=message):
    train(folder)
  with pytest.raises(ValueError, match=message):
    evaluate(folder)
  shutil.rmtree(folder / 'records')
  assert names_in_classification(folder / 'run') == NAMES
  assert checkpoint_files.latest(folder / 'run').endswith('ckpt-2')


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    (NAMES[:2], 'num_classes 3, not 2'),
    ((*NAMES, 'zebra'), 'num_classes 3, not 4'),
    (
      RENAMED,
      "label 2 was 'rabbit' and is 'zebra'. Give the records .* new names into run.labels of",
    ),
  ],
)
def test_a_run_does_not_go_on_with_other_classes(folder, names, message):
  convert(folder, names)
  with pytest.raises(ValueError, match=message):
    train(folder)


def test_a_background_that_came_later(folder):
  path = folder / 'records' / 'dataset.json'
  path.write_text(path.read_text().replace('"label_offset": 0', '"label_offset": 1'))
  with pytest.raises(ValueError, match='label_offset was 0 and is 1'):
    train(folder)


def test_a_class_that_was_renamed(folder, caplog):
  """In the same folder it may be another class; the user says that it is not."""
  convert(folder, RENAMED)
  path = folder / 'run' / 'config.json'
  with pytest.raises(ValueError, match=f'write the new names into run.labels of {path}'):
    evaluate(folder)
  elsewhere = (folder / 'records').rename(folder / 'elsewhere')
  assert evaluate(folder, dataset_dir=str(elsewhere))['num_images'] == 6
  assert 'elsewhere calls the classes of' in caplog.text
  elsewhere.rename(folder / 'records')
  path.write_text(path.read_text().replace('"rabbit"', '"zebra"'))
  assert evaluate(folder)['num_images'] == 6
  assert names_in_classification(folder / 'run') == RENAMED


def test_classes_in_another_order_elsewhere(folder):
  convert(folder, SWAPPED)
  elsewhere = (folder / 'records').rename(folder / 'elsewhere')
  with pytest.raises(ValueError, match='was trained on other classes than .*elsewhere has'):
    evaluate(folder, dataset_dir=str(elsewhere))


def test_another_split_is_said(folder, caplog):
  """Also after the run has gone on with it: it has seen images of both."""
  (before,) = facts_of(folder)['dataset_hashes']
  first = shutil.copytree(folder / 'records', folder / 'first')
  convert(folder, seed=1)
  message = f'{folder}/records/dataset.json is not what {folder}/run was trained on (only): '
  evaluate(folder)
  assert f'{message}validation may have images that it was trained on' in caplog.text
  caplog.clear()
  train(folder)
  assert message in caplog.text
  hashes = facts_of(folder)['dataset_hashes']
  assert (hashes[0], len(set(hashes))) == (before, 2)
  for records_dir in (folder / 'records', first):
    caplog.clear()
    evaluate(folder, dataset_dir=str(records_dir))
    assert 'was trained on (only)' in caplog.text


def test_a_checkpoint_that_is_copied_alone(folder, tmp_path, caplog):
  for path in (folder / 'run').glob('model.ckpt-2*'):
    shutil.copy(path, tmp_path)
  copy = tmp_path / 'model.ckpt-2'
  assert names_in_classification(copy) == NAMES
  found = evaluate(folder, checkpoint_path=str(copy), eval_dir=str(tmp_path / 'eval'))
  assert (found['model_name'], found['num_images']) == (tiny.NAME, 6)
  convert(folder, SWAPPED)
  assert names_in_classification(copy) == NAMES
  with pytest.raises(ValueError, match=f'run.labels of {copy}.json'):
    evaluate(folder, checkpoint_path=str(copy), eval_dir=str(tmp_path / 'eval'))


def test_names_go_along_with_a_conversion(folder, tmp_path):
  output = tmp_path / 'converted.ckpt'

  def convert_run(source, **options):
    values = {'model_name': tiny.NAME, 'source': str(source), 'output': str(output), **options}
    convert_command.convert(flags.build(convert_command.ConvertConfig, values))

  convert_run(folder / 'run')
  assert names_in_classification(output) == NAMES
  with pytest.raises(ValueError, match='exists: --overwrite replaces it'):
    convert_run(folder / 'run')
  shutil.rmtree(folder / 'records')
  (alone := tmp_path / 'alone').mkdir()
  for path in (folder / 'run').glob('model.ckpt-2.*'):
    if path.suffix != '.json':
      shutil.copy(path, alone)
  convert_run(alone / 'model.ckpt-2', overwrite=True)
  assert not pathlib.Path(f'{output}.json').exists()


def test_a_run_of_0_1_0_takes_the_names_of_its_records(folder):
  path = folder / 'run' / 'config.json'
  content = json.loads(path.read_text())
  for name in ('labels', 'label_offset', 'dataset_hashes'):
    del content['run'][name]
  path.write_text(json.dumps(content))
  convert(folder, SWAPPED)
  assert names_in_classification(folder / 'run') == SWAPPED
  assert evaluate(folder)['num_images'] == 6
  train(folder)
  assert facts_of(folder)['labels'] == list(SWAPPED)


@pytest.mark.parametrize('other', [False, True])
def test_heads_of_other_classes_are_not_taken_silently(folder, tmp_path, caplog, other):
  data = convert(tmp_path, ('ant', 'bee', 'cow') if other else NAMES)
  flags = {'max_number_of_steps': 1, 'checkpoint_path': str(folder / 'run')}
  trainer.train(processes.config(tmp_path / 'run', data, **flags))
  message = (
    "run/model.ckpt-2 is of as many other classes: label 0 was 'cat' and is 'ant', label 1 was "
    "'dog' and is 'bee' and 1 more; --checkpoint_exclude_scopes="
    'InceptionTiny/Logits,InceptionTiny/AuxLogits'
  )
  assert (message in caplog.text) == other
  assert ('other classes' in caplog.text) == other


def test_classification_takes_the_names_that_it_is_given(folder, tmp_path):
  path = tmp_path / 'labels.txt'
  path.write_text('0:a\n1:b\n2:c\n')
  assert names_in_classification(folder / 'run', labels=str(path)) == ('a', 'b', 'c')
