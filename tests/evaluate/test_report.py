"""The report page: what is in it, and what a browser makes of it."""

import html.parser
import io
import json
import re
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image
from slim_inception.datasets import imagenet, shards
from slim_inception.datasets import records as record_format

from slim_inception.evaluate import metrics, report
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
  thumbnails = {place: image() for place in worst[:5]} | {worst[5]: b''}
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


class Page(html.parser.HTMLParser):
  """Collects what could run or be fetched."""

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.addresses, self.handlers = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.addresses += [value for name, value in attributes if name in ('src', 'href')]
    self.handlers += [name for name, _ in attributes if name.startswith('on')]


def test_the_page_is_whole_in_itself_and_names_are_harmless(small):
  path, _ = small
  text = path.read_text('utf-8')
  page = Page(text)
  assert page.tags.count('script') == 2 and page.tags.count('img') == 5
  assert page.handlers == []
  assert {address[:5] for address in page.addresses} <= {
    'data:', '#figu', '#conf', '#cali', '#mist', '#clas',
  }  # fmt: skip
  assert '\0' not in text and 'url(' not in text
  assert 'cannot be shown' in text and '1762' in text.replace(',', '')


def test_mistakes_are_the_most_confident_ones():
  given = predictions(200, 12, wrong=0.5)
  given.probabilities[int(np.flatnonzero(~given.right)[0]), 0] = np.nan
  wrong = [
    (-probability, place)
    for place, probability, top, right in zip(
      given.places, given.probabilities[:, 0], given.top, given.answers, strict=True
    )
    if top[0] != right[0] and np.isfinite(probability)
  ]
  assert report.worst_mistakes(given, 20) == [place for _, place in sorted(wrong)[:20]]
  assert len(report.worst_mistakes(given, 1000)) == len(wrong) + 1


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
  places = [0, order.index(4), 6, 10]
  made = report.make_thumbnails(paths[::-1], record_format.SLIM, places, size=24)
  assert sorted(made) == sorted(places) and made[order.index(4)] == b''
  for place in (0, 6, 10):
    number = order[place]
    got = Image.open(io.BytesIO(made[place]))
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
  assert [Image.open(io.BytesIO(made[place])).size for place in (0, 1)] == [(40, 20)] * 2
  assert np.asarray(Image.open(io.BytesIO(made[1]))).mean() == pytest.approx(100, abs=2)


# In a browser

_OPTIONS = (
  '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run '
  '--disable-background-networking --disable-component-update --disable-sync'
)


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
  missing = [name for name in ('chromium', 'chromedriver') if shutil.which(name) is None]
  if missing:
    pytest.skip(f'no {" and no ".join(missing)}: apt-get install chromium chromium-driver')
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    webdriver = pytest.importorskip('selenium.webdriver')
    from selenium.webdriver.chrome.service import Service
  options = webdriver.ChromeOptions()
  options.binary_location = shutil.which('chromium')
  profile = tmp_path_factory.mktemp('chromium')
  for option in (*_OPTIONS.split(), f'--user-data-dir={profile}', '--window-size=1200,900'):
    options.add_argument(option)
  options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
  driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
  yield driver
  driver.quit()


def show(browser, path, scheme='light', width=1200):
  """Opens the page, with logs emptied before."""
  browser.get_log('browser')
  browser.get_log('performance')
  features = [{'name': 'prefers-color-scheme', 'value': scheme}]
  browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': features})
  size = {'width': width, 'height': 900, 'deviceScaleFactor': 1, 'mobile': False}
  browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
  browser.get(path.as_uri())


def texts(browser, selector: str) -> list[str]:
  script = 'return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)'
  return browser.execute_script(script, selector)


def check_quiet(browser) -> None:
  """No errors, and nothing fetched but the page itself and what is in it."""
  assert browser.get_log('browser') == []
  events = [json.loads(entry['message'])['message'] for entry in browser.get_log('performance')]
  fetched = [
    event['params']['request']['url']
    for event in events
    if event['method'] == 'Network.requestWillBeSent'
    and event['params']['documentURL'].startswith('file:')  # not the browser's own first page
  ]
  assert fetched and all(re.match('(file|data):', url) for url in fetched)


