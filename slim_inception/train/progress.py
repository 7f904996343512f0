"""What a run says of itself: lines of progress, metrics.jsonl and TensorBoard."""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import tensorflow as tf
from absl import logging

from slim_inception import files
from slim_inception.constants import METRICS_FILE
from slim_inception.datasets.progress_bar import EVERY_SECS, digits, duration
from slim_inception.evaluate.metrics import accuracies, accuracy_text, reported
from slim_inception.train import events
from slim_inception.train.trackers import NoTracker, Tracker


class Progress:
  """Writes the numbers of a step to the log, to `metrics.jsonl` and to TensorBoard.

  `hours` are those of training, over all starts of a run: start-up, tracing and evaluation are not
  among them.

  Attributes:
    done: steps so far, which whoever takes them counts.

  Args:
    directory: of the run; None: nothing is written, by workers that are not the chief.
    step: where the run begins; what an interrupted run wrote beyond it is dropped.
    total_steps: where it ends, if it does.
    images: trained on when so many steps are done, see `Plan.images`.
    summary_secs: seconds until TensorBoard's file is brought up to date.
    num_classes: of which accuracies are shown.
    tracker: gets the figures too.
  """

  def __init__(
    self,
    directory: str | None,
    step: int,
    total_steps: int | None,
    images: Callable[[int], int],
    summary_secs: float,
    num_classes: int | None = None,
    tracker: Tracker | None = None,
  ):
    self._directory, self._tracker = directory, tracker or NoTracker()
    self._input_seconds = 0.0
    self._accuracies = accuracies(num_classes)
    self._total_steps = total_steps
    self._images = images
    self._flushed = 0.0
    self._shown = time.monotonic()
    if directory is None:
      self._path, self._summary_secs = os.devnull, math.inf
      self._writer = tf.summary.create_noop_writer()
    else:
      self._path, self._summary_secs = os.path.join(directory, METRICS_FILE), summary_secs
      self._writer = tf.summary.create_file_writer(directory)
    self.rewind(step)

  def start_clock(self, step: int) -> None:
    """Forgets the time until now: that of tracing the first step says nothing of the rest."""
    self._step, self._time = step, time.monotonic()
    self._input_seconds = 0.0

  @contextlib.contextmanager
  def waiting_for_input(self) -> Iterator[None]:
    """Counts the time of the block as time in which a step waits for its batch."""
    begin = time.monotonic()
    yield
    self._input_seconds += time.monotonic() - begin

  def rewind(self, step: int) -> None:
    """Forgets what came after a step at which the run goes on."""
    self.done = step
    self._hours = max(
      (entry.get('hours', 0.0) for entry in keep_until(self._path, step)), default=0.0
    )
    self.start_clock(step)

  def pause(self) -> float:
    """Ends the time of training until `start_clock`, or `log_evaluation`, which starts it.

    Returns:
      The seconds since the clock was last looked at.
    """
    now = time.monotonic()
    seconds, self._time = now - self._time, now
    self._hours += seconds / 3600
    return seconds

  def log_evaluation(self, step: int, epoch: float, metrics: Mapping[str, float]) -> None:
    """Reports an evaluation, the time of which since `pause` does not count as training."""
    values = {f'eval_{name}': value for name, value in metrics.items()}
    values['eval_seconds'] = round(time.monotonic() - self._time, 3)
    self._write({**self._entry(step, epoch), **values})
    self._tracker.scalars(step, values)
    logging.info(
      'evaluation at step %d: %s  (%d images)',
      step,
      accuracy_text(metrics, self._accuracies),
      metrics['num_images'],
    )
    with self._writer.as_default():
      for name in reported(metrics, self._accuracies):
        tf.summary.scalar(f'eval/{name}', metrics[name], step)
    self._writer.flush()
    self.start_clock(step)

  def log(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
    """Reports the values of a step, images/s since the last report among them."""
    seconds = self.pause()
    entry = {**self._entry(step, epoch), **values, **self._rate(step, seconds)}
    if 'images_per_second' in entry:
      entry['input_share'] = round(self._input_seconds / seconds, 4)
    self._step, self._input_seconds = step, 0.0
    # JSON has no infinity: the norm of gradients that overflowed float16.
    self._write({name: value if math.isfinite(value) else None for name, value in entry.items()})
    self._show(entry)
    self._tracker.scalars(step, {name: v for name, v in entry.items() if name != 'step'})
    with self._writer.as_default():
      for name, value in entry.items():
        if name != 'step':
          tf.summary.scalar(name, value, step)
    if self.is_summary_due() or step == self._total_steps:
      self._writer.flush()
      self._flushed = time.monotonic()

  def is_line_due(self) -> bool:
    """Whether the last line is so long ago that one is due between the steps of `log`."""
    return time.monotonic() - self._shown >= EVERY_SECS

  def show(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
    """Shows the values of a step in a line, and nowhere else: of one between those of `log`."""
    seconds = time.monotonic() - self._time
    self._show({**self._entry(step, epoch), **values, **self._rate(step, seconds)})

  def _entry(self, step: int, epoch: float) -> dict[str, float]:
    return {'step': step, 'epoch': round(epoch, 4), 'hours': round(self._hours, 6)}

  def _rate(self, step: int, seconds: float) -> dict[str, float]:
    """Images/s of the steps since `log` or `start_clock`; {} where there was none."""
    if step <= self._step:
      return {}
    rate = (self._images(step) - self._images(self._step)) / seconds
    return {'images_per_second': float(f'{rate:.6g}')}

  def _show(self, entry: Mapping[str, float]) -> None:
    logging.info('%s', self._line(entry))
    self._shown = time.monotonic()

  def _write(self, entry: Mapping[str, float | None]) -> None:
    with (
      files.naming_full_disk(self._path),
      open(self._path, 'a', encoding='utf-8') as file,
    ):
      file.write(json.dumps(entry) + '\n')

  def is_summary_due(self) -> bool:
    """Whether it is time for what is large: images and histograms."""
    return time.monotonic() - self._flushed >= self._summary_secs

  def show_images(self, step: int, images: tf.Tensor, names: Sequence[str]) -> None:
    """Shows training images in TensorBoard, and in a line of text what they are.

    Args:
      step: done so far.
      images: [N, H, W, C] uint8, what the net sees.
      names: of their classes.
    """
    with self._writer.as_default():
      tf.summary.image('train/images', images, step, max_outputs=len(names))
      tf.summary.text('train/labels', ', '.join(names), step)

  def show_histograms(self, step: int, variables: Mapping[str, tf.Variable]) -> None:
    with self._writer.as_default():
      for name, variable in variables.items():
        tf.summary.histogram(name, variable.read_value(), step)

  def _line(self, entry: Mapping[str, float]) -> str:
    steps = f'{entry["step"]}/{self._total_steps}' if self._total_steps else f'{entry["step"]}'
    line = (
      f'step {steps}  epoch {entry["epoch"]:.2f}  loss {entry["loss"]:.3f}  '
      f'top-1 {entry["top_1"]:.3f}  rate {entry["learning_rate"]:.3g}'
    )
    if 'images_per_second' in entry:
      line += f'  {digits(entry["images_per_second"])} images/s'
      if self._total_steps:
        images = self._images(self._total_steps) - self._images(int(entry['step']))
        line += f'  {duration(images / entry["images_per_second"])} left'
    if entry.get('skipped_images'):
      line += f'  {entry["skipped_images"]} broken images skipped'
    return line

  def end(self, status: str, reason: str = '') -> None:
    """Says that the run has ended, or this start of it.

    Args:
      status: one of `events`.
      reason: a line; '' where there is none but the last step.
    """
    events.add(self._directory, 'end', self.done, status=status, reason=reason)
    self._tracker.finish(status)

  def close(self) -> None:
    self._writer.close()


class MetricsLine(files.StepLine, total=False):
  """What is read again of a line of metrics.jsonl."""

  hours: float
  eval_top_1: float


def read_metrics(directory: str) -> list[MetricsLine]:
  """The lines of a run's metrics.jsonl; [] where there is none."""
  return files.read_json_lines(os.path.join(directory, METRICS_FILE), MetricsLine)


def keep_until(path: str, step: int) -> list[MetricsLine]:
  """Drops lines of steps after `step`, and what is no `MetricsLine`, from a JSON-lines file.

  The file is replaced, never cut in place.

  Returns:
    The objects that are kept.
  """
  entries = [line for line in files.read_json_lines(path, MetricsLine) if line['step'] <= step]
  if os.path.isfile(path):  # not os.devnull
    files.write_json_lines(path, entries)
  return entries


class Profile:
  """Has TensorFlow's profiler watch some steps, for TensorBoard.

  Args:
    directory: of the run.
    steps: the first and the last, counted from 1; None: none.
  """

  def __init__(self, directory: str, steps: tuple[int, int] | None):
    self._directory = directory
    self._first, self._last = steps or (0, 0)
    self._running = False

  def before(self, step: int) -> None:
    """Called before step number `step`, counted from 1."""
    if self._running and step > self._last:
      self.close()
    elif step == self._first and not self._running:
      tf.profiler.experimental.start(self._directory)
      self._running = True

  def close(self) -> None:
    if self._running:
      self._running = False
      tf.profiler.experimental.stop()
      logging.info('Profile of steps %d to %d: %s', self._first, self._last, self._directory)
