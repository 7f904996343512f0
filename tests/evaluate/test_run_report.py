"""The page of a run, from the files that runs write, and from files made up."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from slim_inception.evaluate import page_plots, run_report
from slim_inception.evaluate.metrics import wilson_interval
from slim_inception.evaluate.page_plots import Line, Mark
from slim_inception.train import events, recovery, trainer
from tests import records
from tests.train import processes

# Plots


@pytest.mark.parametrize(
  ('low', 'high'), [(0, 1), (0, 0.0003), (2.31, 7.9), (0, 1234567), (-0.2, 0.1), (3, 3), (0, 0)]
)
def test_ticks_are_round_and_reach_from_end_to_end(low, high):
  ticks = page_plots.nice_ticks(low, high)
  assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
  assert 2 <= len(ticks) <= 8
  steps = np.diff(ticks)
  assert steps == pytest.approx(np.full(len(steps), steps[0]))
  assert round(10 ** (np.log10(steps[0]) % 1), 6) in (1, 2, 5, 10)


def numbers(points):
  return np.array([[float(v) for v in pair.split(',')] for pair in points.split()])


def test_a_curve_is_where_its_values_say():
  drawn = page_plots.plot('Loss', [Line('loss', [0, 1, 2], [4.0, 2.0, 3.0])], [Mark(1.0, 'here')])
  (line,) = drawn['lines']
  assert numbers(line['points']).tolist() == [[64, 12], [362, 112], [660, 62]]
  assert line['band'] == ''
  assert drawn['marks'] == [('362.0', 'here')]
  assert [text for _, text in drawn['y_ticks']] == ['0', '1', '2', '3', '4']


def test_many_points_become_means_with_a_band():
  y = np.where(np.arange(3000) % 2, 1.0, 3.0)
  drawn = page_plots.plot('Loss', [Line('loss', np.arange(3000.0), y)])
  (line,) = drawn['lines']
  points, band = numbers(line['points']), numbers(line['band'])
  assert len(points) == 300 and len(band) == 600
  assert points[:, 1] == pytest.approx(np.full(300, points[0, 1]))  # 2, everywhere
  assert band[:300, 1].min() > points[0, 1] > band[300:, 1].max()


def test_what_is_not_finite_is_left_out():
  drawn = page_plots.plot('x', [Line('a', [0, 1, 2], [1.0, float('inf'), 2.0]), Line('b', [], [])])
  assert [line['name'] for line in drawn['lines']] == ['a']
  assert len(numbers(drawn['lines'][0]['points'])) == 2
  assert page_plots.plot('x', [Line('a', [0.0], [float('nan')])]) is None


# Runs


class Balance(HTMLParser):
  """Complains of elements that are not closed in order."""

  empty = frozenset(['meta', 'link'])

  def __init__(self):
    super().__init__()
    self.open, self.text = [], []

  def handle_starttag(self, tag, attributes):
    if tag not in self.empty:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    pass  # of SVG

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text.append(data)


def text_of(path):
  page = Balance()
  page.feed(path.read_text('utf-8'))
  assert not page.open
  return re.sub(r'\s+', ' ', ' '.join(page.text))


def config(data, train_dir, **flags):
  return processes.config(train_dir, data, **{'optimizer': 'adam', 'learning_rate': 0.01, **flags})


def evaluate(prefix):
  return {'num_images': 12, 'top_1': 0.75, 'top_5': 1.0}


@pytest.fixture(scope='module')
def run(data, tmp_path_factory):
  """A run of six steps that was started twice, the second time with another rate."""
  data = records.write_set(data, count=12)
  train_dir = tmp_path_factory.mktemp('run') / 'a <b>'
  flags = {'eval_interval_epochs': 1}
  trainer.train(config(data, train_dir, max_number_of_steps=3, **flags), evaluate)
  trainer.train(config(data, train_dir, learning_rate=0.02, **flags), evaluate)
  return train_dir


@pytest.mark.integration
def test_the_page_says_what_the_files_say(run, tmp_path):
  run_report.write(run_report.read(str(run)), str(tmp_path / 'page.html'))
  text = text_of(tmp_path / 'page.html')
  assert 'inception_tiny: a <b>' in text and 'a <b>' not in (tmp_path / 'page.html').read_text()
  low, high = wilson_interval(9, 12)
  assert f'75.00% {100 * low:.2f} to {100 * high:.2f}% at epoch' in text
  assert 'Status finished' in text and 'step 6 of 6' in text
  for name in ('Loss', 'Accuracy', 'Learning rate', 'Images/s', 'Waiting for input'):
    assert name in text
  first, second = (e for e in events.read(str(run)) if e['event'] == 'start')
  assert f'{first["time"]}, at step 0' in text and f'{second["time"]}, at step 3' in text
  assert 'variables from fresh weights' in text
  assert f'variables from {run}/model.ckpt-3' in text
  assert f'restored {second["restored"]} variables' in text
  assert '--learning_rate from 0.01 to 0.02' in text
  assert 'The learning rate of step 4 is 0.02; by the schedule of before it would be 0.01' in text
  assert second['processor'] in text and second['devices'] in text
  assert 'of it waiting for input' in text and 'saving 2 checkpoint(s)' in text
  assert '2 evaluation(s)' in text
  assert '--optimizer rmsprop adam' in text and '--batch_size 32 4' in text
  assert '--train_dir' not in text
  # Nothing is loaded from elsewhere, and nothing can be.
  page = (tmp_path / 'page.html').read_text()
  assert "default-src 'none'" in page and '<script' not in page
  assert not re.search(r'(src|href)="(?!data:)', page)
  # Dots have the colour of their line: those of evaluations that of the second and third.
  dots = re.findall(r'class="dot (series-\d)".*?<title>(top-\d) of', page)
  assert dots == [('series-2', 'top-1')] * 2


@pytest.mark.integration
def test_losses_of_the_page_are_those_of_the_log(run):
  drawn = {plot['title']: plot for plot in run_report.plots(run_report.read(str(run))) if plot}
  losses = np.array([e['loss'] for e in processes.metrics(run) if 'loss' in e])
  heights = numbers(drawn['Loss']['lines'][0]['points'])[:, 1]
  assert len(heights) == 6
  assert np.corrcoef(heights, losses)[0, 1] == pytest.approx(-1, abs=1e-3)
  assert [name for _, name in drawn['Loss']['marks']] == ['started again at step 3']
  assert [len(line['dots']) for line in drawn['Accuracy']['lines']] == [0, 2]


@pytest.mark.integration
def test_events_of_a_run_that_goes_back_and_fails(data, tmp_path, monkeypatch):
  data = records.write_set(data, count=12)
  flags = {'on_nan': 'rollback', 'save_interval_steps': 2, 'max_number_of_steps': 8}
  problem, calls = recovery.Recovery.problem, []

  def bad_at_five(self, loss, state, is_to_be_saved):
    calls.append(loss)
    bad = len(calls) in (5, 8)
    return problem(self, float('nan') if bad else loss, state, is_to_be_saved)

  monkeypatch.setattr(recovery.Recovery, 'problem', bad_at_five)
  trainer.train(config(data, tmp_path / 'run', accumulate_steps=2, batch_size=2, **flags))
  run = run_report.read(str(tmp_path / 'run'))
  backs = [(e['step'], e['to']) for e in run.events if e['event'] == 'rollback']
  assert len(backs) == 2 and backs[0] == (5, 4)
  run_report.write(run, str(tmp_path / 'page.html'))
  text = text_of(tmp_path / 'page.html')
  assert 'Ways back' in text and 'batch 4 images a step, 1 replica(s) x 2 x 2 passes' in text
  monkeypatch.setattr(recovery.Recovery, 'problem', lambda *_: 'The loss is nan')
  with pytest.raises(recovery.DivergedError):
    trainer.train(config(data, tmp_path / 'lost', max_number_of_steps=2))
  begun, ended = events.read(str(tmp_path / 'lost'))
  assert (begun['event'], ended['event'], ended['status']) == ('start', 'end', 'failed')
  assert ended['reason'].startswith('DivergedError: The loss is nan at step 1')


def test_older_runs_and_empty_ones_have_a_page_too(tmp_path):
  folder = tmp_path / 'old'
  folder.mkdir()
  (folder / 'metrics.jsonl').write_text('{"step": 10, "epoch": 1.0, "loss": 2.5}\n')
  run_report.write(run_report.read(str(folder)), str(tmp_path / 'page.html'))
  text = text_of(tmp_path / 'page.html')
  assert 'Status unknown' in text and 'This run began before its starts were written down.' in text
  (folder / 'metrics.jsonl').write_text('')
  (folder / 'config.json').write_text(json.dumps({'recipe': 'paper', 'num_epochs': 3.0}))
  run_report.write(run_report.read(str(folder)), str(tmp_path / 'page.html'))
  text = text_of(tmp_path / 'page.html')
  assert 'Nothing has been logged yet.' in text and '--num_epochs 100.0 3.0' in text


def test_sizes_of_images_and_batch_norm(tmp_path):
  lines = [{'step': step, 'epoch': 0.5 * step, 'loss': 2.0} for step in range(1, 5)]
  (tmp_path / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  config = {
    'recipe': 'slim', 'image_size_schedule': [[0.0, 96, 0], [1.5, 160, 16], [3.0, 224, 16]],
    'image_size_ramp': 32, 'eval_image_size': 256, 'batch_norm_batches': 20,
    'run': {'image_size': 224},
  }  # fmt: skip
  (tmp_path / 'config.json').write_text(json.dumps(config))
  run = run_report.read(str(tmp_path))
  names = [name for _, name in run_report.plots(run)[0]['marks']]
  assert names == ['images of 160 x 160 pixels from epoch 1.5']  # epoch 3 has not begun
  run_report.write(run, str(tmp_path / 'page.html'))
  text = text_of(tmp_path / 'page.html')
  sizes = (
    '96 from epoch 0, 160 from epoch 1.5, 224 from epoch 3, in stairs of 32; 256 in evaluation'
  )
  assert f'image size {sizes}' in text
  assert 'batch norm averages estimated anew on 20 batches before evaluations' in text
  assert '--image_size_schedule not set 0.0:96:0,1.5:160:16,3.0:224:16' in text


def test_what_was_skipped(tmp_path):
  """Images of all starts, each of which counts its own; updates are counted in checkpoints."""
  counts = [(0, 0), (2, 1), (0, 1), (1, 4), (1, 4)]
  lines = [
    {'step': i, 'epoch': 0.1 * i, 'loss': 1.0, 'skipped_images': images, 'overflow_steps': updates}
    for i, (images, updates) in enumerate(counts, start=1)
  ]
  path = tmp_path / 'metrics.jsonl'
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  figures = {name: value for name, value, _ in run_report.headline(run_report.read(str(tmp_path)))}
  assert (figures['Skipped images'], figures['Skipped updates']) == ('3', '4')
  path.write_text(json.dumps(lines[0]) + '\n')
  names = [name for name, *_ in run_report.headline(run_report.read(str(tmp_path)))]
  assert not {'Skipped images', 'Skipped updates'} & set(names)


@pytest.mark.integration
def test_the_command_needs_no_tensorflow(run, tmp_path):
  copy = tmp_path / 'run'
  shutil.copytree(run, copy)
  code = (
    'import sys; from slim_inception import cli\n'
    f'try: cli.main(["report", {str(copy)!r}])\n'
    'finally: assert "tensorflow" not in sys.modules'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert done.stdout == f'written to {copy}/report.html\n'
  assert 'Status finished' in text_of(copy / 'report.html')
