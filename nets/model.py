"""A net that owns its variables: the TF2 side of the net functions."""

import abc
import contextlib
import copy
import functools
import os
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from . import (
  checkpoints,
  convolution,
  folding,
  initial_values,
  layer_support,
  layers,
  model_inputs,
  slim,
)
from .config import ModelConfig
from .geometry import spatial_size
from .heads import AUX_LOGITS
from .net import NetworkFn

_Self = TypeVar('_Self', bound='NetModule')


class NetModule(tf.Module, abc.ABC):
  """Calls a net function with variables of its own, which have slim's names.

  The net function asks for variables by `tf.compat.v1.get_variable`, as in a TF1 graph; the
  outermost variable scope answers with ours. So one definition runs eagerly, in `tf.function` and
  under a `tf.distribute.Strategy` (create the module in `strategy.scope()`). `Model` and
  `feature_pyramid.FeaturePyramid` say what a call gives.

  `copy.deepcopy` and pickle carry the configuration and the values of the variables; `clone` and
  `from_config` the configuration alone. A copy belongs to the strategy in whose scope it is made,
  if any, or to that of the original.

  `tf.saved_model.save(module, path)` writes what is called with [N, H, W, C] float32 images of any
  size and gives a dictionary, and has a signature; see `outputs`.

  Args:
    config: what `nets_factory.create_model` was told.
  """

  def __init__(self, config: ModelConfig):
    super().__init__(name=config.net.name)
    self.config = config
    self._network_fn = self._make_network_fn()
    self._strategy = tf.distribute.get_strategy()
    self._variables_by_name: dict[str, tf.Variable] = {}
    self._regularizers: dict[str, Callable[[tf.Tensor], tf.Tensor | None]] = {}
    self.untrained: frozenset[tuple[str, int]] = frozenset()  # see `mark_untrained`
    self._is_trainable = True
    self._has_seen_images = False
    self._is_built = False
    self._output_channels = self._build()
    self._is_built = True
    # A SavedModel is called by the tf.function of that name; `model(images)` is the class's method.
    # By weak reference: a cycle would keep the variables until Python looks for cycles.
    proxy = weakref.proxy(self)
    images = tf.TensorSpec((None, None, None, config.input_channels), tf.float32, 'images')
    self.__dict__['__call__'] = tf.function(
      lambda images: proxy.outputs(images), input_signature=[images], autograph=False
    )

  @abc.abstractmethod
  def _make_network_fn(self) -> NetworkFn:
    """Called as `network_fn(images, is_training=...)`; returns an output and end points."""

  @abc.abstractmethod
  def outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What a SavedModel of this gives for [N, H, W, C] images in [-1, 1]."""

  def _build(self) -> tuple[int, ...]:
    """Creates the variables; returns the channels of what the net function returns."""
    size = self.image_size
    images = tf.TensorSpec((1, size, size, self.input_channels), tf.float32)
    with self._strategy.scope(), tf.init_scope():
      # Tracing alone creates variables; nothing is computed. (tf.function would trace twice, as
      # ever when the first time creates variables: a quarter more time.)
      run = functools.partial(self._run, is_training=False)
      outputs, _ = tf.compat.v1.wrap_function(run, [images]).structured_outputs
      return tuple(output.shape[-1] for output in tf.nest.flatten(outputs))

  @property
  def image_size(self) -> int:
    """Pixels a side that the variables are made for."""
    return self.config.image_size or self.config.net.default_image_size

  @property
  def input_channels(self) -> int:
    """Of the images."""
    return self.config.input_channels

  def __repr__(self) -> str:
    return f'{type(self).__name__}({self.config})'

  def get_config(self) -> dict[str, Any]:
    """How this was made, without the weights: what JSON can hold, for `from_config`.

    Raises:
      ValueError: arg scope or arguments have functions that are neither of `tf.nn` nor of
        `nets.layers`.
    """
    return self.config.to_json()

  @classmethod
  def from_config(cls: type[_Self], config: Mapping[str, Any]) -> _Self:
    """Another one made like that which gave `config`, with fresh weights."""
    return cls(ModelConfig.from_json(config))

  def clone(self: _Self, **changes: Any) -> _Self:
    """Another one made like this, with fresh weights; `copy.deepcopy` copies these too.

    Args:
      **changes: arguments of `create_model` that are to be others: `num_classes`, `arg_scope`, ...
    """
    with self._strategy_scope():
      return type(self)(self.config.replace(**changes))

  def _strategy_scope(self) -> contextlib.AbstractContextManager:
    """The strategy's scope that is open, or that of this module's own."""
    return contextlib.nullcontext() if tf.distribute.has_strategy() else self._strategy.scope()

  def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
    copied = memo[id(self)] = self.clone()
    for name, variable in self._variables_by_name.items():
      if id(variable) in memo:  # what holds both has come to the variable first
        copied._variables_by_name[name] = memo[id(variable)]
      else:
        memo[id(variable)] = copied._variables_by_name[name]
        copied._variables_by_name[name].assign(variable.read_value())
    for name, value in self._state().items():
      setattr(copied, name, copy.deepcopy(value, memo))
    return copied

  def __reduce__(self):
    values = {name: v.read_value().numpy() for name, v in self._variables_by_name.items()}
    return _unpickle, (type(self), self.config, values), self._state()

  def __setstate__(self, state: dict[str, Any]) -> None:
    for name, value in state.items():
      setattr(self, name, value)

  def _state(self) -> dict[str, Any]:
    """`trainable`, and the attributes that others have added."""
    added = {name: v for name, v in vars(self).items() if name != 'config' and name[0] != '_'}
    return {'trainable': self.trainable, **added}

  def _run(
    self, images: tf.Tensor, *, dropout_seed: tf.Tensor | None = None, **kwargs: Any
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    seeds = {} if dropout_seed is None else {'seed': dropout_seed}
    with (
      slim.exclusively(),
      layer_support.sharing_tensors(),
      convolution.training(kwargs.get('is_training') is True),
      slim.arg_scope(self.config.arg_scope),
      slim.arg_scope([layers.dropout, layers.drop_path], **seeds),
      slim.arg_scope([layers.batch_norm], **({} if self.trainable else {'frozen': True})),
      tf.compat.v1.variable_scope(
        tf.compat.v1.get_variable_scope(), custom_getter=self._get_variable
      ),
    ):
      return self._network_fn(images, **kwargs)

  @property
  def trainable(self) -> bool:
    """Whether there is something to train, True at first; to be set before a function is traced.

    False is what Keras makes of it: no trainable variables, no regularization loss, and batch norm
    that keeps and takes its averages, also where `training=True`. Besides, the variables have no
    gradients, which keeps those from being trained who list them by other ways: a `tf.Module` that
    holds this one goes by `tf.Variable.trainable`, which nothing can change.
    """
    return self._is_trainable

  @trainable.setter
  def trainable(self, value: bool) -> None:
    if not isinstance(value, bool):
      raise ValueError(f'trainable is {value!r}; it must be True or False')
    self._is_trainable = value

  @property
  def variables_by_name(self) -> Mapping[str, tf.Variable]:
    """{'InceptionV4/Conv2d_1a_3x3/weights': variable, ...} in the order of creation."""
    return self._variables_by_name

  @property
  def variables(self) -> tuple[tf.Variable, ...]:
    """All variables, moving statistics included, in the order of creation."""
    return tuple(self._variables_by_name.values())

  @property
  def trainable_variables(self) -> tuple[tf.Variable, ...]:
    """The variables that have gradients, in the order of creation; none if not `trainable`."""
    return tuple(v for v in self.variables if v.trainable and self.trainable)

  @property
  def non_trainable_variables(self) -> tuple[tf.Variable, ...]:
    """The others."""
    return tuple(v for v in self.variables if not (v.trainable and self.trainable))

  @property
  def regularized_names(self) -> frozenset[str]:
    """The variables that weight decay is for: of slim's nets the weights, no biases or betas."""
    return frozenset(self._regularizers) if self.trainable else frozenset()

  def regularization_loss(self) -> tf.Tensor:
    """The sum of the regularizers of the arg scope (weight decay) over the variables, float32."""
    losses = [
      regularizer(self._variables_by_name[name])
      for name, regularizer in self._regularizers.items()
      if self.trainable
    ]
    losses = [loss for loss in losses if loss is not None]  # a weight decay of 0 gives None
    return tf.add_n(losses) if losses else tf.constant(0.0)

  def restore(self, path: str | os.PathLike, **kwargs: Any) -> checkpoints.Restored:
    """Loads a checkpoint by slim's names; see `checkpoints.restore` for arguments and errors."""
    try:
      restored = checkpoints.restore(self.variables_by_name, path, **kwargs)
    except ValueError as error:
      if f'/{AUX_LOGITS}/' not in str(error):
        raise
      raise ValueError(
        f'{error}: the auxiliary head depends on the size of the images; create the net with the '
        f'image_size that the checkpoint was trained at (not {self.image_size}), or with '
        'create_aux_logits=False, as it is for training alone'
      ) from error
    self.mark_untrained(checkpoints.read_fresh(restored.path).intersection(restored.restored))
    return restored

  def save(self, path: str | os.PathLike) -> None:
    """Writes the variables as a checkpoint that slim's code opens."""
    fresh = [name for name, sum_then in self.untrained if self._checksum(name) == sum_then]
    checkpoints.save(path, self.variables_by_name, fresh=sorted(fresh))

  def mark_untrained(self, names: Iterable[str]) -> None:
    """Remembers that variables are random, as long as they have the values that they have now.

    `save` writes it down, so that no conversion takes them for trained. `create_model` marks what
    its `weights` lack, and `restore` what a checkpoint says of itself.
    """
    self.untrained |= {(name, self._checksum(name)) for name in names}

  def _checksum(self, name: str) -> int:
    return zlib.crc32(self.variables_by_name[name].read_value().numpy().tobytes())

  def _get_variable(
    self,
    getter: Callable,
    name: str,
    *,
    shape,
    dtype: tf.DType = tf.float32,
    initializer: Callable | None = None,
    regularizer: Callable | None = None,
    trainable: bool = True,
    synchronization=tf.VariableSynchronization.AUTO,
    aggregation=tf.VariableAggregation.NONE,
    **unused: Any,
  ) -> tf.Variable:
    """The custom getter: creates the variable outside of any function being traced, once."""
    del getter, unused
    initializer = initializer or tf.compat.v1.glorot_uniform_initializer()
    variable = self._variables_by_name.get(name)
    if variable is None and not self._is_built:
      with tf.init_scope():
        variable = self._variables_by_name[name] = initial_values.variable(
          lambda: initializer(shape, dtype=dtype),
          shape,
          dtype,
          trainable=trainable,
          name=name,
          synchronization=synchronization,
          aggregation=aggregation,
        )
      if regularizer is not None:
        self._regularizers[name] = regularizer
    if variable is None or variable.shape != tf.TensorShape(shape):
      here = 'no such variable' if variable is None else f'it is {variable.shape.as_list()}'
      raise ValueError(
        f'{name} is wanted with shape {list(shape)}, but in this model, made for {self.image_size} '
        f'x {self.image_size} pixels, {here}: create it with another image_size; where that '
        'of the images is unknown, say it (images.set_shape)'
      )
    return variable if self.trainable else tf.stop_gradient(variable)

  def _as_images(self, images: tf.Tensor) -> tf.Tensor:
    """The images as a tensor of a type that batch norm knows; see `model_inputs`."""
    preprocessing = self.config.net.preprocessing
    images = model_inputs.as_images(images, self.input_channels, preprocessing)
    if tf.executing_eagerly() and not self._has_seen_images:  # once: it costs a pass over them
      self._has_seen_images = True
      model_inputs.warn_of_range(images, preprocessing)
    return images


