"""The comparison of runs: hand-made train_dirs, whose figures can be worked out on paper."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from slim_inception.evaluate import comparison
from slim_inception.train import progress

ROOT = Path(__file__).parents[2]
SVG = '{http://www.w3.org/2000/svg}'


def make_run(folder, net, log, own=(), followed=()):
  """Writes a train_dir.

  Args:
    folder: that is made.
    net: its model_name.
    log: (step, epoch, hours, images/s) of the logged steps.
    own: (step, top_1, top_5) of evaluations by the run, at steps of `log`.
    followed: the same of evaluations by --follow.
  """
  (folder / 'eval').mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps({'model_name': net, 'recipe': 'paper'}))
  lines = []
  evaluations = {step: {'eval_top_1': top_1, 'eval_top_5': top_5} for step, top_1, top_5 in own}
  for step, epoch, hours, rate in log:
    time = {'step': step, 'epoch': epoch, 'hours': hours}
    lines.append({**time, 'loss': 1.0, 'top_1': 0.9, 'images_per_second': rate})
    if step in evaluations:
      lines.append({**time, 'eval_num_images': 1000, **evaluations[step]})
  write_lines(folder / 'metrics.jsonl', lines)
  if followed:
    write_lines(
      folder / 'eval' / 'evaluations.jsonl',
      [{'step': s, 'num_images': 1000, 'top_1': a, 'top_5': b} for s, a, b in followed],
    )
  return str(folder)


def write_lines(path, entries):
  path.write_text(''.join(json.dumps(entry) + '\n' for entry in entries))


LOG = [(100, 1.0, 0.5, 10.0), (200, 2.0, 1.0, 60.0), (300, 3.0, 2.0, 20.0)]


@pytest.fixture
def plain(tmp_path):
  """Best top-1 error 25 % at epoch 2, best top-5 error 5 % at epoch 3."""
  own = [(100, 0.5, 0.75), (200, 0.75, 0.875), (300, 0.625, 0.95)]
  return make_run(tmp_path / 'plain', 'inception_v4', LOG, own=own)


@pytest.fixture
def residual(tmp_path):
  """Evaluated between the logged steps; 20 % and 10 % at epoch 2.5."""
  followed = [(50, 0.4, 0.6), (150, 0.75, 0.8), (250, 0.8, 0.9)]
  return make_run(tmp_path / 'residual', 'inception_resnet_v2', LOG, followed=followed)


def run_script(*arguments, before='pass', after='pass'):
  """Runs the script in a process of its own; returns exit status, stdout and stderr."""
  code = (
    f'import sys; sys.path.insert(0, {str(ROOT)!r}); {before}\n'
    'from slim_inception.cli import main\n'
    f'try: main(["compare", *{list(map(str, arguments))!r}])\nfinally: {after}'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  return done.returncode, done.stdout, done.stderr


@pytest.mark.usefixtures('draw')
def test_top_5_of_few_classes_is_not_shown(plain, residual, tmp_path):
  for folder, num_classes in ((plain, 5), (residual, 4)):
    config = {'model_name': 'inception_v4', 'run': {'num_classes': num_classes}}
    (Path(folder) / 'config.json').write_text(json.dumps(config))
  runs = comparison.read_runs([plain, residual])
  assert comparison.shown_metrics(runs) == ('top_1',)
  rows = comparison.table(runs)
  assert {row['best_top_5_error'] for row in rows} == {None}
  text = '\n'.join(comparison.text(rows))
  assert 'best top-1' in text and 'top-5' not in text
  draw = pytest.importorskip('slim_inception.evaluate.comparison_plot').draw
  draw(runs, ['a', 'b'], str(tmp_path / 'curves'))
  ids = {e.get('id', '') for e in ElementTree.parse(tmp_path / 'curves.svg').iter()}
  assert {each.split()[0] for each in ids if each.startswith('top_')} == {'top_1'}
  more = [runs[0], runs[1]._replace(num_classes=6)]
  assert comparison.shown_metrics(more) == ('top_1', 'top_5')


@pytest.mark.usefixtures('draw')
def test_table_and_csv(plain, residual, tmp_path):
  output = tmp_path / 'new' / 'v4.1'  # no folder yet, and a dot that is no suffix
  status, out, err = run_script(plain, residual, f'--output={output}')
  assert (status, err) == (0, '')
  heading, differing, blank, *_, targets, first, second, written = out.splitlines()
  assert heading.split() == ['flags', 'that', 'differ', 'plain', 'residual'] and not blank
  assert differing.split() == ['--model_name', 'inception_v4', 'inception_resnet_v2']
  assert '25.00 %' in targets
  # run, net, epochs, hours, images/s, best top-1, at, best top-5, at, last, last, to 25 %, hours
  assert first.split() == [
    'plain', 'inception_v4', '3.0', '2.000', '20.0',
    '25.00', '2.0', '5.00', '3.0', '37.50', '5.00', '2.0', '1.000',
  ]  # fmt: skip
  assert second.split() == [
    'residual', 'inception_resnet_v2', '3.0', '2.000', '20.0',
    '20.00', '2.5', '10.00', '2.5', '20.00', '10.00', '1.5', '0.750',
  ]  # fmt: skip
  assert written == f'written to {output}.csv, {output}.png, {output}.svg'
  rows = list(csv.DictReader(Path(f'{output}.csv').read_text().splitlines()))
  assert [row['run'] for row in rows] == ['plain', 'residual']
  numbers = {key: float(value) for key, value in rows[1].items() if key not in ('run', 'net')}
  assert numbers == pytest.approx(
    {
      'epochs': 3,
      'hours': 2,
      'images_per_second': 20,
      'best_top_1_error': 20,
      'best_top_1_epoch': 2.5,
      'best_top_5_error': 10,
      'best_top_5_epoch': 2.5,
      'last_top_1_error': 20,
      'last_top_5_error': 10,
      'target_top_1_error': 25,  # plain's best
      'epochs_to_top_1_target': 1.5,
      'hours_to_top_1_target': 0.75,
      'target_top_5_error': 10,  # residual's best
      'epochs_to_top_5_target': 2.5,
      'hours_to_top_5_target': 1.5,
    },
    abs=1e-6,
  )
  assert sorted(os.listdir(output.parent)) == ['v4.1.csv', 'v4.1.png', 'v4.1.svg']


def test_flags_that_differ(plain, residual):
  for folder, values in (
    (plain, {'batch_size': 32, 'config': 'a', 'seed': 1, 'image_size_schedule': []}),
    (
      residual,
      {'batch_size': 64, 'config': None, 'mixup_alpha': 0.2, 'image_size_schedule': [[0, 96, 8]]},
    ),
  ):
    path = Path(folder) / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
  nets = ('--model_name', 'inception_v4', 'inception_resnet_v2')
  rows = comparison.differing_flags([plain, residual])
  sizes = ('--image_size_schedule', 'not set', '0:96:8')
  assert rows == [nets, ('--batch_size', '32', '64'), sizes]
  assert comparison.differing_flags([plain, plain]) == []


def test_times_of_steps_between_and_beyond_the_log():
  clock = comparison.make_clock({400: (5.0, 3.5), 100: (1.0, 0.5), 200: (2.0, 1.5)})
  for step, epoch, hours in [
    (0, 0, 0),
    (50, 0.5, 0.25),
    (100, 1, 0.5),
    (125, 1.25, 0.75),
    (300, 3.5, 2.5),
    (400, 5, 3.5),
    (480, 6, 4.2),  # 1.2 times as far as the last
  ]:
    assert clock(step) == pytest.approx((epoch, hours))


def test_evaluations_by_follow_override_those_of_the_run(tmp_path):
  own = [(100, 0.5, 0.6), (200, 0.6, 0.7)]
  run = make_run(tmp_path / 'run', 'net', LOG, own, [(200, 0.65, 0.75), (300, 0.7, 0.8)])
  both = comparison.read_run(run, 'run').evaluations
  assert [(e.step, e.top_1, e.top_5) for e in both] == [(100, 50, 40), (200, 35, 25), (300, 30, 20)]
  alone = comparison.read_run(run, 'run', eval_dir='eval').evaluations
  assert alone == both[1:]


def test_files_of_a_run_that_is_going_on(plain):
  before = comparison.read_run(plain, 'plain')
  for name, good in (('metrics.jsonl', ''), ('eval/evaluations.jsonl', '{"step": 300}\n')):
    with open(os.path.join(plain, name), 'ab') as file:
      file.write(good.encode() + b'[1]\n\xff\n{"step": null}\n{"step": 350, "epo')
  with open(os.path.join(plain, 'metrics.jsonl'), 'a') as file:
    file.write(
      'ch\n{"step": 260, "epoch": NaN, "eval_num_images": 9, "eval_top_1": NaN, "eval_top_5": 1}\n'
    )
  os.remove(os.path.join(plain, 'config.json'))
  damaged = comparison.read_run(plain, 'plain')
  assert damaged == before._replace(net='unknown')
  # Nothing logged yet: nobody knows the epoch of an evaluation.
  Path(plain, 'metrics.jsonl').write_text('')
  evaluation = {'step': 9, 'num_images': 1, 'top_1': 1, 'top_5': 1}
  write_lines(Path(plain, 'eval', 'evaluations.jsonl'), [evaluation])
  assert comparison.read_run(plain, 'plain')[3:] == (0, 0, None, None, ())


def test_what_training_writes_is_read(tmp_path):
  written = progress.Progress(
    str(tmp_path), 0, None, images=lambda step: 32 * step, summary_secs=60
  )
  written.start_clock(0)
  written.log(10, 0.5, {'loss': 1.0, 'top_1': 0.25, 'learning_rate': 0.1})
  written.pause()
  written.log_evaluation(10, 0.5, {'num_images': 64, 'top_1': 0.25, 'top_5': 0.875})
  written.close()
  (line, _) = progress.read_metrics(str(tmp_path))
  run = comparison.read_run(str(tmp_path), 'run')
  (evaluation,) = run.evaluations
  assert evaluation._replace(hours=0) == (10, 0.5, 0, 64, 75, 12.5)
  assert evaluation.hours >= line['hours'] and run.hours == evaluation.hours
  assert run.images_per_second == line['images_per_second']


def test_hours_that_were_not_counted_from_the_start_are_not_shown(plain, residual):
  path = Path(plain, 'metrics.jsonl')
  path.write_text(path.read_text().replace('"hours": 0.5, ', ''))
  runs = comparison.read_runs([plain, residual])
  assert comparison.notes(runs) == [
    f'{plain} has no hours: it began before metrics.jsonl counted them'
  ]
  first, second = comparison.table(runs)
  assert (first['hours'], first['hours_to_top_1_target'], second['hours']) == (None, None, 2)
  assert comparison.text([first])[2].split()[3] == '-'


@pytest.mark.usefixtures('draw')
def test_runs_without_evaluations_are_named(plain, tmp_path):
  new = make_run(tmp_path / 'new', 'inception_v3', LOG)
  status, out, err = run_script(plain, new, f'--output={tmp_path}/c')
  assert status == 0
  assert err == (
    f'{new} has no evaluations: train with --eval_interval_epochs=1, or run '
    f'slim-inception eval --checkpoint_path={new} --follow\n'
  )
  assert out.splitlines()[-2].split() == f'new inception_v3 3.0 2.000 20.0{" -" * 8}'.split()
  status, out, alone = run_script(new, f'--output={tmp_path}/d')
  assert (status, out) == (1, '')
  assert alone == f'slim-inception compare: there is nothing to compare: {err}'
  assert not (tmp_path / 'd.csv').exists()


def test_errors_of_different_images_are_pointed_out(plain, residual):
  path = Path(residual, 'eval', 'evaluations.jsonl')
  path.write_text(path.read_text().replace('1000', '900', 1))
  (note,) = comparison.notes(comparison.read_runs([plain, residual]))
  assert note == (
    'not all errors are of the same number of images: plain: 1000; residual: 900, 1000'
  )


@pytest.mark.parametrize(
  ('arguments', 'status', 'message'),
  [
    ([], 2, 'RUN is missing: at least one is needed'),
    (['plain', 'nowhere'], 1, 'nowhere is no folder; expected the train_dir of a run'),
    (['plain', './plain/'], 1, './plain/ is given twice, also as plain'),
    (['.'], 1, './metrics.jsonl is not there; expected the train_dir of a run'),
    (['plain', '--eval_dir=other'], 1, 'plain/other/evaluations.jsonl is not there'),
    (['plain', '--labels=a,b'], 2, '--labels=a,b has 2 names for 1 runs'),
    (['plain', 'residual', '--labels=a,a'], 2, '--labels=a,a: expected a different name'),
    (['plain', '--output=x/'], 2, '--output=x/: expected a path that ends with the name'),
    (['plain', '--outputs=x'], 2, "Unknown command line flag 'outputs'"),
  ],
)
def test_errors_are_one_line(plain, residual, arguments, status, message, tmp_path):
  before = f'import os; os.chdir({str(tmp_path)!r})'
  code, out, err = run_script(*arguments, before=before)
  assert (code, out) == (status, '')
  (line,) = err.splitlines()
  assert line.startswith(f'slim-inception compare: {message}')
  assert sorted(os.listdir(tmp_path)) == ['plain', 'residual']


def test_needs_no_tensorflow_and_without_matplotlib_still_gives_the_table(plain, tmp_path):
  status, out, err = run_script(
    plain,
    f'--output={tmp_path}/c.svg',
    before='sys.modules["matplotlib"] = None',
    after='print("tensorflow" in sys.modules)',
  )
  assert status == 1
  assert err == (
    f'slim-inception compare: {tmp_path}/c.csv is written; drawing needs matplotlib: '
    'pip install "slim-inception[plots]"\n'
  )
  assert out.splitlines()[2].startswith('plain') and (tmp_path / 'c.csv').exists()
  assert out.splitlines()[-1] == 'False'


def drawn(path):
  """The curves of an SVG file, {id: number of points}, and all of its text."""
  root = ElementTree.parse(path).getroot()
  curves = {
    group.get('id'): sum(map(group.find(f'{SVG}path').get('d').count, 'ML'))
    for group in root.iter(f'{SVG}g')
    if (group.get('id') or '').startswith('top_')
  }
  return curves, [element.text for element in root.iter(f'{SVG}text')]


@pytest.fixture
def draw():
  pytest.importorskip('matplotlib', reason='extra plots')
  from slim_inception.evaluate import comparison_plot

  return comparison_plot.draw


def test_drawing(draw, plain, residual, tmp_path):
  runs = comparison.read_runs([plain, residual])
  names = ['_$plain$ <1>', 'WIDE' * 30]
  paths = draw(runs, names, str(tmp_path / 'c'))
  assert paths == [str(tmp_path / 'c.png'), str(tmp_path / 'c.svg')]
  curves, texts = drawn(tmp_path / 'c.svg')
  assert curves == {
    f'{metric} {x} {i}': 3
    for metric in ('top_1', 'top_5')
    for x in ('epoch', 'hours')
    for i in (0, 1)
  }
  assert {'_$plain$ <1>', 'epochs', 'hours of training', 'top-1 error (%)'} <= set(texts)
  assert any(text.startswith('WIDEWIDE') and '…' in text for text in texts)
  with Image.open(tmp_path / 'c.png') as image:
    image.load()
    assert (image.format, image.width) == ('PNG', 1500)
    assert 1000 < image.height < 1500
    legend = image.convert('RGB').crop((0, image.height - 90, image.width, image.height))
    colors = {color for _, color in legend.getcolors(1 << 24)}
  assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)} <= colors


def test_panels_of_hours_are_left_out_where_no_run_has_hours(draw, plain, tmp_path):
  (run,) = comparison.read_runs([plain])
  untimed = tuple(evaluation._replace(hours=None) for evaluation in run.evaluations)
  run = run._replace(hours=None, evaluations=untimed)
  draw([run], ['plain'], str(tmp_path / 'c'))
  curves, texts = drawn(tmp_path / 'c.svg')
  assert sorted(curves) == ['top_1 epoch 0', 'top_5 epoch 0']
  assert 'hours of training' not in texts


def test_names_are_the_parts_of_paths_that_differ():
  assert comparison.short_names(['runs/v3', 'runs/v4/']) == ['v3', 'v4']
  assert comparison.short_names(['a/v3/train', 'a/v4/train']) == ['v3/train', 'v4/train']
