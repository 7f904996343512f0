"""Flags, recipes and config.json."""

import json
import pathlib

import pytest
from slim_inception.nets import processor

from slim_inception import flags
from slim_inception.train import config, config_json
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
SMOOTH = {'label_smoothing': 0.1, 'moving_average_decay': 0.9999}
BCE = {'loss': 'bce', 'bce_target_threshold': 0.2, 'cutmix_alpha': 1.0, 'warmup_epochs': 5.0}
BCE |= {'randaugment_layers': 2, 'randaugment_std': 0.5, 'randaugment_probability': 0.5}
SYNTHETIC = {'dataset_name': 'synthetic'}
VIEWS = {'augment_policy': 'augmix', 'jsd_weight': 12}
TWO = {'dataset_dir': 'a,b'}
STAIRS = {'learning_rate_decay_type': 'step'}
# As many as help (all GPUs, all processors), and points in TensorBoard within the first minutes.
DIFFERENT = {'num_clones', 'num_preprocessing_threads', 'save_summaries_secs'}


def test_every_flag_of_slim_is_there_or_says_what_replaces_it():
  fields = set(flags.fields(Config))
  assert set(SLIM) <= fields | set(config.REMOVED)
  assert not fields & set(config.REMOVED)


def test_recipe_slim_is_slims_defaults():
  values = flags.flatten(resolve({**GIVEN, 'recipe': 'slim'}))
  for name in set(SLIM) - set(config.REMOVED) - set(GIVEN) - DIFFERENT:
    assert (values[name] or None) == (SLIM[name] or None), name


@pytest.mark.parametrize(
  ('recipe', 'optimizer', 'numbers'),
  [
    (
      'paper',
      'rmsprop exponential float32',
      {'rmsprop_decay': 0.9, 'rmsprop_momentum': 0.9, 'opt_epsilon': 1.0, 'learning_rate': 0.045}
      | {'learning_rate_decay_factor': 0.94, 'clip_gradient_norm': 2.0, 'aux_loss_weight': 0.4}
      | {'learning_rate_per': None, **SMOOTH},
    ),
    (
      'modern',
      'momentum cosine bfloat16',
      {'momentum': 0.9, 'warmup_epochs': 5.0, 'num_epochs': 200.0, 'mixup_alpha': 0.2}
      | {'learning_rate': 0.1, 'learning_rate_per': 256, **SMOOTH},
    ),
    (
      'resnet',
      'momentum step float32',
      {'momentum': 0.9, 'warmup_epochs': 5.0, 'num_epochs': 90.0, 'weight_decay': 0.0001}
      | {'learning_rate': 0.1, 'learning_rate_per': 256, 'learning_rate_decay_factor': 0.1}
      | {'learning_rate_steps': (30.0, 60.0, 80.0), 'label_smoothing': 0.0},
    ),
    (
      'a1',
      'lamb cosine bfloat16',
      {'learning_rate': 0.005, 'learning_rate_per': 2048, 'num_epochs': 600.0}
      | {'weight_decay': 0.01, 'label_smoothing': 0.1, 'train_image_size': 224, **BCE}
      | {'mixup_alpha': 0.2, 'randaugment_magnitude': 7.0, 'repeated_augmentation': 3}
      | {'drop_path_rate': 0.05},
    ),
    (
      'a2',
      'lamb cosine bfloat16',
      {'learning_rate': 0.005, 'learning_rate_per': 2048, 'num_epochs': 300.0}
      | {'weight_decay': 0.02, 'label_smoothing': 0.0, 'train_image_size': 224, **BCE}
      | {'mixup_alpha': 0.1, 'randaugment_magnitude': 7.0, 'repeated_augmentation': 3}
      | {'drop_path_rate': 0.05},
    ),
    (
      'a3',
      'lamb cosine bfloat16',
      {'learning_rate': 0.008, 'learning_rate_per': 2048, 'num_epochs': 100.0}
      | {'weight_decay': 0.02, 'label_smoothing': 0.0, 'train_image_size': 160, **BCE}
      | {'mixup_alpha': 0.1, 'randaugment_magnitude': 6.0, 'repeated_augmentation': 1}
      | {'drop_path_rate': 0.0},
    ),
    (
      'facenet',
      'adam step float32',
      {'model_name': 'inception_resnet_v1', 'preprocessing_name': 'facenet', 'opt_epsilon': 0.1}
      | {'bottleneck_layer_size': 512, 'train_image_size': 160, 'batch_norm_decay': 0.995}
      | {'learning_rate': 0.05, 'learning_rate_steps': (11.7, 15.7), 'num_epochs': 17.9}
      | {'embedding_norm_weight': 0.0005, 'embedding_norm_p': 1.0, 'dropout_keep_prob': 0.8}
      | {'weight_decay': 0.0005, 'batch_size': 90, 'moving_average_decay': 0.9999},
    ),
    (
      'distill',
      'adamw cosine bfloat16',
      {'distill_weight': 1.0, 'distill_temperature': 1.0, 'mixup_alpha': 1.0, 'warmup_epochs': 16.0}
      | {'learning_rate': 0.03, 'learning_rate_per': 4096, 'weight_decay': 0.01}
      | {'clip_gradient_norm': 1.0, 'num_epochs': 300.0, 'distort_color': False},
    ),
    (
      'progressive',
      'momentum cosine float32',
      {'momentum': 0.9, 'warmup_epochs': 5.0, 'num_epochs': 90.0, 'weight_decay': 0.0001}
      | {'learning_rate': 0.1, 'learning_rate_per': 256, 'label_smoothing': 0.1}
      | {'image_size_schedule': ((0.0, 139, 0), (22.5, 192, 0), (45.0, 245, 0), (67.5, 299, 0))}
      | {'aux_loss_weight': 0.0, 'batch_norm_batches': 200},
    ),
  ],
)
def test_recipes(monkeypatch, recipe, optimizer, numbers):
  monkeypatch.setattr(processor, 'read_flags', lambda: {'amx_bf16'})
  needed = {
    'distill': {'teacher': 'large.ckpt'},
    'a1': {'model_name': 'resnet_v1_5_50'},
    'a2': {'model_name': 'resnet_v1_5_50'},
  }
  values = flags.flatten(resolve({**GIVEN, 'recipe': recipe, **needed.get(recipe, {})}))
  chosen = (values[name] for name in ('optimizer', 'learning_rate_decay_type', 'precision'))
  assert ' '.join(chosen) == optimizer
  assert {name: values[name] for name in numbers} == numbers
  assert resolve(GIVEN).run.recipe == 'paper'


