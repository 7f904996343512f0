"""Files of a run that are read again: what has another shape is named, or no line of a log."""

import json

import pytest

from slim_inception import constants
from slim_inception.evaluate import comparison, following
from slim_inception.evaluate.config import resolve
from slim_inception.train import config_json, evaluation_history, progress
from tests import tiny


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (b'{"run":', ' is no valid JSON: '),
    (b'{"run": "\xff"}', ' is no valid JSON: '),
    (b'null', ': must be an object, not null'),
    (b'[1, 2]', ': must be an object, not [1, 2]'),
    (b'{"run": null}', ': run must be an object, not null'),
    (b'{"run": [1]}', ': run must be an object, not [1]'),
    (b'{"run": {"num_classes": "3"}}', ': run.num_classes must be a whole number, not "3"'),
    (b'{"run": {"total_steps": 1.5}}', ': run.total_steps must be a whole number, not 1.5'),
    (b'{"labels_offset": "x"}', ': labels_offset=x: must be a whole number'),
    (b'{"input_channels": "3x"}', ': input_channels=3x: must be a whole number'),
    (b'{"dataset_name": [1]}', ': dataset_name=1: must be text'),
    (b'{"dataset_name": {}}', ': dataset_name={}: must be text'),
    (b'{"loss": "foo"}', ': loss=foo: choose one of bce, sigmoid, softmax'),
    (b'{"momentum": null, "depth_multiplier": []}', ': depth_multiplier=: must be a number'),
  ],
)
def test_the_configuration_names_file_and_field(content, message, tmp_path):
  path = tmp_path / 'config.json'
  path.write_bytes(content)
  (tmp_path / 'model.ckpt-1.index').write_bytes(b'')
  for read in (
    lambda: config_json.read(str(tmp_path)),
    lambda: resolve({'checkpoint_path': f'{tmp_path}/model.ckpt-1', 'model_name': tiny.NAME}),
  ):
    with pytest.raises(ValueError) as error:
      read()
    assert str(error.value).startswith(f'{path}{message}')


def test_a_byte_order_mark_and_what_is_no_flag_do_no_harm(tmp_path):
  content = {'model_name': tiny.NAME, 'batch_size': 8.0, 'of_tomorrow': [1], 'run': {'x': 1}}
  content['batch_size'] = 8
  (tmp_path / 'config.json').write_text('\ufeff' + json.dumps(content), 'utf-8')
  assert config_json.read(str(tmp_path)) == content


LINES = (
  b'null\n3\n[1]\n"x"\n{"step": "x"}\n{"step": null}\n{"step": 1.5}\n{"step": true}\n{"hours": 1}\n'
  b'{"step": 2, "hours": "x", "eval_top_1": null}\n\xff\xfe{"step": 3}\n{"step": 4\xff}\n'
  b'{"step": 5, "hours": 0.5, "epoch": 1, "eval_num_images": 8, "eval_top_1": 0.25, '
  b'"eval_top_5": 1, "loss": null}\n' + b'[' * 100_000 + b'\n\n{"step": 6, "ho'
)


def test_what_is_no_line_of_a_log_is_left_out(tmp_path):
  path = tmp_path / constants.METRICS_FILE
  path.write_bytes(LINES)
  (run,) = comparison.read_runs([str(tmp_path)])
  assert [(each.step, each.hours, each.top_1) for each in run.evaluations] == [(5, 0.5, 75.0)]
  history = evaluation_history.EvaluationHistory.read(str(tmp_path), 10)
  assert not history.add(7, 0.2) and history.add(8, 0.3)
  assert progress.keep_until(str(path), 4) == []
  path.write_bytes(LINES)
  (kept,) = progress.keep_until(str(path), 9)
  assert json.loads(path.read_text()) == kept
  assert kept['step'] == 5 and kept['loss'] is None

  (tmp_path / constants.EVALUATIONS_FILE).write_bytes(LINES)
  assert [line['step'] for line in following.read_history(str(tmp_path))] == [2, 5]


def test_a_comparison_names_the_file_of_a_run(tmp_path):
  (tmp_path / constants.METRICS_FILE).write_bytes(LINES)
  for content, message in ((b'[]', 'must be an object, not []'), (b'{"model_name": 3}', 'model_')):
    (tmp_path / 'config.json').write_bytes(content)
    with pytest.raises(ValueError) as error:
      comparison.read_runs([str(tmp_path)])
    assert str(error.value).startswith(f'{tmp_path}/config.json: {message}')
