"""Flags, recipes and config.json."""

import dataclasses
import json

import pytest

from slim_inception.train import config, flag_values
from slim_inception.train.config import Config, resolve

GIVEN = {'train_dir': 'run', 'dataset_dir': 'data'}

# Every flag of slim's train_image_classifier.py, with its default (reference: slim 2019).
SLIM = {
  'master': '',
  'train_dir': None,
  'num_clones': 1,
  'clone_on_cpu': False,
  'worker_replicas': 1,
  'num_ps_tasks': 0,
  'num_readers': 4,
  'num_preprocessing_threads': 4,
  'log_every_n_steps': 10,
  'save_summaries_secs': 600,
  'save_interval_secs': 600,
  'task': 0,
  'weight_decay': 0.00004,
  'optimizer': 'rmsprop',
  'adadelta_rho': 0.95,
  'adagrad_initial_accumulator_value': 0.1,
  'adam_beta1': 0.9,
  'adam_beta2': 0.999,
  'opt_epsilon': 1.0,
  'ftrl_learning_rate_power': -0.5,
  'ftrl_initial_accumulator_value': 0.1,
  'ftrl_l1': 0.0,
  'ftrl_l2': 0.0,
  'momentum': 0.9,
  'rmsprop_momentum': 0.9,
  'rmsprop_decay': 0.9,
  'quantize_delay': -1,
  'learning_rate_decay_type': 'exponential',
  'learning_rate': 0.01,
  'end_learning_rate': 0.0001,
  'label_smoothing': 0.0,
  'learning_rate_decay_factor': 0.94,
  'num_epochs_per_decay': 2.0,
  'sync_replicas': False,
  'replicas_to_aggregate': 1,
  'moving_average_decay': None,
  'dataset_name': 'imagenet',
  'dataset_split_name': 'train',
  'dataset_dir': None,
  'labels_offset': 0,
  'model_name': 'inception_v3',
  'preprocessing_name': None,
  'batch_size': 32,
  'train_image_size': None,
  'max_number_of_steps': None,
  'checkpoint_path': None,
  'checkpoint_exclude_scopes': None,
  'trainable_scopes': None,
  'ignore_missing_vars': False,
}
# As many as help (all GPUs, all processors), and points in TensorBoard within the first minutes.
DIFFERENT = {'num_clones', 'num_preprocessing_threads', 'save_summaries_secs'}


def test_every_flag_of_slim_is_there_or_says_what_replaces_it():
  fields = {field.name for field in dataclasses.fields(Config)}
  assert set(SLIM) <= fields | set(config.GONE)
  assert not fields & set(config.GONE)


def test_recipe_slim_is_slims_defaults():
  resolved = resolve({**GIVEN, 'recipe': 'slim'})
  for name in set(SLIM) - set(config.GONE) - set(GIVEN) - DIFFERENT:
    assert getattr(resolved, name) == SLIM[name], name


def test_recipe_paper_is_the_default():
  paper = resolve(GIVEN)
  assert paper.recipe == 'paper'
  assert (paper.optimizer, paper.rmsprop_decay, paper.rmsprop_momentum) == ('rmsprop', 0.9, 0.9)
  assert (paper.opt_epsilon, paper.learning_rate, paper.learning_rate_decay_factor) == (
    1.0,
    0.045,
    0.94,
  )
  assert (paper.label_smoothing, paper.clip_gradient_norm) == (0.1, 2.0)
  assert (paper.aux_loss_weight, paper.moving_average_decay) == (0.4, 0.9999)


def test_recipe_modern():
  modern = resolve({**GIVEN, 'recipe': 'modern'})
  assert (modern.optimizer, modern.momentum, modern.precision) == ('momentum', 0.9, 'bfloat16')
  assert (modern.learning_rate_decay_type, modern.warmup_epochs, modern.num_epochs) == (
    'cosine',
    5.0,
    200.0,
  )
  assert (modern.mixup_alpha, modern.label_smoothing) == (0.2, 0.1)
  assert modern.moving_average_decay == 0.9999


def test_flags_go_before_the_recipe():
  assert resolve({**GIVEN, 'learning_rate': 0.5, 'recipe': 'paper'}).learning_rate == 0.5


@pytest.mark.parametrize('recipe', config.RECIPES)
def test_recipes_name_fields(recipe):
  assert set(config.RECIPES[recipe]) <= {field.name for field in dataclasses.fields(Config)}
  resolve({**GIVEN, 'recipe': recipe})


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    ({'recipe': 'best'}, '--recipe=best: choose one of paper, slim, finetune'),
    ({'dataset_dir': None}, '--dataset_dir must be given'),
    ({'input_channels': 4}, '--input_channels=4: choose 1 or 3, to which images are decoded'),
    ({'optimizer': 'lion'}, '--optimizer=lion: choose one of adadelta, .*sgd'),
    ({'batch_size': 0}, '--batch_size=0: must be at least 1'),
    ({'label_smoothing': 1.5}, '--label_smoothing=1.5: must be at least 0, at most 1'),
    ({'num_epochs': 0.0}, '--num_epochs=0.0: must be more than 0'),
    ({'learning_rate': float('nan')}, '--learning_rate=nan: must be at least 0'),
    ({'train_image_size': 0}, '--train_image_size=0: must be at least 1'),
    ({'dataset_name': 'birds'}, '--dataset_name=birds: choose one of cifar10, '),
    ({'model_name': 'vgg'}, '--model_name=vgg: choose one of inception_v3, '),
    (
      {'recipe': 'slim', 'learning_rate_decay_type': 'cosine'},
      'cosine needs an end: --num_epochs or --max_number_of_steps',
    ),
    ({'model_name': 'inception_v4', 'depth_multiplier': 0.5}, 'is for inception_v3'),
  ],
)
def test_impossible_values_name_the_flag(given, message):
  with pytest.raises(ValueError, match=message):
    resolve({**GIVEN, **given})


def test_round_trip(tmp_path):
  written = resolve({**GIVEN, 'moving_average_decay': 0.5})
  config.write(str(tmp_path), written, {'num_classes': 10})
  found = config.read(str(tmp_path))
  assert found.pop('run') == {'num_classes': 10}
  assert Config(**found) == written
  assert [path.name for path in tmp_path.iterdir()] == ['config.json']


def test_missing_and_broken_files(tmp_path):
  assert config.read(str(tmp_path)) is None
  (tmp_path / 'config.json').write_text(json.dumps({'a': 1})[:-1])
  with pytest.raises(ValueError, match='config.json is not JSON'):
    config.read(str(tmp_path))


def test_scopes():
  assert flag_values.scopes(' A/B, C,') == ('A/B', 'C')
  assert flag_values.scopes(None) == ()
