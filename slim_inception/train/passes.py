"""How many images a forward pass may have, and fewer of them where memory runs out."""

from absl import logging

from slim_inception import memory
from slim_inception.cluster import Cluster, describe_devices, gpus_of
from slim_inception.nets import checkpoint_files
from slim_inception.train import config_json
from slim_inception.train.config import Config
from slim_inception.train.loop import OutOfMemoryError
from slim_inception.train.plan import Stage, divided


def memory_limit(config: Config, cluster: Cluster) -> int | None:
  """Bytes that this process may take; None on GPUs, and where workers would have to agree."""
  text = config.devices.memory_limit
  if text is None or gpus_of(cluster.strategy) or cluster.count > 1:
    return None
  return memory.num_bytes(text)


def known_pass_pixels(config: Config, cluster: Cluster) -> int | None:
  """What a pass may have on these devices, as this run has learned before; None: nothing."""
  facts = (config_json.read(config.run.train_dir) or {}).get('run', {})
  same = facts.get('devices') == describe_devices(cluster.strategy)
  return facts.get('pass_pixels') if same else None


def smaller_passes(config: Config, cluster: Cluster, error: OutOfMemoryError) -> int:
  """The pixels of a pass of half the images, or fewer where the batch cannot be halved; says so.

  Raises:
    ValueError: there is nothing to divide, or batch norm is of the whole batch, or of a cluster one
      worker has failed and the others wait for it.
  """
  stage = error.stage
  each, pixels = stage.per_replica_batch, stage.image_size**2
  if each == 1 or config.model.sync_batch_norm or cluster.count > 1:
    raise out_of_memory(config, stage, str(error)) from error
  parts = divided(each, each // 2)
  latest = checkpoint_files.latest(config.run.train_dir)
  logging.warning(
    'Out of memory at step %d with %d images of %d x %d pixels a pass (%s): going on from %s with '
    '%d image(s) a pass and %d passes, the same %d images a step (batch norm takes the statistics '
    'of a pass)',
    error.step, each, stage.image_size, stage.image_size, error, latest or 'the start',
    each // parts, stage.accumulate_steps * parts, stage.global_batch_size,
  )  # fmt: skip
  return each // parts * pixels


def out_of_memory(config: Config, stage: Stage, reason: str) -> ValueError:
  """An error that says what to try; TensorFlow's own is a page."""
  each, size, advice = stage.per_replica_batch, stage.image_size, []
  if each > 1:
    advice.append(
      f'--batch_size={each // 2}, which with --accumulate_steps={2 * stage.accumulate_steps} is '
      'the same global batch'
    )
  if not config.devices.recompute:
    advice.append('--recompute')
  if config.devices.precision == 'float32':
    advice.append('--precision=bfloat16')
  images = f'{each} image{"s" if each > 1 else ""} of {size} x {size} pixels a pass'
  advice.append('a smaller net or smaller images')
  return ValueError(f'Out of memory with {images}: try {", or ".join(advice)} ({reason})')
