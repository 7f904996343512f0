"""Statistics of batch norm estimated anew, with the weights as they are.

Moving averages lag behind the weights: with slim's decay of 0.9997 a short run ends with averages
near where they began, and evaluation at chance while training looks perfect.
"""

import itertools

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
  batches = input_pipeline.record_batches(
    input_pipeline.Source(dataset, preprocessing, Distortion()),
    input_pipeline.InputOptions(
      model.image_size, batch_size, labels_offset, multi_label=dataset.multi_label
    ),
  )
  if num_batches * batch_size > dataset.num_samples:
    raise ValueError(
      f'--batch_norm_batches={num_batches} of {batch_size} images: {dataset.name} '
      f'{dataset.split_name} has {dataset.num_samples}'
    )
  statistics = {n: v for n, v in model.variables_by_name.items() if n.endswith(_STATISTICS)}

  @tf.function(autograph=False)
  def measure(images: tf.Tensor, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
    images = preprocessing.train_device(images, seeds, Distortion(), dtype)
    model(images, training=True)
    return {name: variable.read_value() for name, variable in statistics.items()}

  sums = {name: tf.zeros(variable.shape) for name, variable in statistics.items()}
  with ProgressBar('Estimating batch norm statistics', num_batches, 'batches') as bar:
    for batch in bar.track(itertools.islice(batches, num_batches)):
      measured = measure(batch['image'], batch['seed'])
      sums = {name: total + measured[name] for name, total in sums.items()}
  for name, variable in statistics.items():
    variable.assign(sums[name] / num_batches)
