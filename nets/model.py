"""A net that owns its variables: the TF2 side of the net functions."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from . import checkpoints, folding, layers, slim
from .geometry import spatial_size
from .net import ArgScope, NetworkFn


class NetModule(tf.Module):
  """Calls a net function; creates each variable once, under slim's name, and keeps it.

  The net function asks for variables by `tf.compat.v1.get_variable`, as in a TF1 graph; the
  outermost variable scope answers with ours. So one definition runs eagerly, in `tf.function` and
  under a `tf.distribute.Strategy` (create the module in `strategy.scope()`). `Model` and
  `feature_pyramid.FeaturePyramid` say what a call gives.

  Args:
    network_fn: called as `network_fn(images, is_training=...)`; returns an output and end points.
    arg_scope: the arg scope to call it in, e.g. `inception_v4_arg_scope()`.
    image_size: pixels a side that the variables are made for.
    input_channels: of the images.
    name: of the module.
  """

  def __init__(
    self,
    network_fn: NetworkFn,
    arg_scope: ArgScope,
    *,
    image_size: int,
    input_channels: int = 3,
    name: str | None = None,
  ):
    super().__init__(name=name)
    self.image_size = image_size
    self.input_channels = input_channels
    self._network_fn = network_fn
    self._arg_scope = arg_scope
    self._strategy = tf.distribute.get_strategy()
    self._variables_by_name: dict[str, tf.Variable] = {}
    self._regularizers: dict[str, Callable[[tf.Tensor], tf.Tensor | None]] = {}
    self._output_channels: tuple[int, ...] = ()  # of what the net function returns, once built
    self._built = False

  def _run(
    self, images: tf.Tensor, *, dropout_seed: tf.Tensor | None = None, **kwargs: Any
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    with (
      slim.exclusively(),
      slim.arg_scope(self._arg_scope),
      slim.arg_scope([layers.dropout], **({} if dropout_seed is None else {'seed': dropout_seed})),
      tf.compat.v1.variable_scope(
        tf.compat.v1.get_variable_scope(), custom_getter=self._get_variable
      ),
    ):
      return self._network_fn(images, **kwargs)

  def build(self) -> None:
    """Creates the variables, for the strategy that the model was created under, if not yet done."""
    if self._built:
      return
    context = tf.distribute.get_replica_context()
    if context and context.num_replicas_in_sync > 1:
      # Replicas are threads. None may wait for the others in the middle of a net, as making a
      # mirrored variable would have it.
      context.merge_call(lambda strategy: self.build())
      return
    shape = 1, self.image_size, self.image_size, self.input_channels
    images = tf.TensorSpec(shape, tf.float32)
    with self._strategy.scope(), tf.init_scope():
      # Tracing alone creates variables; nothing is computed. (tf.function would trace twice, as
      # ever when the first time creates variables: a quarter more time.)
      run = functools.partial(self._run, is_training=False)
      outputs, _ = tf.compat.v1.wrap_function(run, [images]).structured_outputs
      self._output_channels = tuple(output.shape[-1] for output in tf.nest.flatten(outputs))
    self._built = True

  @property
  def variables_by_name(self) -> Mapping[str, tf.Variable]:
    """{'InceptionV4/Conv2d_1a_3x3/weights': variable, ...} in the order of creation."""
    self.build()
    return self._variables_by_name

  @property
  def variables(self) -> tuple[tf.Variable, ...]:
    """All variables, moving statistics included, in the order of creation."""
    return tuple(self.variables_by_name.values())

  @property
  def trainable_variables(self) -> tuple[tf.Variable, ...]:
    """The variables that have gradients, in the order of creation."""
    return tuple(variable for variable in self.variables if variable.trainable)

  @property
  def regularized_names(self) -> frozenset[str]:
    """The variables that weight decay is for: of slim's nets the weights, no biases or betas."""
    self.build()
    return frozenset(self._regularizers)

  def regularization_loss(self) -> tf.Tensor:
    """The sum of the regularizers of the arg scope (weight decay) over the variables, float32."""
    self.build()
    losses = [
      regularizer(self._variables_by_name[name]) for name, regularizer in self._regularizers.items()
    ]
    losses = [loss for loss in losses if loss is not None]  # a weight decay of 0 gives None
    return tf.add_n(losses) if losses else tf.constant(0.0)

  def restore(self, path: str, **kwargs: Any) -> checkpoints.Restored:
    """Loads a checkpoint by slim's names; see `checkpoints.restore` for the arguments."""
    return checkpoints.restore(self.variables_by_name, path, **kwargs)

  def save(self, path: str) -> None:
    """Writes the variables as a checkpoint that slim's code opens."""
    checkpoints.save(path, self.variables_by_name)

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
    if variable is None and not self._built:
      with tf.init_scope():
        variable = self._variables_by_name[name] = tf.Variable(
          lambda: initializer(shape, dtype=dtype),
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
        f'x {self.image_size} pixels, {here}: create it with another image_size'
      )
    return variable

  def _as_images(self, images: tf.Tensor) -> tf.Tensor:
    """The images as a tensor of a type that batch norm knows.

    Raises:
      ValueError: they have other channels than the net.
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank != 4 or images.shape[3] != self.input_channels:
      raise ValueError(
        f'Images of shape {images.shape} are given to a net of [N, H, W, {self.input_channels}]: '
        'create_model has input_channels'
      )
    return tf.cast(images, tf.float32) if images.dtype == tf.float64 else images


class Model(NetModule):
  """A classifier, or the pooled features of one. Images are [N, 299, 299, 3] in [-1, 1]:

      model = nets_factory.create_model('inception_v4', num_classes=1001)
      model.restore('inception_v4.ckpt')
      logits, end_points = model(images)

  See `NetModule` for the other arguments.

  Args:
    without_auxiliary_head: arguments of the net function that leave its auxiliary head out.
  """

  def __init__(
    self,
    network_fn: NetworkFn,
    arg_scope: ArgScope,
    *,
    without_auxiliary_head: Mapping[str, Any] | None = None,
    **kwargs: Any,
  ):
    super().__init__(network_fn, arg_scope, **kwargs)
    self._without_auxiliary_head = dict(without_auxiliary_head or {})

  def __call__(
    self,
    images: tf.Tensor,
    training: bool | tf.Tensor = False,
    dropout_seed: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logits and end points, as the net function returns them.

    Args:
      images: [N, H, W, C] in [-1, 1]; their type is that of the computation (float64, which
        batch norm does not know, counts as float32).
      training: batch statistics, which move the averages, and dropout.
      dropout_seed: integers [2]; makes dropout a function of them.

    Raises:
      ValueError: training at another size than `image_size`, if the auxiliary head has other
        variables there.
    """
    self.build()
    images = self._as_images(images)
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
    values = folding.fold(self.variables_by_name, folding.epsilon_of(self._arg_scope))
    if into is None:
      with self._strategy.scope():
        into = Model(
          self._network_fn,
          folding.without_batch_norm(self._arg_scope),
          image_size=self.image_size,
          input_channels=self.input_channels,
          name=self.name,
          without_auxiliary_head=self._without_auxiliary_head,
        )
    for name, variable in into.variables_by_name.items():
      variable.assign(values[name])
    return into

  def end_points(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What lies below the head, at inference: no logits are computed, so any size will do.

    Args:
      images: [N, H, W, C] in [-1, 1], as for a call; H and W may be unknown.
    """
    self.build()
    images = self._as_images(images)
    kwargs = {**self._without_auxiliary_head, 'num_classes': None}
    return self._run(images, is_training=False, **kwargs)[1]
