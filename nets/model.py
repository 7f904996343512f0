"""A net that owns its variables: the TF2 side of the net functions."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tf_slim as slim

from nets import checkpoints, layers

NetworkFn = Callable[..., tuple[tf.Tensor, dict[str, tf.Tensor]]]


class Model(tf.Module):
  """Calls a net function; creates each variable once, under slim's name, and keeps it.

  The net function asks for variables by `tf.compat.v1.get_variable`, as in a TF1 graph; the
  outermost variable scope answers with ours. So one definition runs eagerly, in `tf.function` and
  under any `tf.distribute.Strategy` (create the model in `strategy.scope()`).

      model = nets_factory.create_model('inception_v4', num_classes=1001)
      model.restore('inception_v4.ckpt')
      logits, end_points = model(images)  # images: [N, 299, 299, 3] in [-1, 1]

  Args:
    network_fn: called as `network_fn(images, is_training=...)`.
    arg_scope: the arg scope to call it in, e.g. `inception_v4_arg_scope()`.
    image_size: pixels a side at which `build` makes the variables.
    channels: of the images.
    name: of the module.
  """

  def __init__(
    self,
    network_fn: NetworkFn,
    arg_scope: dict[str, Any],
    *,
    image_size: int,
    channels: int = 3,
    name: str | None = None,
  ):
    super().__init__(name=name)
    self.image_size = image_size
    self._channels = channels
    self._network_fn = network_fn
    self._arg_scope = arg_scope
    self._variables_by_name: dict[str, tf.Variable] = {}
    self._regularizers: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {}
    self._built = False

  def __call__(
    self,
    images: tf.Tensor,
    training: bool = False,
    dropout_seed: tf.Tensor | None = None,
  ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Logits and end points, as the net function returns them.

    Args:
      images: [N, H, W, C] in [-1, 1]; their type is that of the computation.
      training: batch statistics, which move the averages, and dropout.
      dropout_seed: integers [2]; makes dropout a function of them.
    """
    context = tf.distribute.get_replica_context()
    if not self._built and context and context.num_replicas_in_sync > 1:
      # Replicas are threads, and arg scopes belong to the process: no thread may wait for the
      # others in the middle of a net, as making a mirrored variable would have it.
      context.merge_call(lambda strategy: self.build())
    with (
      slim.arg_scope(self._arg_scope),
      _seeded_dropout(dropout_seed),
      tf.compat.v1.variable_scope(
        tf.compat.v1.get_variable_scope(), custom_getter=self._get_variable
      ),
    ):
      outputs = self._network_fn(tf.convert_to_tensor(images), is_training=training)
    self._built = True
    return outputs

  def build(self) -> None:
    """Creates the variables; needed only before the first call. Call it in `strategy.scope()`."""
    if not self._built:
      images = tf.TensorSpec((1, self.image_size, self.image_size, self._channels), tf.float32)
      # Tracing alone creates variables; nothing is computed.
      tf.function(self.__call__, autograph=False).get_concrete_function(images)

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

  def regularization_loss(self) -> tf.Tensor:
    """The sum of the regularizers of the arg scope (weight decay) over the variables, float32."""
    self.build()
    losses = [
      regularizer(self._variables_by_name[name]) for name, regularizer in self._regularizers.items()
    ]
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
    dtype: tf.DType,
    initializer: Callable,
    regularizer: Callable | None = None,
    trainable: bool = True,
    synchronization=tf.VariableSynchronization.AUTO,
    aggregation=tf.VariableAggregation.NONE,
    **unused: Any,
  ) -> tf.Variable:
    """The custom getter: creates the variable outside of any function being traced, once."""
    del getter, unused
    if name not in self._variables_by_name:
      with tf.init_scope():
        self._variables_by_name[name] = tf.Variable(
          lambda: initializer(shape, dtype=dtype),
          trainable=trainable,
          name=name,
          synchronization=synchronization,
          aggregation=aggregation,
        )
      if regularizer is not None:
        self._regularizers[name] = regularizer
    return self._variables_by_name[name]


def _seeded_dropout(seed: tf.Tensor | None) -> contextlib.AbstractContextManager:
  return contextlib.nullcontext() if seed is None else slim.arg_scope([layers.dropout], seed=seed)
