"""The report page: what is in it, as an HTML parser reads it."""

import base64
import hashlib
import html.parser
import io
import re
import shutil
import subprocess
from importlib import resources
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from slim_inception.datasets import imagenet, shards
from slim_inception.datasets import records as record_format

from slim_inception.evaluate import image_grid, metrics, report
from slim_inception.evaluate.metrics import Predictions
from tests import records

HOSTILE = '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
NAMES = {0: HOSTILE, 1: '"quoted" & \'single\'', 2: 'Äpfel', 3: 'never', 10: 'ten\0'}
FILE = '"><svg onload=window.hacked=1>.jpg'


def predictions(count: int, num_classes: int, wrong: float, seed: int = 0) -> Predictions:
  """Random answers, the wrong ones among the next three labels; label 3 has no image."""
  rng = np.random.default_rng(seed)
  true = rng.choice(np.setdiff1d(np.arange(num_classes), [3]), count)
  guess = np.where(rng.random(count) < wrong, true + rng.integers(1, 4, count), true)
  top = (guess[:, None] + np.arange(5)) % num_classes
  probabilities = -np.sort(-rng.dirichlet(np.ones(5), count), axis=1)
  filenames = [f'{FILE}{i}' if i % 2 else '' for i in range(count)]
  return Predictions(
    np.arange(count) * 2,
    filenames,
    true[:, None].astype(np.int32),
    top.astype(np.int32),
    probabilities.astype(np.float32),
  )


def image() -> bytes:
  file = io.BytesIO()
  Image.new('RGB', (40, 20), 'teal').save(file, 'PNG')
  return file.getvalue()


def write(path, given: Predictions, num_classes: int, names, thumbnails, **more) -> str:
  figures = metrics.summary(given, num_classes, names) | more
  report.write_report(path, figures, given, num_classes, names, thumbnails, f'Title {HOSTILE}')
  return path.read_text('utf-8')


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A page of twelve classes with hostile names, and what it is of."""
  given = predictions(500, 12, wrong=0.3)
  worst = report.worst_mistakes(given, 6)
  thumbnails = {record_index: image() for record_index in worst[:5]} | {worst[5]: b''}
  path = tmp_path_factory.mktemp('report') / 'report.html'
  members = [{'model_name': 'inception_v3', 'checkpoint': 'a'}, {'model_name': HOSTILE}]
  write(path, given, 12, NAMES, thumbnails, checkpoint=HOSTILE, members=members, excluded=1762)
  return path, given


@pytest.fixture(scope='module')
def large(tmp_path_factory):
  """A page of 50,000 images of ImageNet's classes, one of which is called something else."""
  given = predictions(50_000, imagenet.NUM_CLASSES, wrong=0.2)
  path = tmp_path_factory.mktemp('report') / 'report.html'
  names = dict(enumerate(imagenet.labels())) | {7: f'<!--<script {HOSTILE}'}
  write(path, given, imagenet.NUM_CLASSES, names, {})
  return path, given


_VOID = ('br', 'img', 'input', 'link', 'meta')


