"""Statistics of batch norm estimated anew, with the weights as they are.

Moving averages lag behind the weights: with slim's decay of 0.9997 a short run ends with averages
near where they began, and evaluation at chance while training looks perfect.
"""

import itertools
from collections.abc import Mapping

import tensorflow as tf

from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.datasets.progress_bar import ProgressBar
from slim_inception.input import pipeline as input_pipeline
from slim_inception.nets.model import Model
from slim_inception.preprocessing.inception_preprocessing import Distortion
from slim_inception.preprocessing.preprocessing_factory import Preprocessing

# The decay that the model is made with: its averages are those of the last batch.
BATCH_NORM_DECAY = 0.0
_STATISTICS = ('/moving_mean', '/moving_variance')


class Estimation:
  """Estimates of batch norm's means and variances; what it computes with is traced once.

  Args:
    model: made with `BATCH_NORM_DECAY`.
    source: the training split, and how its images are distorted.
    batch_size: images in a batch.
    labels_offset: of the run.
    dtype: of the computation.
  """

  def __init__(
    self,
    model: Model,
    source: input_pipeline.Source,
    *,
    batch_size: int,
    labels_offset: int = 0,
    dtype: tf.DType = tf.float32,
  ):
    self._model = model
    self._source = source
    self._options = input_pipeline.InputOptions(
      model.image_size, batch_size, labels_offset, multi_label=source.dataset.multi_label
    )
    self._statistics = {
      name: v for name, v in model.variables_by_name.items() if name.endswith(_STATISTICS)
    }

    @tf.function(autograph=False)
    def measure(images: tf.Tensor, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
      images = source.preprocessing.train_device(images, seeds, source.distortion, dtype)
      model(images, training=True)
      return {name: variable.read_value() for name, variable in self._statistics.items()}

    self._measure = measure

  def of(self, weights: Mapping[str, tf.Tensor], num_batches: int) -> dict[str, tf.Tensor]:
    """{moving mean or variance: its mean over the first batches}.

    Args:
      weights: values of the variables of the model; those that it does not have are left out.
      num_batches: how many.

    Raises:
      ValueError: the data set has fewer images.
    """
    for name, variable in self._model.variables_by_name.items():
      variable.assign(weights[name])
    return self.measure(num_batches)

  def measure(self, num_batches: int) -> dict[str, tf.Tensor]:
    """As `of`, with the weights that the model has."""
    check_size(self._source.dataset, num_batches, self._options.batch_size)
    batches = input_pipeline.record_batches(self._source, self._options)
    sums = {name: tf.zeros(variable.shape) for name, variable in self._statistics.items()}
    with ProgressBar('Estimating batch norm statistics', num_batches, 'batches') as bar:
      for batch in bar.track(itertools.islice(batches, num_batches)):
        measured = self._measure(batch['image'], batch['seed'])
        sums = {name: total + measured[name] for name, total in sums.items()}
    return {name: total / num_batches for name, total in sums.items()}


def check_size(dataset: Dataset, num_batches: int, batch_size: int) -> None:
  """Raises ValueError where a data set has fewer images than so many batches."""
  if num_batches * batch_size > dataset.num_samples:
    raise ValueError(
      f'--batch_norm_batches={num_batches} of {batch_size} images: {dataset.name} '
      f'{dataset.split_name} has {dataset.num_samples}'
    )


def estimate(
  model: Model,
  dataset: Dataset,
  preprocessing: Preprocessing,
  num_batches: int,
  *,
  batch_size: int,
  labels_offset: int = 0,
  dtype: tf.DType = tf.float32,
) -> None:
  """Sets moving means and variances to the mean over the first batches of a training set.

  Args:
    model: made with `BATCH_NORM_DECAY`, its weights restored.
    dataset: the training split, which is seen through slim's training distortion.
    preprocessing: of the net.
    num_batches: how many.
    batch_size: images in each.
    labels_offset: of the run.
    dtype: of the computation.

  Raises:
    ValueError: the data set has fewer images.
  """
  source = input_pipeline.Source(dataset, preprocessing, Distortion())
  estimation = Estimation(
    model, source, batch_size=batch_size, labels_offset=labels_offset, dtype=dtype
  )
  for name, value in estimation.measure(num_batches).items():
    model.variables_by_name[name].assign(value)