def test_precision_that_the_processor_has(monkeypatch, tmp_path, caplog):
  monkeypatch.setattr(processor, 'read_flags', lambda: {'avx2', 'fma'})
  modern = {**GIVEN, 'recipe': 'modern'}
  caplog.set_level('INFO', 'absl')
  first = resolve(modern)
  assert first.devices.precision == 'float32'
  message = '--precision=auto is float32: this device has no instructions for bfloat16'
  assert caplog.messages == [message]
  assert resolve({**modern, 'precision': 'bfloat16'}).devices.precision == 'bfloat16'
  monkeypatch.setattr(processor, 'read_flags', lambda: {'avx512_bf16'})
  assert resolve({**GIVEN, 'precision': 'auto'}).devices.precision == 'bfloat16'
  config_json.write(str(tmp_path), first, {})
  again = resolve({'config': str(tmp_path / 'config.json'), 'train_dir': 'other'})
  assert again.devices.precision == 'float32'  # what it was, on another machine too
  assert caplog.messages == [message]


def test_flags_override_a_file_which_overrides_the_recipe(tmp_path):
  mine = tmp_path / 'mine.toml'
  mine.write_text('learning_rate = 0.2\nlabel_smoothing = 0.3\ntrain_dir = "here"\n')
  found = resolve({'config': str(mine), 'dataset_dir': 'data', 'learning_rate': '0.5'})
  assert (found.schedule.learning_rate, found.loss.label_smoothing) == (0.5, 0.3)
  assert (found.schedule.num_epochs, found.run.train_dir) == (100.0, 'here')
  mine.write_text('recipe = "slim"\n')
  assert resolve({**GIVEN, 'config': str(mine)}).schedule.num_epochs is None


