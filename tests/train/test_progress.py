"""Lines of progress and metrics.jsonl."""

import json

from slim_inception.train import progress


def test_what_a_killed_run_wrote_too_much_is_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
  progress.keep_until(str(path), 2)
  assert [json.loads(line)['step'] for line in path.read_text().splitlines()] == [1, 2]
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']


def test_line(tmp_path, caplog):
  written = progress.Progress(str(tmp_path), 0, 100, lambda step: 8 * step, summary_secs=60)
  values = {'loss': 1.5, 'top_1': 0.25, 'learning_rate': 0.045, 'skipped_images': 2}
  with caplog.at_level('INFO', 'absl'):
    written.log(10, 2.5, values)
    written.start_clock(10)
    written.log(10, 2.5, values)
  written.close()
  first, second = caplog.messages
  assert first.startswith('step 10/100  epoch 2.50  loss 1.500  top-1 0.250  rate 0.045  ')
  assert 'images/s' in first and ' left' in first
  assert first.endswith('2 broken images skipped')
  assert 'images/s' not in second


def test_the_end_says_the_last_step_and_not_the_last_in_the_log(tmp_path):
  written = progress.Progress(str(tmp_path), 0, None, lambda step: 8 * step, summary_secs=60)
  for step in range(1, 15):
    written.done = step
    if step % 10 == 0:
      written.log(step, 2.5, {'loss': 1.5, 'top_1': 0.25, 'learning_rate': 0.045})
  written.end('interrupted', 'SIGTERM after step 14')
  written.rewind(12)
  written.end('failed')
  written.close()
  lines = (tmp_path / 'history.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [14, 12]


def test_hours_are_of_training_alone_and_go_on_after_a_restart(tmp_path, monkeypatch):
  clock = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: clock[0])
  values = {'loss': 1.5, 'top_1': 0.25, 'learning_rate': 0.045}

  def run(start, steps):
    written = progress.Progress(str(tmp_path), start, 100, lambda step: 8 * step, summary_secs=60)
    clock[0] += 500  # tracing
    written.start_clock(start + 1)
    for step in steps:
      clock[0] += 360
      written.log(step, step / 10, values)
    clock[0] += 36
    written.pause()
    clock[0] += 500  # evaluating
    written.log_evaluation(step, step / 10, {'num_images': 5, 'top_1': 0.5, 'top_5': 1.0})
    written.close()

  run(0, [10, 20])
  run(10, [20])  # killed and started again from step 10
  hours = [(e['step'], e['hours']) for e in progress.read_metrics(tmp_path)]
  assert hours == [(10, 0.1), (20, 0.2), (20, 0.21)]