class _Parser(html.parser.HTMLParser):
  """Builds a tree of elements; a tag that is not closed as it should be is an error."""

  def __init__(self):
    super().__init__()
    self.builder = ElementTree.TreeBuilder()
    self.open = []

  def handle_starttag(self, tag, attributes):
    self.builder.start(tag, {name: value or '' for name, value in attributes})
    self.open.append(tag)
    if tag in _VOID:
      self.handle_endtag(tag)

  def handle_startendtag(self, tag, attributes):
    self.handle_starttag(tag, attributes)
    if tag not in _VOID:
      self.handle_endtag(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag
    self.builder.end(tag)

  def handle_data(self, text):
    if self.open:
      self.builder.data(text)


def parse(text: str) -> ElementTree.Element:
  parser = _Parser()
  parser.feed(text)
  parser.close()
  return parser.builder.close()


def texts(page: ElementTree.Element, path: str) -> list[str]:
  return [''.join(element.itertext()).strip() for element in page.iterfind(path)]


def test_the_page_is_whole_in_itself_and_names_are_harmless(small):
  path, given = small
  text = path.read_text('utf-8')
  page = parse(text)
  tags = [element.tag for element in page.iter()]
  attributes = [pair for element in page.iter() for pair in element.items()]
  assert tags.count('script') == 1 and tags.count('img') == 5
  assert [name for name, _ in attributes if name.startswith('on')] == []
  addresses = {value for name, value in attributes if name in ('src', 'href')}
  sections = {f'#{section.get("id")}' for section in page.iter('section')}
  assert {address for address in addresses if not address.startswith('data:')} == sections
  assert '\0' not in text and 'url(' not in text and '@import' not in text
  (policy,) = (meta.get('content') for meta in page.iter('meta') if meta.get('http-equiv'))
  script = hashlib.sha256(page.find('.//script').text.encode()).digest()
  assert policy == (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{base64.b64encode(script).decode()}'"
  )
  assert texts(page, './/h1') == [f'Title {HOSTILE}']
  assert 'cannot be shown' in text and 'excluded' in texts(page, './/dt')
  table = metrics.per_class(given, 12)
  rows = [texts(row, '*') for row in page.iterfind(".//*[@id='classes-table']/tbody/tr")]
  assert len(rows) == 12 and rows[0][:3] == ['0', HOSTILE, str(table.count[0])]
  assert rows[10][1] == r'ten\x00' and rows[3][6] == '–'  # without images there is no recall


def test_the_matrix_of_few_classes_is_whole(small):
  path, given = small
  page = parse(path.read_text('utf-8'))
  cells = [texts(row, 'td')[:-1] for row in page.iterfind(".//*[@class='matrix']/tbody/tr")][:-1]
  matrix = np.zeros((12, 12), int)
  np.add.at(matrix, (given.true, given.top[:, 0]), 1)
  np.testing.assert_array_equal(np.array(cells, int), matrix)
  np.fill_diagonal(matrix, 0)
  names = [texts(row, 'th') for row in page.iterfind(".//*[@id='classes-table']/tbody/tr")]
  most = [texts(row, 'td')[-1] for row in page.iterfind(".//*[@id='classes-table']/tbody/tr")]
  for counts, shown in zip(matrix, most, strict=True):
    assert shown == (f'{names[counts.argmax()][0]} ({counts.max()})' if counts.any() else '')


def test_a_thousand_classes_are_an_image_and_a_table(large):
  path, given = large
  assert path.stat().st_size < 1_000_000
  page = parse(path.read_text('utf-8'))
  assert page.find(".//*[@class='matrix']") is None
  (image,) = page.iter('img')
  with Image.open(io.BytesIO(base64.b64decode(image.get('src').partition(',')[2]))) as overview:
    alpha = np.asarray(overview)[..., 3]
  used = np.union1d(given.true, given.top[:, 0])
  wrong = given.true != given.top[:, 0]
  blocks = np.searchsorted(used, [given.true[wrong], given.top[wrong, 0]]) // 5
  expected = np.zeros((201, 201), int)
  np.add.at(expected, tuple(blocks), 1)
  np.testing.assert_array_equal(alpha > 0, expected > 0)
  assert alpha[expected == expected.max()].min() == 255
  pairs = metrics.confusion(given, imagenet.NUM_CLASSES)
  most = pairs.count[pairs.true != pairs.predicted].max()
  first = texts(page.find(".//*[@id='pairs-table']/tbody/tr"), 'td')
  assert first[2] == str(most)


def test_structure_that_screen_readers_need(small):
  page = parse(small[0].read_text('utf-8'))
  levels = [int(element.tag[1]) for element in page.iter() if re.fullmatch('h[1-6]', element.tag)]
  assert levels.count(1) == 1 and (np.diff(levels) <= 1).all()
  ids = [element.get('id') for element in page.iter() if element.get('id')]
  assert len(set(ids)) == len(ids)
  for element in page.iter():
    label = element.get('aria-labelledby')
    assert label is None or label in ids
    assert element.tag != 'img' or element.get('alt')
    assert element.tag != 'a' or element.get('href')[1:] in ids
  assert all(header.get('scope') for header in page.iter('th'))
  assert [label.get('for') for label in page.iter('label')] == ['filter']
  assert page.get('lang') == 'en'


def test_colors_can_be_told_from_what_is_behind_them():
  css = (resources.files(report.__package__) / 'report.css').read_text()
  light, dark = re.findall(r':root \{(.*?)\}', css, re.S)[:2]

  def luminance(color):
    shares = [int(color[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in shares]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))

  for scheme in (light, dark):
    colors = {name: luminance(c) for name, c in re.findall(r'--(\w+): #(\w{6})', scheme)}
    for name in ('text', 'quiet', 'link', 'miss'):
      for behind in ('page', 'panel'):
        low, high = sorted((colors[name], colors[behind]))
        assert (high + 0.05) / (low + 0.05) > 4.5  # WCAG 2, AA


def test_the_script_runs_in_a_browser(small, tmp_path):
  browser = shutil.which('chromium')
  if browser is None:
    pytest.skip('chromium, which runs the script, is not installed')
  options = ['--headless', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path}']
  command = [browser, *options, '--dump-dom', small[0].as_uri()]
  shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
  assert '12 of 12 classes' in shown and shown.count('<button type="button">') == 4 + 9


def test_mistakes_are_the_most_confident_ones():
  given = predictions(200, 12, wrong=0.5)
  given.probabilities[int(np.flatnonzero(~given.right)[0]), 0] = np.nan
  wrong = [
    (-probability, record_index)
    for record_index, probability, top, right in zip(
      given.record_indices, given.probabilities[:, 0], given.top, given.labels, strict=True
    )
    if top[0] != right[0] and np.isfinite(probability)
  ]
  assert report.worst_mistakes(given, 20) == [
    record_index for _, record_index in sorted(wrong)[:20]
  ]
  assert len(report.worst_mistakes(given, 1000)) == len(wrong) + 1


@pytest.mark.parametrize(('num_classes', 'is_shown'), [(5, False), (6, True)])
def test_top_5_is_shown_where_it_says_something(tmp_path, num_classes, is_shown):
  names = {label: f'class {label}' for label in range(num_classes)}
  text = write(tmp_path / 'r.html', predictions(50, num_classes, 0.3), num_classes, names, {})
  assert ('Top-5 accuracy' in text) == is_shown
  assert 'Top-1 accuracy' in text


def test_captions_have_the_first_synonym_before_they_are_cut():
  font = image_grid.ImageFont.load_default(size=13)

  def caption(name, width=112):
    text = image_grid.caption('true', name, font, width)
    assert font.getlength(text) <= width
    return text

  assert caption('cat') == 'true cat'
  assert caption('cat, tom') == 'true cat, tom'
  assert caption('junco, snowbird') == 'true junco'
  assert caption('a cat that sat on a mat') == 'true a cat that sat…'


def test_nothing_wrong_and_no_names(tmp_path):
  given = predictions(20, 12, wrong=0)
  text = write(tmp_path / 'report.html', given, 12, {}, {})
  assert 'No image was taken for another class' in text and 'There is none.' in text
  given.probabilities[:] = np.nan
  assert 'No probability is finite' in write(tmp_path / 'report.html', given, 12, {}, {})


# Thumbnails


def test_thumbnails_are_the_images_of_the_records(tmp_path):
  directory = records.write_set(tmp_path / 'data', count=11, num_shards=3, broken=(4,))
  paths = sorted(directory.glob('train-*'))
  order = [number for shard in range(3) for number in range(11)[shard::3]]
  record_indices = [0, order.index(4), 6, 10]
  made = report.make_thumbnails(paths[::-1], record_format.SLIM, record_indices, size=24)
  assert sorted(made) == sorted(record_indices) and made[order.index(4)] == b''
  for record_index in (0, 6, 10):
    number = order[record_index]
    got = Image.open(io.BytesIO(made[record_index]))
    assert (got.format, got.size) == ('JPEG', (24, 20))
    expected = Image.open(io.BytesIO(records.image(number % 3, number))).resize((24, 20))
    difference = np.asarray(got, int).mean((0, 1)) - np.asarray(expected, int).mean((0, 1))
    assert np.abs(difference).max() < 4
  with pytest.raises(ValueError, match='there is no record 11: the split has 11'):
    report.make_thumbnails(paths, record_format.SLIM, [3, 11])


def test_thumbnails_are_not_turned_and_show_16_bits(tmp_path):
  upright = Image.new('RGB', (40, 20), 'teal')
  exif = upright.getexif()
  exif[0x0112] = 6  # to be shown turned by 90 degrees
  turned, deep = io.BytesIO(), io.BytesIO()
  upright.save(turned, 'JPEG', exif=exif)
  Image.fromarray(np.full((20, 40), 100 * 256, np.uint16)).save(deep, 'PNG')
  path = tmp_path / 'train-00000-of-00001'
  shards.write_shard(
    path,
    [
      record_format.encode_example(file.getvalue(), label=0, image_format=kind, height=20, width=40)
      for file, kind in ((turned, 'JPEG'), (deep, 'PNG'))
    ],
  )
  made = report.make_thumbnails([path], record_format.SLIM, [0, 1])
  images = [Image.open(io.BytesIO(made[record_index])) for record_index in (0, 1)]
  assert [image.size for image in images] == [(40, 20)] * 2
  assert np.asarray(images[1]).mean() == pytest.approx(100, abs=2)


def test_the_curve_of_abstaining_is_that_of_the_predictions():
  given = predictions(500, 12, wrong=0.3)
  shown = report._abstaining(given)
  assert len(shown['rows']) == 50 and shown['rows'][-1]['coverage'] == 1
  for row in shown['rows']:
    kept = given.probabilities[:, 0] >= row['threshold']
    assert row['coverage'] == pytest.approx(kept.mean())
    assert row['risk'] == pytest.approx(1 - given.right[kept].mean())
  assert shown['most'] == max(row['risk'] for row in shown['rows'])


def test_the_curve_of_abstaining_is_drawn(small):
  text = small[0].read_text('utf-8')
  (points,) = re.findall('<polyline class="risk" points="([^"]+)"', text)
  assert len(points.split()) == 50
