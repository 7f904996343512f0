"""Progress: lines in a log, a bar on a terminal, silence where nobody asked."""

import contextlib
import os
import pty
import sys
import time

import pytest
from absl import logging
from slim_inception.datasets import progress_bar
from slim_inception.datasets.progress_bar import ProgressBar, digits, duration, waiting


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0.4, '0 s'),
    (59.6, '1 min 0 s'),
    (185, '3 min 5 s'),
    (7800, '2 h 10 min'),
    (86400 * 4 + 3 * 3600, '4 d 3 h'),
  ],
)
def test_duration(seconds, text):
  assert duration(seconds) == text


@pytest.mark.parametrize(
  ('value', 'text'),
  [(184.97, '185.0'), (3.4, '3.40'), (0.001234, '0.00123'), (5812.3, '5812.3'), (0.0, '0.0')],
)
def test_digits_of_a_rate(value, text):
  assert digits(value) == text


def messages_of(caplog, seconds=5.0):
  """What is said while this thread does nothing."""
  end = time.monotonic() + seconds
  while time.monotonic() < end and len(caplog.messages) < 2:
    time.sleep(0.01)
  return caplog.messages


def test_lines_come_by_time_also_while_nothing_moves(caplog):
  with caplog.at_level('INFO', 'absl'), ProgressBar('Evaluating', 8, 'views', 0.05) as bar:
    assert messages_of(caplog)[0] == 'Evaluating: 0/8 views  0 s so far'
    bar.update(2)
    bar._first -= 2  # seconds ago
    bar.update(2)
    caplog.clear()
    line = messages_of(caplog)[0]
  done, rate, left = line.split('  ')[1:]
  assert line.startswith('Evaluating: 4/8 views  ')
  assert done == '50.0%'
  assert 0.5 < float(rate.removesuffix(' views/s')) <= 1.0
  assert left in ('4 s left', '5 s left', '6 s left')


def test_without_a_total_there_is_no_time_left(caplog):
  with caplog.at_level('INFO', 'absl'), ProgressBar('Reading', None, 'images', 0.05) as bar:
    for _ in bar.track(range(3)):
      pass
    assert messages_of(caplog)[0].startswith('Reading: 3 images  ')
    assert 'left' not in caplog.text and '%' not in caplog.text


def test_who_did_not_ask_hears_nothing(caplog, capfd):
  with ProgressBar('Evaluating', 8, 'views', 0.01) as bar, waiting('Tracing', 0.01):
    bar.update()
    time.sleep(0.1)
  assert not caplog.messages
  assert capfd.readouterr() == ('', '')


def test_what_takes_long_is_said_again(caplog):
  with caplog.at_level('INFO', 'absl'), waiting('Tracing: the first step takes longer', 0.05):
    first, second = messages_of(caplog)[:2]
  assert (first, second) == ('Tracing: the first step takes longer', 'Tracing: 0 s so far')
  caplog.clear()
  with caplog.at_level('INFO', 'absl'), waiting('Looking', 0.05, at_once=False):
    assert messages_of(caplog)[0] == 'Looking: 0 s so far'


def test_a_terminal_has_a_bar_with_lines_above_it(monkeypatch, caplog):
  ours, theirs = pty.openpty()
  handler = logging.get_absl_handler().python_handler
  with os.fdopen(theirs, 'w', buffering=1) as terminal, caplog.at_level('INFO', 'absl'):
    monkeypatch.setattr(sys, 'stderr', terminal)
    monkeypatch.setattr(handler, 'stream', terminal)
    with ProgressBar('Evaluating', 4, 'views') as bar:
      bar.update(2)
      handler.stream.write('a line of the log\n')
      with progress_bar.hidden():
        print('a result', file=sys.stderr)
      bar.update(1)
    assert handler.stream is terminal
  shown = ''
  with contextlib.suppress(OSError):  # the other end is closed
    while True:
      shown += os.read(ours, 1 << 16).decode()
  os.close(ours)
  lines = [line.strip() for line in shown.replace('\r', '\n').splitlines()]
  assert 'a line of the log' in lines and 'a result' in lines  # on lines of their own
  last = [line for line in lines if line.startswith('Evaluating:')][-1]
  assert '3/3' in last and 'views/s' in last  # the fourth was left out
