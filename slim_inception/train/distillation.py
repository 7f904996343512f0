"""Distillation: a net learns from the outputs and features of nets that are trained already.

The teachers see what the net sees, the same crop, flip, colours and mixture, in the values and the
size that they were trained on ("a good teacher is patient and consistent", arXiv:2106.05237). They
are evaluated as `slim-inception eval` does it: without dropout, batch norm folded in.

No variable of a teacher is in a checkpoint of the run. config.json has their paths and what
identifies their weights.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from slim_inception import choices, flags, needs, provenance
from slim_inception.datasets.dataset_factory import Dataset
from slim_inception.evaluate import config as eval_config
from slim_inception.evaluate.config import CheckpointsConfig, EnsembleRequest, Member
from slim_inception.evaluate.scorer import Scorer
from slim_inception.nets import checkpoint_files, summary
from slim_inception.preprocessing.preprocessing_factory import Preprocessing
from slim_inception.train.config import Config
from slim_inception.train.flag_groups import DistillationConfig

SCOPE = 'Distillation'  # of the projections
METRICS = ('distillation_loss', 'feature_loss')
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2


# The teachers


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A net that is trained already.

  Attributes:
    scorer: the net, loaded.
    path: as --teacher names it.
    identity: of its weights, see `checkpoint_files.identity`.
  """

  scorer: Scorer
  path: str
  identity: str

  @property
  def facts(self) -> dict[str, str]:
    """What config.json says of it."""
    checkpoint = os.path.abspath(self.scorer.loaded.prefix)
    model_name = self.scorer.member.model_name
    return {'checkpoint': checkpoint, 'model_name': model_name, 'identity': self.identity}


class Taught(NamedTuple):
  """What teachers say of a batch.

  Attributes:
    probabilities: [N, num_classes] float32 at the temperature, the mean over the teachers.
    features: of the only teacher, in the order of `Distillation.end_points`.
  """

  probabilities: tf.Tensor
  features: list[tf.Tensor]


def load_teachers(
  config: Config, dataset: Dataset, strategy: tf.distribute.Strategy
) -> list[Teacher]:
  """The nets of --teacher, in their order.

  Args:
    config: the flags.
    dataset: of the run: whose labels the teachers' outputs must be.
    strategy: what they compute on.

  Raises:
    FileNotFoundError: there is no such checkpoint.
    ValueError: it does not fit or is of other classes, or nothing says which net it is of.
  """
  teachers = []
  for member in _members(config.distillation):
    try:
      teachers.append(_load(member, config, dataset, strategy))
    except ValueError as error:
      raise ValueError(f'--teacher={member.checkpoint_path}: {error}') from error
    logging.info('Teacher %s', teachers[-1].scorer.describe())
  return teachers


def _load(
  member: Member, config: Config, dataset: Dataset, strategy: tf.distribute.Strategy
) -> Teacher:
  precision = config.devices.precision
  compute = eval_config.ComputeConfig(precision=precision)
  request = EnsembleRequest((member,), average='logits', compute=compute)
  # The number of outputs alone tells which are which: its run may have had other labels.
  scorer = Scorer(member._replace(labels_offset=None), request, dataset, strategy)
  offset = scorer.load(member.checkpoint_path).labels_offset
  if member.trained_on:
    folder = config.data.dataset_dir or ''
    provenance.check_classes(member.trained_on, dataset, folder, offset)
  return Teacher(scorer, member.checkpoint_path, checkpoint_files.identity(scorer.loaded.prefix))


def _members(config: DistillationConfig) -> tuple[Member, ...]:
  """The teachers as evaluation knows nets, each with what its run or its library says."""
  try:
    runs = eval_config.read_runs({'checkpoint_path': config.teacher})
  except FileNotFoundError as error:
    raise FileNotFoundError(f'--teacher: {error}') from error
  names, preprocessings, sizes = [], [], []
  each = flags.of_members(config, len(config.teacher))
  for prefix, folder, run, values in zip(
    runs.prefixes, runs.folders, runs.configs, each, strict=True
  ):
    name = values['teacher_model_name'] or run.get('model_name')
    if name is None:
      raise ValueError(
        f'--teacher_model_name must be given: {folder} has no config.json that says it'
      )
    needed = needs.of_weights(prefix, name, run)
    chosen = values['teacher_preprocessing_name'], values['teacher_image_size']
    if needed.released and not all(chosen):
      text = '%s (--teacher_preprocessing_name and --teacher_image_size override it)'
      logging.info(text, needed.describe())
    names.append(name)
    preprocessings.append(chosen[0] or needed.preprocessing_name)
    sizes.append(chosen[1] or needed.image_size)
  nets = flags.build(
    CheckpointsConfig,
    {
      'checkpoint_path': runs.prefixes,
      'model_name': names,
      'preprocessing_name': preprocessings,
      'eval_image_size': sizes,
    },
  )
  return eval_config.members(nets, runs._replace(paths=runs.prefixes))


