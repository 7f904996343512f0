"""Two classifiers on the same images, against SciPy, loops over images and simulations."""

import csv
import itertools

import numpy as np
import pytest

from slim_inception.evaluate import metrics, paired, results
from slim_inception.evaluate.metrics import Predictions
from tests.evaluate.test_comparison import run_script

NAMES = {0: '=cat', 1: 'dog | wolf', 2: 'bird', 3: 'fish', 4: 'frog', 5: 'newt', 6: 'crab'}


def simulated(accuracy, seed, count=400, classes=7, labels_seed=0) -> Predictions:
  """Predictions of so many random images, of which this share is right."""
  labels = np.random.default_rng(labels_seed).integers(0, classes, (count, 1))
  rng = np.random.default_rng(seed)
  first = np.where(rng.random((count, 1)) < accuracy, labels, (labels + 1) % classes)
  top = (first + np.arange(5)) % classes
  probabilities = -np.sort(-rng.dirichlet(np.ones(classes), count), axis=1)[:, :5]
  names = [f'{i}.jpg' for i in range(count)]
  return Predictions(
    np.arange(count),
    names,
    labels.astype(np.int32),
    top.astype(np.int32),
    np.float32(probabilities),
  )


def evaluated(predictions) -> paired.Evaluated:
  return paired.Evaluated('net', 'net/predictions.csv', predictions, NAMES)


def written(folder, predictions) -> str:
  results.write(folder, metrics.summary(predictions, 7, NAMES), predictions, 7, NAMES)
  return str(folder)


@pytest.mark.parametrize(
  'counts', [(0, 0), (1, 0), (0, 1), (5, 5), (3, 10), (10, 3), (60, 100), (2400, 2600), (0, 4000)]
)
def test_mcnemar_is_scipys_binomial_test(counts):
  scipy_stats = pytest.importorskip('scipy.stats', reason='extra demo')
  expected = scipy_stats.binomtest(counts[0], sum(counts)).pvalue if sum(counts) else 1.0
  assert paired.mcnemar(*counts) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_holm_is_its_definition():
  p_values = np.array([0.01, 0.04, 0.03, 0.005, 0.5])
  np.testing.assert_allclose(paired.holm(p_values), [0.04, 0.09, 0.09, 0.025, 0.5])
  assert paired.holm(np.array([])).shape == (0,)


def test_the_bootstrap_is_that_of_images():
  first, second = simulated(0.6, 1).right, simulated(0.7, 2).right
  total = paired.difference(first, second)
  rng = np.random.default_rng(3)
  gains = second.astype(int) - first
  means = [rng.choice(gains, len(gains)).mean() for _ in range(4000)]
  np.testing.assert_allclose(total.interval, np.quantile(means, [0.025, 0.975]), atol=0.006)
  assert total.value == pytest.approx(gains.mean())
  assert (total.first, total.second) == (np.sum(first), np.sum(second))


def test_equal_classifiers_are_rarely_called_different():
  rng = np.random.default_rng(0)
  p_values, covered = [], 0
  for _ in range(400):
    first, second = rng.random((2, 300)) < 0.8
    each = paired.difference(first, second)
    p_values.append(each.p_value)
    covered += each.interval[0] <= 0 <= each.interval[1]
  assert np.mean(np.array(p_values) < paired.SIGNIFICANCE) < 0.07
  assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_classes_are_loops_over_their_images():
  first, second = simulated(0.6, 1), simulated(0.7, 2)
  pair = paired.match(evaluated(first), evaluated(second))
  rows = {row.label: row for row in paired.by_class(pair)}
  assert sorted(rows) == list(range(7))
  for label, row in rows.items():
    images = np.flatnonzero(first.labels[:, 0] == label)
    only = [sum(first.right[i] and not second.right[i] for i in images)]
    only += [sum(second.right[i] and not first.right[i] for i in images)]
    assert [row.difference.only_first, row.difference.only_second] == only
    assert row.difference.images == len(images) and row.corrected >= row.difference.p_value


def test_a_table_is_read_as_it_was_written(tmp_path):
  expected = simulated(0.5, 1, count=20)
  expected.probabilities[3] = np.nan
  read, names = results.read_predictions(f'{written(tmp_path / "e", expected)}/predictions.csv')
  assert read.filenames == expected.filenames
  for name in ('record_indices', 'labels', 'top'):
    np.testing.assert_array_equal(getattr(read, name), getattr(expected, name))
  np.testing.assert_allclose(read.probabilities, expected.probabilities, rtol=1e-5)
  assert names[1] == 'dog | wolf' and names[0] == "'=cat"


def test_images_are_paired_by_name_and_else_by_record():
  first = simulated(0.6, 1)
  order = np.random.default_rng(0).permutation(400)[:300]
  shuffled = first.take(order)
  shuffled.record_indices[:] = np.arange(300)
  pair = paired.match(evaluated(first), evaluated(shuffled))
  assert (pair.only_first, pair.only_second) == (100, 0)
  assert pair.first.filenames == pair.second.filenames
  np.testing.assert_array_equal(pair.first.top, pair.second.top)
  first.filenames[:] = [''] * 400
  pair = paired.match(evaluated(first), evaluated(first.take(range(10, 20))))
  assert pair.second.record_indices.tolist() == list(range(10, 20))