def test_a_saved_configuration_starts_another_run(tmp_path):
  first = resolve({**GIVEN, 'recipe': 'modern', 'checkpoint_path': 'start', 'seed': 3})
  config_json.write(str(tmp_path), first, {'num_classes': 10})
  path = str(tmp_path / 'config.json')
  with pytest.raises(ValueError, match=f'--train_dir must be given: {path} names none'):
    resolve({'config': path})
  again = resolve({'config': path, 'train_dir': 'other'})
  assert again == flags.replace(first, train_dir='other', config=path)
  assert again.finetune.checkpoint_path == f'{pathlib.Path.cwd()}/start'


def test_a_resumed_run_has_no_values_that_contradict_the_new_flags(tmp_path):
  chosen = {
    'learning_rate_decay_type': 'step', 'learning_rate_steps': '30,60', 'teacher': 'net',
    'distill_weight': 0.5, 'loss': 'bce', 'bce_target_threshold': 0.2, 'recipe': 'slim',
  }  # fmt: skip
  config_json.write(str(tmp_path), resolve({**GIVEN, **chosen}), {})
  new = {'resume_from': str(tmp_path), 'train_dir': 'other'}
  again = resolve({**new, 'num_epochs': 9, 'recipe': 'slim'})
  assert again.schedule.learning_rate_steps == (30.0, 60.0)
  assert again.distillation.distill_weight == 0.5 and again.loss.bce_target_threshold == 0.2
  last = {'teacher': '', 'loss': 'softmax', 'learning_rate_decay_type': 'fixed'}
  again = resolve({**new, **last})
  assert again.distillation == config.DistillationConfig()
  assert again.schedule.learning_rate_steps == () and again.loss.bce_target_threshold is None
  sizes = resolve({**new, 'image_size_schedule': '0:160:0,2:192:0', 'image_size_ramp': 16})
  config_json.write(str(tmp_path), flags.replace(sizes, resume_from=None), {})
  again = resolve({**new, 'train_image_size': 160})
  assert again.model.image_size_schedule == () and again.model.image_size_ramp == 0
  config_json.write(str(tmp_path), flags.replace(again, resume_from=None), {})
  again = resolve({**new, 'image_size_schedule': '0:160:0'})
  assert again.model.train_image_size is None
  with pytest.raises(ValueError, match='--recipe=a1 sets defaults, which --resume_from takes from'):
    resolve({**new, 'recipe': 'a1'})


