"""What the examples share: a small net, and the least that a training loop has."""

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf
from slim_inception.nets import inception, nets_factory
from slim_inception.nets.feature_pyramid import FeaturePyramid


def small_net(**arguments) -> FeaturePyramid:
  """Inception-v3 with a quarter of its filters, up to stride 8 unless `create_model` is told."""
  return nets_factory.create_model(
    'inception_v3',
    features_only=True,
    depth_multiplier=0.25,
    arg_scope=inception.inception_v3_arg_scope(batch_norm_decay=0.8),  # for so few steps
    **{'strides': (8,), **arguments},
  )


def train(
  loss_of: Callable[..., tf.Tensor],
  variables: Sequence[tf.Variable],
  batches: Iterable[tuple],
  learning_rate: float = 0.003,
) -> float:
  """Takes a step of Adam with each batch; returns the last loss."""
  optimizer = tf.keras.optimizers.Adam(learning_rate)
  optimizer.build(variables)

  @tf.function(autograph=False)
  def step(*batch):
    with tf.GradientTape() as tape:
      loss = loss_of(*batch)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
    return loss

  for batch in batches:
    loss = step(*batch)
  return float(loss)
