"""Class folders in archives: the records are those of the same folders unpacked."""

import io
import tarfile
import zipfile

import pytest
from slim_inception.datasets import conversion, dataset_info, formats, trees

from tests.datasets.archives import tgz
from tests.datasets.odd_images import JPEG, commented, tree


def splits(root):
  tree(root / 'train', ('ant', 'bee'), count=4)
  tree(root / 'val', ('ant', 'bee'), count=2)
  return root


def contents(folder):
  """Path -> content of each file below a folder."""
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


def zip_of(path, members):
  path.parent.mkdir(parents=True, exist_ok=True)
  with zipfile.ZipFile(path, 'w') as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return path


def written(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
  return path


def below(folder, members):
  return {f'{folder}/{name}': content for name, content in members.items()}


def class_tars(root, members):
  """train/ant.tar, train/bee.tar, val/ant.tar, ...: files in them have no folder."""
  for folder in sorted({name.rpartition('/')[0] for name in members}):
    of_class = {
      name.rpartition('/')[2]: content
      for name, content in members.items()
      if name.startswith(f'{folder}/')
    }
    written(root / f'{folder}.tar', tgz(of_class, ''))
  return root


LAYOUTS = {
  'zip': lambda root, members: zip_of(root / 'photos.zip', members),
  'zip with one folder': lambda root, members: zip_of(root / 'p.zip', below('photos', members)),
  'tar': lambda root, members: written(root / 'photos.tar', tgz(members, '')),
  'tar.gz': lambda root, members: written(root / 'photos.tar.gz', tgz(members, 'gz')),
  'tar.xz': lambda root, members: written(root / 'photos.tar.xz', tgz(members, 'xz')),
  'tar with ./': lambda root, members: written(root / 'photos.tar', tgz(below('.', members), '')),
  'class tars': class_tars,
  'tar of class tars': lambda root, members: written(
    root / 'all.tar', tgz(contents(class_tars(root / 'of', members)), '')
  ),
  'tar.gz of class tars': lambda root, members: written(
    root / 'all.tar.gz', tgz(contents(class_tars(root / 'of', members)), 'gz')
  ),
  'a folder of archives': lambda root, members: [
    zip_of(root / f'{split}.zip', {n: c for n, c in members.items() if n.startswith(f'{split}/')})
    for split in ('train', 'val')
  ] and root,
}  # fmt: skip


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
  root = tmp_path_factory.mktemp('folders')
  formats.convert(str(splits(root / 'photos')), root / 'out')
  return contents(root / 'photos'), dataset_info.read_info(root / 'out')


@pytest.mark.parametrize('name', LAYOUTS)
def test_archives_give_the_records_of_folders(tmp_path, expected, name):
  members, info = expected
  (tmp_path / 'source').mkdir()
  source = LAYOUTS[name](tmp_path / 'source', members)
  formats.convert(str(source), tmp_path / 'out')
  read = dataset_info.read_info(tmp_path / 'out')
  assert {split: of_split.label_counts for split, of_split in read.splits.items()} == {
    split: of_split.label_counts for split, of_split in info.splits.items()
  }
  if name not in ('a folder of archives', 'zip with one folder'):  # names have a folder more
    assert read == info  # checksums of the shards among it
  assert not (tmp_path / 'out' / '.conversion').exists()


def test_several_archives(tmp_path, expected):
  members, _ = expected
  for split in ('train', 'val'):
    of_split = {n.removeprefix(f'{split}/'): c for n, c in members.items() if n.startswith(split)}
    zip_of(tmp_path / f'{split}.zip', of_split)
  info = formats.convert(f'{tmp_path}/train.zip,{tmp_path}/val.zip', tmp_path / 'out').info
  assert {split: of_split.num_images for split, of_split in info.splits.items()} == {
    'train': 8, 'validation': 4,
  }  # fmt: skip


def test_winter21(tmp_path):
  """ImageNet-21k: a tar of nXXXXXXXX.tar, with a list of labels of its own."""
  wnids = ('n02084071', 'n00005787', 'n13133613')
  members = {
    f'winter21_whole/{wnid}.tar': tgz(
      {f'{wnid}_{i}.JPEG': commented(f'{wnid}{i}') for i in range(3)}, ''
    )
    for wnid in wnids
  }
  path = written(tmp_path / 'winter21_whole.tar.gz', tgz(members, 'gz'))
  plan = formats.make_plan(str(path), conversion.Options(split='train'), tmp_path / 'work')
  first = 'winter21_whole/n02084071.tar/n02084071_0.JPEG'
  assert plan.recognized == (
    f'{path} is recognized as image_folder: winter21_whole.tar.gz is an archive with the image '
    f'{first} in it'
  )
  assert plan.labels == tuple(sorted(wnids)) and plan.label_offset == 0
  assert 'labels are 0 to 2 in the order of the synsets, without a background' in plan.notes
  assert len(plan.splits['train']) == 9
  item = plan.splits['train'][0]
  assert item.source.read() == commented(item.filename.split('/')[-1][:-5].replace('_', ''))


def bad_tar(path):
  with tarfile.open(path, 'w') as tar:
    for name in (
      'a/1.jpg',
      'a/2.jpg',
      'b/1.jpg',
      'b/2.jpg',
      '../../b/3.jpg',
      '/b/4.jpg',
      'a/1.jpg',
    ):
      info = tarfile.TarInfo(name)
      info.size = len(JPEG)
      tar.addfile(info, io.BytesIO(JPEG))
    for name, kind in (('a/soft.jpg', tarfile.SYMTYPE), ('b/hard.jpg', tarfile.LNKTYPE)):
      info = tarfile.TarInfo(name)
      info.type, info.linkname = kind, '/etc/passwd'
      tar.addfile(info)


def test_links_and_paths_that_lead_outside_are_listed(tmp_path):
  bad_tar(tmp_path / 'photos.tar')
  options = conversion.Options(validation_fraction=0)
  result = formats.convert(str(tmp_path / 'photos.tar'), tmp_path / 'out', options)
  assert {entry['file']: entry['reason'] for entry in result.skipped} == {
    '../../b/3.jpg': 'its path leads out of its archive',
    '/b/4.jpg': 'its path leads out of its archive',
    'a/1.jpg': 'there is another of this name, which is taken',
    'a/soft.jpg': 'a link within its tar',
    'b/hard.jpg': 'a link within its tar',
  }
  assert result.info.splits['train'].label_counts == (2, 2)
  strict = conversion.Options(skip_bad=False)
  with pytest.raises(ValueError, match=r'3.jpg: its path leads out of its archive \(--on_bad'):
    formats.convert(str(tmp_path / 'photos.tar'), tmp_path / 'strict', strict)


@pytest.mark.parametrize('suffix', ['.tar', '.tar.gz'])
def test_an_archive_that_is_cut_short_is_listed(tmp_path, expected, suffix):
  members, _ = expected
  path = LAYOUTS[suffix[1:]](tmp_path, members)
  size = path.stat().st_size
  with open(path, 'r+b') as file:
    file.truncate(size - 12 if suffix == '.tar.gz' else 9 * 1024 + 100)
  result = formats.convert(str(path), tmp_path / 'out', conversion.Options(split='train'))
  (entry,) = result.skipped
  assert entry['file'] == str(path)
  assert 'cut short or damaged' in entry['reason']
  assert 4 < result.info.splits['train'].num_images <= 8


def test_a_zip_without_its_end_is_refused(tmp_path, expected):
  members, _ = expected
  path = zip_of(tmp_path / 'photos.zip', members)
  path.write_bytes(path.read_bytes()[:-400])
  (each,) = (each for each in formats.FORMATS if each.name == 'image_folder')
  with pytest.raises(ValueError, match='photos.zip is no zip, cut short or damaged'):
    each.convert(str(path), tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_the_tree_of_a_folder_is_that_of_its_archive(tmp_path, expected):
  """Whatever is asked of it."""
  members, _ = expected
  root = splits(tmp_path / 'photos')
  packed = trees.Archives([zip_of(tmp_path / 'photos.zip', members)], tmp_path)
  for folder in ('.', 'train', 'train/ant', 'val'):
    own, other = root / folder, packed.root / folder
    assert sorted(trees.DISK.names(own)) == sorted(packed.names(other))
    names = [path.name for path in trees.DISK.subfolders(own)]
    assert names == [path.name for path in packed.subfolders(other)]
    walked = [entry.path for entry in trees.DISK.walk(own, 'x/', [], ())]
    assert walked == [entry.path for entry in packed.walk(other, 'x/', [], ())]


def test_names_in_zips_of_other_systems(tmp_path):
  """Backslashes of Windows, and code page 437 where a name is no UTF-8."""
  path = tmp_path / 'a.zip'
  with zipfile.ZipFile(path, 'w') as archive:
    for name in ('cafX?0.jpg', 'cafX?1.jpg', 'cafY?0.jpg', 'cafY?1.jpg'):
      entry = zipfile.ZipInfo(name)
      entry.create_system = 0
      archive.writestr(entry, commented(name))
  content = path.read_bytes().replace(b'?', b'\\')
  path.write_bytes(content.replace(b'cafX', b'caf\x82').replace(b'cafY', b'caf\x8a'))
  plan = formats.make_plan(str(path), conversion.Options(), tmp_path / 'work')
  assert plan.labels == ('cafè', 'café')


def test_suffixes_in_capitals(tmp_path):
  members = {f'{name}/{i}.JPG': commented(f'{name}{i}') for name in ('a', 'b') for i in range(2)}
  path = zip_of(tmp_path / 'PHOTOS.ZIP', members)
  assert formats.make_plan(str(path), conversion.Options(), tmp_path / 'work').labels == ('a', 'b')
  for name in ('A', 'B'):
    zip_of(tmp_path / 'classes' / f'{name}.ZIP', {f'{i}.JPG': JPEG for i in range(2)})
  plan = formats.make_plan(str(tmp_path / 'classes'), conversion.Options(), tmp_path / 'work')
  assert plan.labels == ('A', 'B')