def test_names_stay_text_in_a_browser(browser, small):
  path, given = small
  show(browser, path)
  assert browser.execute_script('return window.hacked') is None
  assert texts(browser, 'h1') == [f'Title {HOSTILE}']
  table = metrics.per_class(given, 12)
  rows = texts(browser, '#classes-table tbody tr')
  assert len(rows) == 12 and rows[0].startswith(f'0{HOSTILE}{table.count[0]}')
  check_quiet(browser)
  # Even a script that got in would not run, and could ask nobody.
  browser.execute_script(
    "const s = document.createElement('script'); s.textContent = 'window.hacked = 2';"
    'document.body.append(s)'
  )
  assert browser.execute_script('return window.hacked') is None
  refused = browser.execute_async_script(
    'const done = arguments[0];'
    "addEventListener('securitypolicyviolation', (e) => done(e.effectiveDirective));"
    "fetch('http://127.0.0.1:9/').catch(() => setTimeout(() => done('no policy'), 500))"
  )
  assert refused == 'connect-src'


def test_the_matrix_of_few_classes_is_whole(browser, small):
  path, given = small
  show(browser, path)
  cells = texts(browser, '.matrix tbody td:not(.sum)')
  matrix = np.zeros((12, 12), int)
  np.add.at(matrix, (given.true, given.top[:, 0]), 1)
  np.testing.assert_array_equal(np.array(cells, int).reshape(12, 12), matrix)
  assert not browser.find_elements('css selector', '#overview')
  check_quiet(browser)


def test_classes_sort_and_filter_with_keys_alone(browser, small):
  from selenium.webdriver.common.keys import Keys

  path, given = small
  show(browser, path)
  table = metrics.per_class(given, 12)
  header = browser.find_element('xpath', '//*[@id="classes-table"]//th[button="Recall"]')
  button = header.find_element('tag name', 'button')
  for direction, sign in (('ascending', 1), ('descending', -1)):
    button.send_keys(Keys.ENTER if sign > 0 else Keys.SPACE)
    assert header.get_attribute('aria-sort') == direction
    labels = [int(text) for text in texts(browser, '#classes-table tbody td:first-child')]
    recall = table.recall[labels]
    assert labels[-1] == 3 and np.isnan(recall[-1])  # without images: last both ways
    assert (np.diff(sign * recall[:-1]) > -5e-4).all() and len(set(recall[:-1])) > 5
  by_name = browser.find_element('xpath', '//*[@id="classes-table"]//th/button[.="Name"]')
  by_name.send_keys(Keys.ENTER)
  assert header.get_attribute('aria-sort') is None
  assert texts(browser, '#classes-table tbody th')[-3:] == ['Äpfel', 'never', 'ten\ufffd']

  box = browser.find_element('id', 'filter')
  box.send_keys('APFEL')
  visible = '#classes-table tbody tr:not([hidden]) th'
  assert texts(browser, visible) == ['Äpfel']
  assert texts(browser, '#shown') == ['1 of 12 classes']
  box.clear()
  box.send_keys('no such')
  assert texts(browser, visible) == []
  check_quiet(browser)