def test_configurations_of_older_versions_are_read(tmp_path):
  """They have lists as text, and no values of newer flags."""
  old = {**GIVEN, 'recipe': 'slim', 'trainable_scopes': 'A, B', 'checkpoint_exclude_scopes': None}
  old |= {'learning_rate_steps': '30,60', 'learning_rate_decay_type': 'step', 'run': {}}
  (tmp_path / 'config.json').write_text(json.dumps(old))
  found = resolve({'config': str(tmp_path / 'config.json'), 'train_dir': 'new'})
  assert found.finetune.trainable_scopes == ('A', 'B')
  assert found.schedule.learning_rate_steps == (30.0, 60.0)


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.toml', 'learning_rat = 1', 'a.toml: learning_rat: there is no such flag; did you mean'),
    ('a.toml', 'optimizer = "lion"', 'a.toml: optimizer=lion: choose one of adadelta'),
    ('a.toml', 'batch_size = "many"', 'a.toml: batch_size=many: must be a whole number, at least'),
    ('a.toml', 'config = "b.toml"', 'a.toml: config=b.toml: a file names no other file'),
    ('a.toml', 'batch_size', 'a.toml cannot be parsed as TOML'),
    ('a.json', '{', 'a.json cannot be parsed as JSON'),
    ('a.json', '[]', 'a.json: must be an object of flags and values'),
  ],
)
def test_files_that_are_wrong_name_themselves(tmp_path, name, text, message):
  (tmp_path / name).write_text(text)
  with pytest.raises(ValueError, match=f'{tmp_path}/{message}'):
    resolve({**GIVEN, 'config': str(tmp_path / name)})


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (
      {'recipe': 'best'},
      '--recipe=best: choose one of a1, a2, a3, distill, facenet, finetune, mod',
    ),
    (
      {'recipe': 'distill'},
      '--distill_weight=1.0 \\(of --recipe=distill\\) needs --teacher: The net also learns from',
    ),
    ({'dataset_dir': None}, '--dataset_dir must be given'),
    ({'input_channels': 4}, '--input_channels=4: choose one of 1, 3'),
    ({'optimizer': 'lion'}, '--optimizer=lion: choose one of adadelta, .*sgd'),
    ({'batch_size': 0}, '--batch_size=0: must be a whole number, at least 1'),
    ({'label_smoothing': 1.5}, '--label_smoothing=1.5: must be a number, at least 0, at most 1'),
    ({'dataset_name': 'birds'}, '--dataset_name=birds: choose one of .*cifar10, '),
    ({'model_name': 'vgg'}, '--model_name=vgg: choose one of inception_v1, '),
    (
      {'recipe': 'slim', 'learning_rate_decay_type': 'cosine'},
      'cosine needs an end: --num_epochs or --max_number_of_steps',
    ),
    ({'model_name': 'inception_v1', 'depth_multiplier': 0.5}, 'is for inception_v2, inception_v3'),
    ({'activation_scale': 0.5}, '--activation_scale is for inception_resnet_v1, .*_v3 has none'),
    (
      {'recipe': 'a1'},
      r'rate=0.05 \(of --recipe=a1\) is for nets with residuals, .*_v3 has none: --drop_path_',
    ),
    ({'drop_path_rate': 1}, '--drop_path_rate=1: must be below 1'),
    ({'activation_scale': 0}, '--activation_scale=0: must be a number, greater than 0'),
    ({'data_service': 'host'}, '--data_service=host: must be HOST:PORT'),
    ({'data_service': 'host:1', 'deterministic': True}, '--deterministic: the order of --data_ser'),
    (
      {'mixture': '1,2'},
      '--mixture=1.0,2.0: there must be a number for each of several --dataset_',
    ),
    ({**TWO, 'mixture': '1,2,3'}, 'there must be a number .*, but a,b names 2'),
    ({**TWO, 'mixture': '1,0'}, '--mixture=1,0: must be a number, .*, greater than 0'),
    ({**TWO, 'mixture': '1,2', 'data_service': 'host:1'}, '--mixture: the workers of --data_serv'),
    ({'sampling': 'balanced', 'data_service': 'host:1'}, '--sampling=balanced: the workers of'),
    ({'sampling': 'even'}, '--sampling=even: choose one of balanced, uniform'),
    ({'sampling': 'balanced', 'class_weights': 'balanced'}, 'leave out --class_weights=balanced'),
    ({**SYNTHETIC, 'dataset_dir': None, 'sampling': 'balanced'}, '--sampling needs records'),
    (
      {'augment_policy': 'augmix', 'randaugment_layers': 2},
      '--augment_policy and --randaugment_layers=2 exclude each other',
    ),
    ({'augment_policy': 'auto'}, '--augment_policy=auto: choose one of augmix, three_augment, tri'),
    ({'jsd_weight': 12}, '--jsd_weight compares versions .* that --augment_policy makes'),
    ({**VIEWS, 'loss': 'bce'}, '--jsd_weight is for --loss=softmax, not for --loss=bce'),
    ({**VIEWS, 'mixup_alpha': 0.2}, '--jsd_weight does not go with --mixup_alpha=0.2: choose one'),
    ({**VIEWS, 'teacher': 'a'}, '--jsd_weight does not go with --teacher=a: choose one'),
    (
      {'embedding_norm_weight': 1},
      '=1 is for nets with an embedding, inception_resnet_v1; incepti',
    ),
    ({'embedding_norm_p': 2}, '--embedding_norm_p needs --embedding_norm_weight, which is 0'),
    ({'bce_target_threshold': 0.2}, '--bce_target_threshold=0.2 is for --loss=bce, not for softma'),
    (
      {'repeated_augmentation': 3, 'data_service': 'host:1'},
      '--repeated_augmentation=3: the workers of --data_service give an image once',
    ),
    ({'profile_steps': '5'}, '--profile_steps=5: must be FIRST,LAST'),
    ({'profile_steps': '9,3'}, '--profile_steps=9,3: must be FIRST,LAST'),
    ({'stop_at_top_1': 0.5}, '--stop_at_top_1 needs --eval_interval_epochs'),
    ({'patience': 3}, '--patience needs --eval_interval_epochs'),
    (SYNTHETIC, '--dataset_dir needs records; --dataset_name=synthetic has none'),
    ({**SYNTHETIC, 'dataset_dir': None, 'class_weights': 'balanced'}, '--class_weights needs rec'),
    ({**SYNTHETIC, 'dataset_dir': None, 'eval_interval_epochs': 1}, '--eval_interval_epochs nee'),
    ({'sync_batch_norm': True, 'jit_compile': True}, 'go with --jit_compile: XLA'),
    ({'sync_batch_norm': True, 'freeze_batch_norm': True}, '--freeze_batch_norm: frozen'),
    ({'sync_batch_norm': True, 'accumulate_steps': 2}, '--accumulate_steps: the statistics'),
    ({'learning_rate_decay_type': 'step'}, '=step needs --learning_rate_steps=30,60,80'),
    ({'learning_rate_steps': '3'}, '=3.0 is for --learning_rate_decay_type=step, not for exp'),
    # What a recipe has set is named as its own, with the way to be rid of it.
    (
      {'recipe': 'resnet', 'learning_rate_decay_type': 'cosine'},
      r'=30.0,60.0,80.0 \(of --recipe=resnet\) .*: --learning_rate_steps= unsets it',
    ),
    (
      {'recipe': 'a3', 'loss': 'softmax'},
      r'=0.2 \(of --recipe=a3\) .*: --bce_target_threshold= unsets it',
    ),
    (
      {'recipe': 'a3', 'augment_policy': 'trivial_augment'},
      r'--randaugment_layers=2 \(of --recipe=a3\) exclude',
    ),
    (
      {'recipe': 'modern', 'augment_policy': 'augmix', 'jsd_weight': 12},
      r'does not go with --mixup_alpha=0.2 \(of --recipe=modern\)',
    ),
    (
      {'recipe': 'progressive', 'train_image_size': 128},
      r'0.0:139:0,.* \(of --recipe=progressive\): .*unset the schedule with --image_size_sch',
    ),
    (
      {'recipe': 'progressive', 'freeze_batch_norm': True},
      r'--batch_norm_batches=200 \(of --recipe=progressive\) changes what',
    ),
    ({**STAIRS, 'learning_rate_steps': '60,30'}, 'must be epochs in ascending order'),
    *(({**STAIRS, 'learning_rate_steps': s}, 'must be EPOCH,') for s in ('30,x', '0,30', '30,inf')),
    *(
      ({'learning_rate_scales': s}, 'must be SCOPE:FACTOR') for s in ('Net', ':2', 'Net:-1', 'A:x')
    ),
  ],
)
def test_impossible_values_name_the_flag(given, message):
  with pytest.raises(ValueError, match=message):
    resolve({**GIVEN, **given})


