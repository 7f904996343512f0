"""slim-inception doctor on folders and records with planted faults, as a user starts it."""

import csv
import io
import json
import shutil

import pytest
from PIL import Image, ImageFilter
from slim_inception.datasets import conversion, digits, formats, image_folder, source_records

from slim_inception.bench import photographs
from slim_inception.doctor import listing
from slim_inception.doctor.config import resolve
from tests import records, tiny, zygote

pytestmark = pytest.mark.integration

COUNT = 30  # photographs as they are, the first 22 for training


def image(number, width=120, height=90):
  return Image.open(io.BytesIO(photographs.photograph(number, width, height))).convert('RGB')


def write(folder):
  """A folder of class folders with faults, each in a file that is called after it."""

  def save(name, content, quality=90):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content.save(path, 'JPEG', quality=quality)

  photos = [image(number) for number in range(COUNT)]
  for number, photo in enumerate(photos):
    save(f'{"train" if number < 22 else "val"}/{"ab"[number % 2]}/{number:02}.jpg', photo)
  save('val/a/leak.jpg', photos[2], 30)
  save('train/b/contradicts.jpg', photos[4].resize((200, 150)))
  save('train/a/mirrored.jpg', photos[6].transpose(Image.Transpose.FLIP_LEFT_RIGHT))
  shutil.copy(folder / 'train/a/08.jpg', folder / 'train/a/same.jpg')
  save('train/a/blur.jpg', image(100).filter(ImageFilter.GaussianBlur(6)))
  save('train/a/blank.jpg', Image.new('RGB', (120, 90), (10, 200, 30)))
  save('train/a/colour.jpg', image(101).convert('L'))
  save('train/a/aspect.jpg', image(102, 300, 50))
  save('train/a/size.jpg', image(103).resize((20, 15)))
  save('train/a/exposure.jpg', image(104).point(lambda value: value // 16))
  content = photographs.photograph(105, 120, 90)
  (folder / 'train/a/cut.jpg').write_bytes(content[: len(content) // 2] + b'\xff\xd9')
  (folder / 'train/a/unreadable.jpg').write_bytes(content[: len(content) // 2])


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('photos')
  write(folder)
  return folder


def rows_of(folder, name='problems.csv'):
  with open(folder / name, newline='') as file:
    return list(csv.DictReader(file))


def problems_of(rows):
  return {(row['filename'].rsplit('/', 1)[1], row['problem']) for row in rows}


@pytest.fixture(scope='module')
def diagnosis(photos, tmp_path_factory):
  folder = tmp_path_factory.mktemp('out') / 'new'
  done = zygote.run('doctor', f'--source={photos}', f'--output_dir={folder}')
  assert done.returncode == 0, done.stderr
  return folder, done.stdout.splitlines()


def test_planted_faults_and_no_others_are_told(diagnosis):
  folder, lines = diagnosis
  rows = rows_of(folder)
  odd = {(f'{name}.jpg', name) for name in (
    'blur', 'blank', 'colour', 'aspect', 'size', 'exposure', 'cut', 'unreadable'
  )}  # fmt: skip
  assert problems_of(rows) == odd | {
    ('02.jpg', 'leak'), ('leak.jpg', 'leak'),
    ('04.jpg', 'duplicate'), ('04.jpg', 'contradicting_labels'),
    ('contradicts.jpg', 'contradicting_labels'),
    ('mirrored.jpg', 'duplicate'), ('same.jpg', 'duplicate'),
  }  # fmt: skip
  excluded = {row['filename'] for row in rows if row['exclude'] == 'yes'}
  assert excluded == {
    f'train/{name}.jpg' for name in (
      'a/02', 'a/04', 'b/contradicts', 'a/mirrored', 'a/same', 'a/blank', 'a/unreadable'
    )
  }  # fmt: skip
  by_name = {(row['filename'], row['problem']): row for row in rows}
  leak = by_name['train/a/02.jpg', 'leak']
  assert (leak['other'], leak['other_split'], leak['split']) == (
    'val/a/leak.jpg', 'validation', 'train'
  )  # fmt: skip
  assert float(leak['score']) > 0.95
  assert by_name['train/a/same.jpg', 'duplicate']['detail'] == 'the same file'
  assert by_name['train/a/mirrored.jpg', 'duplicate']['detail'].startswith('mirrored, ')
  assert 'num_images 42' in lines and 'excluded_images 7' in lines
  assert any('labels were not looked at' in line for line in lines)


def test_the_page_is_whole_and_escapes_names(diagnosis, photos):
  folder, _ = diagnosis
  page = (folder / 'doctor.html').read_text()
  assert sorted(path.name for path in folder.iterdir()) == ['doctor.html', 'problems.csv']
  assert 'src="data:image/jpeg;base64,' in page and 'http' not in page.replace('http-equiv', '')
  for section in ('leak', 'contradicting_labels', 'duplicate', 'unreadable', 'blur', 'classes'):
    assert f'id="{section}"' in page
  assert page.count('no image</div>') == 1  # that which cannot be read


def test_the_table_is_what_exclude_list_takes(diagnosis, photos, tmp_path):
  options = conversion.Options(exclude_list=str(diagnosis[0] / 'problems.csv'))
  result = image_folder.convert(str(photos), tmp_path / 'records', options)
  assert len(result.excluded) == 7 and not result.skipped
  done = zygote.run('doctor', f'--dataset_dir={tmp_path}/records', f'--output_dir={tmp_path}/again')
  assert done.returncode == 0, done.stderr
  rows = rows_of(tmp_path / 'again')
  assert {row['problem'] for row in rows} == {
    'blur', 'colour', 'aspect', 'size', 'exposure', 'cut'
  }  # fmt: skip


@pytest.fixture(scope='module')
def colours(tmp_path_factory):
  """Records whose labels are colours, but for four of 90, and an untrained net that tells them."""
  folder = tmp_path_factory.mktemp('colours')
  wrong = (7, 31, 50, 74)

  def image_of(label, number):
    return records.image(label + (number in wrong), number)

  records.write_set(folder / 'data', count=75, image_of=image_of)
  records.write_set(
    folder / 'data', count=15, split='validation', image_of=lambda _, i: records.image(i, i + 1000)
  )
  tiny.random_net(3, seed=2).save(folder / 'run' / 'model.ckpt-1')
  config = {'model_name': tiny.NAME, 'preprocessing_name': 'inception', 'run': {'image_size': 32}}
  (folder / 'run' / 'config.json').write_text(json.dumps(config))
  return folder, wrong


def test_wrong_labels_are_told_with_a_net(colours, tmp_path):
  folder, wrong = colours
  done = zygote.run(
    'doctor',
    f'--dataset_dir={folder}/data',
    f'--checkpoint_path={folder}/run/model.ckpt-1',
    f'--output_dir={tmp_path}',
  )
  assert done.returncode == 0, done.stderr
  rows = [row for row in rows_of(tmp_path) if row['problem'] == 'wrong_label']
  assert {row['filename'] for row in rows} == {f'{number}.jpg' for number in wrong}
  for row in rows:
    number = int(row['filename'].partition('.')[0])
    assert (row['label'], row['suggested_label']) == (str(number % 3), str((number % 3 + 1) % 3))
    assert row['suggested_name'] == f'color {row["suggested_label"]}' and row['exclude'] == 'yes'
  assert 'the labels are estimated to be wrong' in done.stdout


def test_a_net_that_was_trained_on_the_images_is_told(colours, photos, tmp_path):
  """Also where training made records of the source."""
  folder, _ = colours
  shutil.copytree(folder / 'run', tmp_path / 'run')
  config = json.loads((tmp_path / 'run' / 'config.json').read_text())
  made = tmp_path / 'cache' / source_records.folder_name(photos)
  checkpoint = {'checkpoint_path': str(tmp_path / 'run' / 'model.ckpt-1'), 'output_dir': 'out'}
  for seen, flags in [
    (folder / 'data', {'dataset_dir': str(folder / 'data')}),
    (made, {'dataset_dir': str(photos)}),
    (made, {'source': str(photos)}),
  ]:
    text = json.dumps({**config, 'dataset_dir': f'elsewhere,{seen}'})
    (tmp_path / 'run' / 'config.json').write_text(text)
    assert resolve({**flags, **checkpoint}).has_seen == str(seen)
  assert not resolve({'source': str(folder), **checkpoint}).has_seen


def test_a_source_is_listed_as_a_conversion_takes_it(photos, tmp_path):
  images = listing.of_sets(str(photos), None, '', 'validation', tmp_path)
  assert images.splits == ['validation'] and len(images.images) == 9
  assert images.names == {0: 'a', 1: 'b'}
  assert listing._plan_of('image_folder') is image_folder.make_plan
  assert listing._plan_of('digits') is digits.make_plan
  assert listing._plan_of('') is formats.make_plan


def test_records_are_listed_without_their_images(colours):
  folder, _ = colours
  images = listing.of_records(str(folder / 'data')).images
  assert [image.split for image in images] == ['train'] * 75 + ['validation'] * 15
  assert sorted(image.filename for image in images[:75]) == sorted(f'{i}.jpg' for i in range(75))
  for image in images[:3]:
    number = int(image.filename.partition('.')[0])
    assert image.labels == (number % 3,)
    wrong = number in colours[1]
    assert image.source.read() == records.image(number % 3 + wrong, number)


def test_several_sets_are_one_with_a_table_each(photos, tmp_path):
  """As training takes them: records and a source, with equal names of images."""
  other = tmp_path / 'other'
  numbers = {'train/a/00': 200, 'train/a/copy': 10, 'train/b/leak': 29}
  numbers |= {'val/a/01': 201, 'val/b/02': 202}
  for name, number in numbers.items():
    path = other / f'{name}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    image(number).save(path, quality=40)
  formats.convert(str(other), tmp_path / 'records', conversion.Options())
  sets = photos, tmp_path / 'records'
  done = zygote.run(
    'doctor', f'--dataset_dir={photos},{tmp_path}/records', f'--output_dir={tmp_path}/out'
  )
  assert done.returncode == 0, done.stderr
  assert 'num_images 47' in done.stdout
  names = ['doctor.html', 'problems_1.csv', 'problems_2.csv']
  assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == names
  first, second = (rows_of(tmp_path / 'out', name) for name in names[1:])
  assert {(row['filename'], row['problem'], row['other'], row['exclude']) for row in second} == {
    ('train/a/copy.jpg', 'duplicate', f'{photos}: train/a/10.jpg', 'yes'),
    ('train/b/leak.jpg', 'leak', f'{photos}: val/b/29.jpg', 'yes'),
  }
  assert ('29.jpg', 'leak') in problems_of(first) and '00.jpg' not in str(first)
  assert ('02.jpg', 'leak') in problems_of(first)
  page = (tmp_path / 'out' / 'doctor.html').read_text()
  for name, place in zip(names[1:], sets, strict=True):
    assert f'{name} has all of {place}.' in page
  assert f'{tmp_path}/records: train/a/copy.jpg' in page


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    ({}, 'one of --dataset_dir .* and --source .* must be given'),
    ({'dataset_dir': 'a', 'source': 'b'}, 'one of --dataset_dir .* and --source'),
    ({'source': 'b', 'model_name': 'inception_v3'}, '--model_name needs --checkpoint_path'),
    ({'source': 'b', 'end_point': 'Mixed_5b'}, '--end_point needs --checkpoint_path'),
    ({'source': 'b', 'duplicate_similarity': '2'}, '--duplicate_similarity=2: must be'),
  ],
)
def test_refused(flags, message):
  with pytest.raises(ValueError, match=message):
    resolve({'output_dir': 'out', **flags})


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--dataset_dir={}/none'], '{}/none is neither a folder of records nor a source of images'),
    (['--dataset_dir={}/photos,{}/photos/.'], '{}/photos and {}/photos/. are one set'),
    (
      ['--dataset_dir={}/photos,{}/broken'],
      "cannot be looked at together: label 0 is 'a' in the first and 'c' in the second",
    ),
    (['--source={}/none'], 'source {}/none does not exist'),
    (['--source={}/photos', '--dataset_split_name=test'], '{}/photos has no split'),
    (['--source={}/broken'], 'none of the 2 images can be read: not an image in any known format'),
  ],
)
def test_bad_input_is_one_line(photos, tmp_path, arguments, message):
  (tmp_path / 'photos').symlink_to(photos)
  for name in ('c', 'd'):
    (tmp_path / 'broken' / name).mkdir(parents=True)
    (tmp_path / 'broken' / name / '1.jpg').write_bytes(b'no image ' + name.encode())
  arguments = [argument.replace('{}', str(tmp_path)) for argument in arguments]
  done = zygote.run('doctor', *arguments, f'--output_dir={tmp_path}/out')
  assert done.returncode == 1
  assert message.replace('{}', str(tmp_path)) in done.stderr.splitlines()[-1]
  assert not (tmp_path / 'out').exists()