def _unpickle(kind: type[_Self], config: ModelConfig, values: Mapping[str, np.ndarray]) -> _Self:
  module = kind(config)
  for name, value in values.items():
    module.variables_by_name[name].assign(value)
  return module


class Model(NetModule):
  """A classifier, or the pooled features of one. Images are [N, 299, 299, 3] in [-1, 1]:

      model = nets_factory.create_model('inception_v4', num_classes=1001)
      model.restore('inception_v4.ckpt')
      logits, end_points = model(images)

  See `NetModule` for what it shares with `FeaturePyramid`.
  """

  def _make_network_fn(self) -> NetworkFn:
    config = self.config
    return functools.partial(
      config.net.network_fn, num_classes=config.num_classes, **config.arguments
    )

  def __call__(
    self,
    images: tf.Tensor,
    training: bool | tf.Tensor = False,
    dropout_seed: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logits and end points, as the net function returns them.

    Args:
      images: [N, H, W, C] in [-1, 1]; their type is that of the computation (float64, which
        batch norm does not know, counts as float32). N, H and W may be unknown while tracing.
      training: batch statistics, which move the averages, dropout and stochastic depth.
      dropout_seed: integers [2]; makes dropout and stochastic depth a function of them.

    Raises:
      ValueError: images of another type or shape, or too small or large for the net; or training
        at another size than `image_size`, if the auxiliary head has other variables there. What is
        known when the function runs, and no earlier, raises tf.errors.InvalidArgumentError then.
    """
    images, training = self._as_images(images), model_inputs.as_training(training)
    kwargs: dict[str, Any] = {}
    is_inference = not tf.is_tensor(training) and not training
    if is_inference and spatial_size(images) != (self.image_size, self.image_size):
      kwargs = self._without_auxiliary_head  # its last convolution is made for one size
    return self._run(images, is_training=training, dropout_seed=dropout_seed, **kwargs)

  def fold_batch_norm(self, into: 'Model | None' = None) -> 'Model':
    """The net for inference with batch norm folded into its weights: the same to 1e-4 or better.

    Args:
      into: a model that this has given before; it gets the weights as they are now.

    Returns:
      A model with `biases` in place of `BatchNorm/...`, of the same strategy.

    Raises:
      ValueError: a batch norm does not stand behind weights.
    """
    values = folding.fold(self.variables_by_name, folding.epsilon_of(self.config.arg_scope))
    if into is None:
      into = self.clone(arg_scope=folding.without_batch_norm(self.config.arg_scope))
    for name, value in values:
      into.variables_by_name[name].assign(value)
    return into

  def end_points(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What lies below the head, at inference: no logits are computed, so any size will do.

    Args:
      images: [N, H, W, C] in [-1, 1], as for a call; H and W may be unknown.
    """
    images = self._as_images(images)
    kwargs = {**self._without_auxiliary_head, 'num_classes': None}
    return self._run(images, is_training=False, **kwargs)[1]

  def features(self, images: tf.Tensor) -> tf.Tensor:
    """What the head pools, [N, h, w, C], at inference; of ResNet-v2 no end point is that.

    Args:
      images: as of `end_points`.
    """
    net, images = self.config.net, self._as_images(images)
    unpooled = {**self._without_auxiliary_head, **net.select(global_pool=False)}
    output, end_points = self._run(images, is_training=False, num_classes=None, **unpooled)
    return end_points.get(net.features, output)

  def outputs(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What a SavedModel of this gives for [N, H, W, C] images in [-1, 1], of any size.

    Returns:
      'logits' and 'predictions', their softmax, each [N, num_classes]; of a net without classes
      'features' alone.
    """
    images = self._as_images(images)
    net, _ = self._run(images, is_training=False, **self._without_auxiliary_head)
    if not self.config.num_classes:
      return {'features': net}
    return {'logits': net, 'predictions': tf.nn.softmax(net)}

  @property
  def _without_auxiliary_head(self) -> dict[str, Any]:
    return self.config.net.select(create_aux_logits=False)