def test_a_run_to_go_on_from_that_is_not_there_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=f'--resume_from={tmp_path}/none does not exist; exp'):
    resolve({**GIVEN, 'resume_from': str(tmp_path / 'none')})
  with pytest.raises(FileNotFoundError, match=f'{tmp_path}/config.json is not there; expected the'):
    resolve({**GIVEN, 'resume_from': str(tmp_path)})


def test_a_flag_without_the_one_that_it_needs_is_not_silent(caplog):
  """Of those that were given: a recipe may have one for whoever takes what it needs."""
  idle = {'randaugment_magnitude': 5, 'find_learning_rate_steps': 50, 'randaugment_std': 0.0}
  with caplog.at_level('WARNING', 'absl'):
    resolve({**GIVEN, **idle, 'checkpoint_exclude_scopes': 'InceptionV3/Logits'})
    resolve({**GIVEN, 'recipe': 'a3', 'randaugment_layers': 0})
    resolve({**GIVEN, 'randaugment_magnitude': 5, 'randaugment_layers': 2})
  assert caplog.messages == [
    '--find_learning_rate_steps changes nothing without --find_learning_rate',
    '--randaugment_magnitude changes nothing without --randaugment_layers',
    '--checkpoint_exclude_scopes changes nothing without --checkpoint_path',
  ]


def test_round_trip_and_files_that_are_not_there_or_broken(tmp_path):
  assert config_json.read(str(tmp_path)) is None
  written = resolve({**GIVEN, 'moving_average_decay': 0.5})
  config_json.write(str(tmp_path), written, {'num_classes': 10})
  found = config_json.read(str(tmp_path))
  assert found.pop('run') == {'num_classes': 10}
  assert flags.build(Config, found) == written
  (path,) = tmp_path.iterdir()
  path.write_text('{"a": 1')
  with pytest.raises(ValueError, match='config.json is no valid JSON'):
    config_json.read(str(tmp_path))
