"""What happens to training images before the net sees them, on the host and on the device."""

import dataclasses

import tensorflow as tf

from slim_inception.input.pipeline import Batch
from slim_inception.nets import nets_factory
from slim_inception.preprocessing import mixing, orientation, policies, preprocessing_factory
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing
from slim_inception.preprocessing.rand_augment import rand_augment
from slim_inception.preprocessing.sampling import of_view
from slim_inception.train import losses
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import AugmentConfig


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """The device's half of the work on images.

  Attributes:
    config: its flags.
    preprocessing: the family of distortions, and the values that the net takes.
    distortion: how the host and the device distort.
    dtype: of the result.
    num_views: in how many versions the net sees an image: as it is, and distorted otherwise by the
      policy in each of the others.
  """

  config: AugmentConfig
  preprocessing: Preprocessing
  distortion: Distortion
  dtype: tf.DType = tf.float32
  num_views: int = 1

  def sample_mix(self, batch: Batch) -> mixing.Mix | None:
    """How to mix a batch, by the seed of its first image; None without such flags."""
    if not (self.config.mixup_alpha or self.config.cutmix_alpha):
      return None
    return mixing.sample(batch['seed'][0], self.config.mixup_alpha, self.config.cutmix_alpha)

  def apply(self, batch: Batch, mix: mixing.Mix | None) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Images, and the share of each in its mixture (None: they are not mixed).

    The images are [N * num_views, H, W, C]: the whole batch in each of the views, in turn. Their
    crops, mirror images and colours are the same in all views.
    """
    images, seeds, config = batch['image'], batch['seed'], self.config
    if config.random_flip_vertical:
      images = orientation.flip_vertically(images, seeds)
    if config.random_rotation:
      images = orientation.rotate_by_quarters(images, seeds)
    if config.augment_policy:
      distort = policies.POLICIES[config.augment_policy]
      if self.num_views == 1:
        images = distort(images, seeds)
      else:
        others = [distort(images, of_view(seeds, i)) for i in range(1, self.num_views)]
        images = tf.concat([images, *others], 0)
        seeds = tf.tile(seeds, (self.num_views, 1))
    if config.randaugment_layers:
      images = rand_augment(
        images,
        seeds,
        config.randaugment_layers,
        config.randaugment_magnitude,
        config.randaugment_std,
        config.randaugment_probability,
      )
    images = self.preprocessing.train_device(images, seeds, self.distortion, self.dtype)
    if config.random_erasing:
      normalization = self.preprocessing.normalization
      images = mixing.erase(images, seeds, config.random_erasing, normalization)
    return (images, None) if mix is None else mixing.mix(images, mix)


def make_augmentation(config: Config) -> Augmentation:
  """The augmentation that the flags ask for."""
  chosen = config.augment
  name = chosen.preprocessing_name or nets_factory.get_net(config.model.model_name).preprocessing
  distortion = Distortion(
    area_range=(chosen.min_crop_area, 1.0),
    random_flip=chosen.random_flip,
    color=chosen.distort_color,
    fast_mode=chosen.fast_mode,
  )
  preprocessing = preprocessing_factory.get(name, config.model.input_channels)
  dtype = tf.as_dtype(config.devices.precision)
  num_views = losses.NUM_VIEWS if config.loss.jsd_weight else 1
  return Augmentation(chosen, preprocessing, distortion, dtype, num_views)