def test_the_command(tmp_path):
  first, second = simulated(0.6, 1), simulated(0.75, 2).take(range(390))
  paths = [written(tmp_path / name / 'eval', p) for name, p in (('a', first), ('b', second))]
  output = tmp_path / 'plots' / 'ab'
  status, out, err = run_script(
    paths[0], f'{paths[1]}/predictions.csv', f'--output={output}', '--labels=old,new',
    after='assert "tensorflow" not in sys.modules',
  )  # fmt: skip
  assert status == 0
  assert err == (
    f'the evaluations are not of the same images: 10 are in {paths[0]}/predictions.csv alone, 0 in '
    f'{paths[1]}/predictions.csv alone; compared on the 390 in both\n'
  )
  header, top_1, top_5, sentence, classes, *_, last = out.splitlines()
  assert header.split()[:3] == ['old', 'new', 'difference'] and top_5.startswith('top-5')
  right = [np.mean(p.right[:390]) for p in (first, second)]
  assert top_1.split()[1:6:2] == [f'{100 * share:.2f}' for share in right] + [
    f'{100 * (right[1] - right[0]):+.2f}'
  ]
  assert 'The difference is real' in sentence and sentence.endswith('new is better.')
  assert 'classes differ' in classes
  assert last == f'written to {output}.csv, {output}_images.csv'

  with open(f'{output}_images.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  only = [
    {i for i in range(390) if ours.right[i] and not theirs.right[i]}
    for ours, theirs in itertools.permutations((first, second))
  ]
  for number, images in enumerate(only, 1):
    chosen = [row for row in rows if row['right'] == str(number)]
    assert {int(row['record_index']) for row in chosen} == images
    surest = [float(row[f'probability_{3 - number}']) for row in chosen]
    assert surest == sorted(surest, reverse=True)
  assert {row['name_1'] for row in rows} <= {*NAMES.values(), "'=cat", "''=cat"}
  with open(f'{output}.csv', newline='') as file:
    table = list(csv.DictReader(file))
  assert [row['name'] for row in table[:2]] == ['all, top_1', 'all, top_5'] and len(table) == 9
  assert sum(int(row['images']) for row in table[2:]) == 390 == int(table[0]['images'])


def test_what_cannot_be_told_apart_is_said(tmp_path):
  a = written(tmp_path / 'a', simulated(0.6, 5))
  b = written(tmp_path / 'b', simulated(0.61, 55))
  status, out, _ = run_script(a, b, f'--output={tmp_path}/x')
  assert status == 0 and 'The difference may be chance (p = ' in out
  assert 'None of 7 classes differs' in out


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  folder = tmp_path_factory.mktemp('evaluations')
  written(folder / 'a', simulated(0.6, 1, count=50))
  written(folder / 'labels', simulated(0.6, 1, count=50, labels_seed=1))
  other = simulated(0.6, 1, count=50)
  other.filenames[:] = [f'other/{name}' for name in other.filenames]
  written(folder / 'other', other)
  (folder / 'run').mkdir()
  (folder / 'run' / 'metrics.jsonl').write_text('')
  (folder / 'bad.csv').write_text('filename,true\na,1\n')
  lines = (folder / 'a' / 'predictions.csv').read_text().splitlines()
  (folder / 'cut.csv').write_text('\n'.join(lines[:5]) + '\n' + lines[5][:20])
  (folder / 'twice.csv').write_text('\n'.join([*lines, lines[-1]]))
  (folder / 'empty.csv').write_text(lines[0])
  return folder


@pytest.mark.parametrize(
  ('arguments', 'status', 'message'),
  [
    (['a'], 1, 'images are compared between two evaluations; 1 were given: a'),
    (['a', 'a/predictions.csv'], 1, 'a and a/predictions.csv are the same evaluation'),
    (['a', 'run'], 1, 'a is an evaluation and run has no predictions.csv'),
    (['a', 'other'], 1, 'a/predictions.csv and other/predictions.csv have no image in common'),
    (
      ['a', 'labels'],
      1,
      'a/predictions.csv and labels/predictions.csv disagree on the right label',
    ),
    (['a', 'bad.csv'], 1, 'bad.csv, line 1: the columns are not those of the predictions of'),
    (['a', 'cut.csv'], 1, 'cut.csv, line 6: '),
    (['a', 'twice.csv'], 1, 'twice.csv has a record twice'),
    (['a', 'empty.csv'], 1, 'empty.csv has no image'),
    (['a', 'other', '--eval_dir=eval'], 2, '--eval_dir=eval is for runs, not for evaluations'),
  ],
)
def test_errors_are_one_line(folders, arguments, status, message):
  code, out, err = run_script(*arguments, before=f'import os; os.chdir({str(folders)!r})')
  assert (code, out) == (status, '')
  (line,) = err.splitlines()
  assert line.startswith(f'slim-inception compare: {message}')