def test_a_thousand_classes_are_an_overview_to_zoom_into(browser, large):
  path, given = large
  assert path.stat().st_size < 1_000_000
  show(browser, path)
  assert not browser.find_elements('css selector', '.matrix')
  canvas = browser.find_element('css selector', '#overview canvas')
  painted = (
    'const c = arguments[0];'
    'return new Set(c.getContext("2d").getImageData(0, 0, c.width, c.height).data).size'
  )
  assert browser.execute_script(painted, canvas) > 5
  canvas.send_keys('a')  # no key of its own
  assert texts(browser, '#overview output') == ['No block chosen.']
  wrong = given.true != given.top[:, 0]
  sides = np.searchsorted(used_labels(given), [given.true[wrong], given.top[wrong, 0]])

  def readout(key: str) -> str:
    canvas.send_keys(key)
    return texts(browser, '#overview output')[0]

  from selenium.webdriver.common.keys import Keys

  first = readout(Keys.ARROW_DOWN)
  in_block = (sides // 9 == 0).all(0)
  assert f'\n{np.count_nonzero(in_block)} mistakes' in first
  assert first.startswith('True: background (0) to ')
  for _ in range(8):
    closest = readout('+')
  assert closest.split('\n')[0].count('(') == 1  # a single class
  for _ in range(12):
    readout(Keys.ARROW_UP)
    readout(Keys.ARROW_LEFT)
  single = readout(Keys.ARROW_RIGHT)
  names = imagenet.labels()
  count = np.count_nonzero((given.true == 0) & (given.top[:, 0] == 1))
  assert single.split('\n')[:2] == [f'True: {names[0]} (0)', f'Predicted: {names[1]} (1)']
  assert single.split('\n')[2].startswith(f'{count} mistake')
  assert readout('0').startswith(f'True: {names[0]} (0) to ')
  top_pair = metrics.confusion(given, imagenet.NUM_CLASSES)
  most = top_pair.count[top_pair.true != top_pair.predicted].max()
  assert texts(browser, '#pairs-table tbody td.number')[0] == str(most)
  check_quiet(browser)


def used_labels(given: Predictions) -> np.ndarray:
  """The labels that have images or were predicted."""
  return np.union1d(given.true, given.top[:, 0])


# The smallest contrast of text with what is behind it, in the whole page.
_CONTRAST = """
const context = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const luminance = ([r, g, b]) => [r, g, b].map((x) => x / 255)
  .map((x) => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
  .reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
function painted(colors) {
  context.clearRect(0, 0, 1, 1);
  for (const color of colors) { context.fillStyle = color; context.fillRect(0, 0, 1, 1); }
  return luminance(context.getImageData(0, 0, 1, 1).data);
}
let worst = [Infinity, ''];
for (const element of document.querySelectorAll('body *:not(script)')) {
  const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join('');
  if (!text.trim() || !element.checkVisibility()) continue;
  const behind = [];
  for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
  const style = getComputedStyle(element);
  const color = element.closest('svg') ? style.fill : style.color;
  const [a, b] = [painted(behind), painted([...behind, color])].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < worst[0]) worst = [contrast, `${element.tagName} ${text}`];
}
return worst;
"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_text_can_be_read(browser, small, scheme):
  path, _ = small
  show(browser, path, scheme)
  contrast, where = browser.execute_script(_CONTRAST)
  assert 4.5 <= contrast < 21, where  # WCAG 2, level AA
  dark = browser.execute_script('return getComputedStyle(document.documentElement).backgroundColor')
  assert (dark == 'rgb(255, 255, 255)') == (scheme == 'light')


def test_a_narrow_window_scrolls_tables_and_not_the_page(browser, small, large):
  for path, _ in (small, large):
    show(browser, path, width=400)
    size = 'const e = document.documentElement; return [e.scrollWidth, e.clientWidth]'
    wide, window = browser.execute_script(size)
    assert wide <= window <= 400


def test_structure_that_screen_readers_need(browser, small):
  path, _ = small
  show(browser, path)
  problems = browser.execute_script("""
    const problems = [];
    const levels = [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1]);
    if (levels.filter((l) => l === 1).length !== 1) problems.push('h1');
    levels.forEach((l, i) => { if (i && l > levels[i - 1] + 1) problems.push('heading ' + i); });
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    if (new Set(ids).size !== ids.length) problems.push('ids');
    for (const e of document.querySelectorAll('[aria-labelledby], [aria-describedby], a[href]')) {
      const wanted = [e.getAttribute('aria-labelledby'), e.getAttribute('aria-describedby'),
        e.getAttribute('href')?.slice(1)].filter(Boolean);
      for (const id of wanted) if (!document.getElementById(id)) problems.push(id);
    }
    for (const i of document.images) if (!i.alt || !i.naturalWidth) problems.push('image');
    for (const i of document.querySelectorAll('input')) if (!i.labels[0]) problems.push('input');
    for (const t of document.querySelectorAll('thead th')) if (!t.scope) problems.push('th');
    if (document.documentElement.lang !== 'en') problems.push('lang');
    return problems;
  """)
  assert problems == []