def warn_of_changes(before: Mapping[str, Any], teachers: Sequence[Teacher]) -> None:
  """Says it where a run goes on with teachers of other weights.

  Args:
    before: the facts under 'run' of its config.json.
    teachers: of now.
  """
  then = {each['checkpoint']: each['identity'] for each in before.get('teachers', [])}
  for teacher in teachers:
    checkpoint = teacher.facts['checkpoint']
    if then and then.get(checkpoint) != teacher.identity:
      had = f'it was {then[checkpoint]}' if checkpoint in then else f'they were {", ".join(then)}'
      text = 'Changed since the last start: --teacher=%s has weights %s, %s'
      logging.warning(text, checkpoint, teacher.identity, had)


# What a teacher sees


def check_views(student: Preprocessing, teachers: Sequence[Teacher]) -> None:
  """Raises ValueError where nothing leads from the net's images back to pixels."""
  if student.normalization.constants['mean'] is not None:
    return
  for teacher in teachers:
    spec = teacher.scorer.member.spec
    if spec.preprocessing.normalization != student.normalization:
      raise ValueError(
        f'--teacher={teacher.path} takes images of {spec.preprocessing.name}, which cannot be made '
        f'of those of {student.name}: each of these has a mean of its own'
      )


def teacher_view(
  images: tf.Tensor, student: Preprocessing, teacher: Preprocessing, image_size: int
) -> tf.Tensor:
  """The images of a net as its teacher takes them: its values, channels and size.

  Args:
    images: [N, H, W, C] as the net is given them, any float type.
    student: whose images they are; its normalization has constants, or is the teacher's.
    teacher: of the result.
    image_size: of the result in pixels a side; resized bilinearly where it is another.

  Returns:
    [N, image_size, image_size, C'], of the type of `images`.
  """
  dtype = images.dtype
  if (student.normalization, student.channels) != (teacher.normalization, teacher.channels):
    pixels = student.normalization.to_pixels(images)
    if teacher.channels > student.channels:
      pixels = tf.repeat(pixels, teacher.channels, axis=-1)
    elif teacher.channels < student.channels:
      pixels = tf.reduce_sum(pixels * tf.constant(_LUMA), axis=-1, keepdims=True)
    images = teacher.normalize(pixels)
  if images.shape[1:3] != (image_size, image_size):
    images = tf.image.resize(tf.cast(images, tf.float32), (image_size, image_size))
  return tf.cast(images, dtype)


# The losses


def divergence(
  logits: tf.Tensor, probabilities: tf.Tensor, temperature: float, of: str = 'softmax'
) -> tf.Tensor:
  """T^2 times the mean divergence of a net from its teacher (arXiv:1503.02531 section 2).

  The factor keeps the size of the gradients, which fall by 1 / T^2.

  Args:
    logits: [N, K] of the net.
    probabilities: [N, K] of the teacher at the temperature.
    temperature: T; the net's logits are divided by it.
    of: what makes probabilities of logits. softmax: KL divergence of distributions over the
      classes, mean over images; sigmoid: of each class for itself, mean over images and classes.

  Returns:
    float32 scalar, 0 where both are the same.
  """
  scaled, p = logits / temperature, tf.stop_gradient(probabilities)
  if of == 'softmax':
    entropy = -tf.reduce_sum(tf.math.xlogy(p, p), -1)
    excess = tf.nn.softmax_cross_entropy_with_logits(p, scaled) - entropy
  else:
    entropy = -tf.math.xlogy(p, p) - tf.math.xlogy(1.0 - p, 1.0 - p)
    excess = tf.nn.sigmoid_cross_entropy_with_logits(p, scaled) - entropy
  return temperature**2 * tf.reduce_mean(excess)


