"""The learning rate test: what it suggests, and what it leaves alone."""

import csv
import json

import numpy as np
import pytest

from slim_inception.train import rate_finder, trainer
from slim_inception.train.rate_finder import RateCurve
from tests.train import processes

RATES = np.geomspace(1e-6, 10.0, 141)


def fall(middle, width=0.5):
  """From 2 to 1 in the shape of a logistic function of the rate's logarithm, then an explosion."""
  x = np.log10(RATES) - np.log10(middle)
  return (
    1.0 + 1.0 / (1.0 + np.exp(x / width * 4)) + np.where(x > 1.2, 100.0 ** (x - 1.2) - 1.0, 0.0)
  )


@pytest.mark.parametrize('middle', [1e-4, 3e-3, 0.1])
def test_the_rate_at_which_the_loss_falls_fastest(middle):
  """That is the middle, whatever falls after the explosion."""
  noise = np.random.default_rng(0).normal(scale=0.002, size=len(RATES))
  losses = fall(middle) + noise
  assert RateCurve(RATES, losses).suggest() == pytest.approx(middle, rel=0.3)
  again = np.concatenate([losses, [1000.0, 10.0]])
  curve = RateCurve(np.append(RATES, [11.0, 12.0]), again)
  assert curve.suggest() == pytest.approx(middle, rel=0.3)
  assert curve.describe().startswith(f'try --learning_rate={curve.suggest():.2g}: there the loss ')


def test_nothing_is_suggested_of_a_loss_that_rises():
  curve = RateCurve(RATES, np.linspace(1.0, 2.0, len(RATES)))
  assert curve.suggest() is None
  assert curve.describe().endswith('nothing to suggest')


def test_smoothing():
  values = np.random.default_rng(0).normal(size=30)
  expected = [values[max(0, i - 5) : i + 6].mean() for i in range(30)]
  np.testing.assert_allclose(rate_finder.smooth(values, 11), expected)


def test_when_the_loss_is_lost():
  assert rate_finder.is_lost([1.0, float('nan')])
  assert not rate_finder.is_lost([1.0, 100.0])  # two steps tell nothing
  assert not rate_finder.is_lost([1.0] * 10 + [10.0])
  assert rate_finder.is_lost([1.0] * 10 + [10.0] * 3)


@pytest.mark.integration
def test_rates_are_tried_and_the_run_stays_as_it_is(data, tmp_path):
  """The first loss is that of the first step of a run; an optimizer of gradients alone learns."""
  flags = {'optimizer': 'sgd', 'max_number_of_steps': 1, 'learning_rate_per': 8}
  train_dir = tmp_path / 'run'
  trainer.train(processes.config(train_dir, data, **flags))
  before = {path.name: path.read_bytes() for path in train_dir.iterdir()}
  process = processes.start(
    train_dir,
    data,
    **flags,
    find_learning_rate=tmp_path / 'new' / 'rates',
    find_learning_rate_steps=40,
  )
  output, _ = process.communicate()
  assert process.returncode == 0, output
  assert {path.name: path.read_bytes() for path in train_dir.iterdir()} == before
  names = {path.name for path in (tmp_path / 'new').iterdir()}
  assert names == {'rates.csv', 'rates.png', 'rates.svg'}
  with open(tmp_path / 'new' / 'rates.csv', encoding='utf-8', newline='') as file:
    rows = list(csv.DictReader(file))
  rates = [float(row['learning_rate']) for row in rows]
  np.testing.assert_allclose(rates, np.geomspace(1e-6, 10, 40)[: len(rows)])
  (first,) = map(json.loads, (train_dir / 'metrics.jsonl').read_text().splitlines())
  assert float(rows[0]['loss']) == pytest.approx(first['loss'], rel=1e-4)
  assert 'learning rate' in (tmp_path / 'new' / 'rates.svg').read_text()
  assert f'written to {tmp_path}/new/rates.csv, ' in output