def attention_loss(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
  """How far apart are the places where features are large (arXiv:1612.03928 equation 2, p = 2).

  Maps are the sums of squares over the channels, of length 1; their squared distance is averaged
  over the images. The depth of the two may differ; of other sizes the teacher's is resized.

  Args:
    student: [N, h, w, C].
    teacher: [N, h', w', C'].
  """

  def attention(features: tf.Tensor) -> tf.Tensor:
    maps = tf.reduce_sum(tf.square(tf.cast(features, tf.float32)), -1)
    return tf.math.l2_normalize(tf.reshape(maps, (tf.shape(maps)[0], -1)), -1)

  distance = attention(student) - attention(_resized_like(student, teacher))
  return tf.reduce_mean(tf.reduce_sum(tf.square(distance), -1))


def projection_loss(student: tf.Tensor, teacher: tf.Tensor, projection: tf.Tensor) -> tf.Tensor:
  """How far a linear map of the features is from the teacher's (FitNets' hints, arXiv:1412.6550).

  Differs from the paper: the map is 1 x 1 and has no bias, and the mean squared distance is divided
  by the mean square of the teacher's features, so that a weight means the same for all nets.

  Args:
    student: [N, h, w, C].
    teacher: [N, h', w', C'], resized to h, w where these are others.
    projection: [C, C'] float32.
  """
  mapped = tf.einsum('nhwc,cd->nhwd', tf.cast(student, tf.float32), projection)
  hint = tf.cast(_resized_like(student, teacher), tf.float32)
  distance = tf.reduce_mean(tf.square(mapped - hint))
  return tf.math.divide_no_nan(distance, tf.reduce_mean(tf.square(hint)))


def _resized_like(student: tf.Tensor, teacher: tf.Tensor) -> tf.Tensor:
  size = student.shape[1:3]
  if teacher.shape[1:3] == size:
    return teacher
  return tf.image.resize(tf.cast(teacher, tf.float32), size)


# Both


class Distillation:
  """What a run learns from teachers.

  Args:
    config: the flags.
    teachers: loaded; at least one.
    preprocessing: of the run's images.
    image_size: their side in pixels.

  Attributes:
    end_points: (of the net, of the teacher) whose features are compared; () without a weight.

  Raises:
    ValueError: an end point is not there, or the teacher cannot see what the net sees.
  """

  def __init__(
    self,
    config: Config,
    teachers: Sequence[Teacher],
    preprocessing: Preprocessing,
    image_size: int,
  ):
    check_views(preprocessing, teachers)
    self.teachers = teachers
    self._config = config.distillation
    self._probabilities = choices.probabilities_of(config.loss.loss)
    self._aux_loss_weight = config.loss.aux_loss_weight
    self._preprocessing = preprocessing
    self._labels_offset = config.data.labels_offset
    self.end_points: list[tuple[str, str]] = []
    self._widths: list[tuple[int, int]] = []
    if self._config.distill_feature_weight:
      model, member = config.model, teachers[0].scorer.member
      own = _widths(model.model_name, image_size, model.depth_multiplier)
      theirs = _widths(member.model_name, member.spec.image_size, member.depth_multiplier)
      last = list(own)[-1], list(theirs)[-1]
      self.end_points = list(self._config.distill_end_points) or [last]
      for pair in self.end_points:
        names = (model.model_name, member.model_name)
        for name, point, known in zip(names, pair, (own, theirs), strict=True):
          if point not in known:
            raise ValueError(
              f'--distill_end_points={flags.as_text(self.end_points)}: {name} has no end point '
              f'{point}; its body has {", ".join(known)}'
            )
        self._widths.append((own[pair[0]], theirs[pair[1]]))

  @property
  def variables(self) -> dict[str, tf.Variable]:
    """Those of the teachers, which are read alone, by names that no others have."""
    return {
      f'{SCOPE}/teacher_{i}/{name}': variable
      for i, teacher in enumerate(self.teachers)
      for name, variable in teacher.scorer.model.variables_by_name.items()
    }

  def make_projections(self, seed: int) -> dict[str, tf.Variable]:
    """The variables of --distill_feature_loss=projection by name; call it in `strategy.scope()`."""
    if self._config.distill_feature_loss != 'projection':
      return {}
    projections = {}
    for i, shape in enumerate(self._widths):
      limit = np.sqrt(6.0 / sum(shape))  # Glorot's
      value = tf.random.stateless_uniform(shape, (seed % 2**31, i), -limit, limit)
      name = _projection_name(i)
      projections[name] = tf.Variable(value, name=name)
    return projections

  def teach(self, images: tf.Tensor) -> Taught:
    """What the teachers say of [N, H, W, C] images as the net is given them; no gradient."""
    probabilities, features = [], []
    for teacher in self.teachers:
      spec = teacher.scorer.member.spec
      view = teacher_view(images, self._preprocessing, spec.preprocessing, spec.image_size)
      logits, end_points = teacher.scorer.model(view, training=False)
      probabilities.append(self._of_outputs(logits, teacher.scorer.loaded.labels_offset))
      features = [tf.stop_gradient(end_points[theirs]) for _, theirs in self.end_points]
    mean = tf.add_n(probabilities) / len(probabilities)
    return Taught(tf.stop_gradient(mean), features)

  def _of_outputs(self, logits: tf.Tensor, labels_offset: int) -> tf.Tensor:
    """Probabilities [N, num_classes] at the temperature in the order of the net's outputs.

    What is a background to one alone has probability 0.

    Args:
      logits: [N, outputs] of a teacher.
      labels_offset: label - output, of the teacher.
    """
    extra = labels_offset - self._labels_offset  # outputs that the net alone has, if above 0
    scaled = tf.cast(logits, tf.float32)[:, max(0, -extra) :] / self._config.distill_temperature
    function = tf.nn.sigmoid if self._probabilities == 'sigmoid' else tf.nn.softmax
    probabilities = function(scaled)
    return tf.pad(probabilities, ((0, 0), (max(0, extra), 0)))

  def add(
    self,
    metrics: Mapping[str, tf.Tensor],
    logits: tf.Tensor,
    end_points: Mapping[str, tf.Tensor],
    taught: Taught,
    projections: Mapping[str, tf.Variable],
  ) -> dict[str, tf.Tensor]:
    """The metrics of a pass with the teachers' part in 'loss', and `METRICS`.

    Args:
      metrics: of `losses.batch_losses`; 'loss' is that against the labels.
      logits: [N, K] float32.
      end_points: of the net; its auxiliary head, if it has one, learns from the teachers too.
      taught: of the same images.
      projections: of `make_projections`.
    """
    config = self._config

    def distance(of_head: tf.Tensor) -> tf.Tensor:
      temperature = config.distill_temperature
      return divergence(of_head, taught.probabilities, temperature, self._probabilities)

    own = distance(logits)
    total = own
    if 'AuxLogits' in end_points:
      total += self._aux_loss_weight * distance(end_points['AuxLogits'])
    weight = config.distill_weight
    feature_loss = self._feature_loss(end_points, taught.features, projections)
    loss = (1.0 - weight) * metrics['loss'] + weight * total
    loss += config.distill_feature_weight * feature_loss
    return {**metrics, 'loss': loss, 'distillation_loss': own, 'feature_loss': feature_loss}

  def _feature_loss(
    self,
    end_points: Mapping[str, tf.Tensor],
    features: Sequence[tf.Tensor],
    projections: Mapping[str, tf.Variable],
  ) -> tf.Tensor:
    """The mean over the pairs of end points, float32 scalar; 0 without any."""
    losses = []
    for i, ((own, _), theirs) in enumerate(zip(self.end_points, features, strict=True)):
      if projections:
        losses.append(projection_loss(end_points[own], theirs, projections[_projection_name(i)]))
      else:
        losses.append(attention_loss(end_points[own], theirs))
    return tf.add_n(losses) / len(losses) if losses else tf.constant(0.0)


def _projection_name(index: int) -> str:
  return f'{SCOPE}/projection_{index}/weights'


def _widths(model_name: str, image_size: int, depth_multiplier: float) -> dict[str, int]:
  """{end point of the body: its channels}, from the image on."""
  body = summary.summarize(model_name, image_size, depth_multiplier=depth_multiplier).body
  return {point: block.shape[-1] for block in body for point in block.end_points}
