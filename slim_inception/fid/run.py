"""Two sets of images to the figures of one beside the other."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from slim_inception import files
from slim_inception.datasets.files import json_text, write_json
from slim_inception.datasets.progress_bar import ProgressBar, hidden
from slim_inception.fid import figures, image_sets, statistics
from slim_inception.fid.config import STANDARD_OUTPUT, FidConfig, FiguresConfig
from slim_inception.fid.features import Extractor, Features
from slim_inception.fid.figures import Statistics
from slim_inception.fid.image_sets import ImageSet
from slim_inception.fid.statistics import FEATURES, Moments, StoredStatistics
from slim_inception.nets.convert import fid as fid_weights

_BATCH = 512  # images whose features are summed up at once
_NAMES = {'kid': 'KID', 'precision_recall': 'precision and recall'}  # of images, not of statistics


class Measured(NamedTuple):
  """A set, and what figures are made of.

  Attributes:
    name: of the set.
    pooled: of all images, or those of the file.
    spatial: likewise, for sFID; None where a file has none.
    features: [N, 2048] float32; None of statistics alone.
    spatial_features: [N, 2023] float32 where images are fewer than features, else None.
    digests: {digest: name} of the images.
    failed: images that cannot be read.
  """

  name: str
  pooled: Statistics | None
  spatial: Statistics | None
  features: np.ndarray | None = None
  spatial_features: np.ndarray | None = None
  digests: Mapping[bytes, str] = {}
  failed: int = 0


class Outcome(NamedTuple):
  """What a measurement has given.

  Attributes:
    values: {figure: value} in order of the flags; of some besides `..._deviation`.
    lines: for people.
    notes: what is to be known of the figures.
    failed: images that cannot be read.
  """

  values: dict[str, float]
  lines: list[str]
  notes: list[str]
  failed: int


def measure(operands: Sequence[str], config: FidConfig, complain: Callable[[str], None]) -> Outcome:
  """Measures the second set beside the first, or the first alone; writes what the flags ask for.

  Args:
    operands: one set or two, see `image_sets.open_set`.
    config: how.
    complain: gets a line for each image that cannot be read.

  Raises:
    ValueError, OSError: a set or the weights cannot be read, a set has too few images, or a file
      cannot be written.
  """
  sets = [image_sets.open_set(operand) for operand in operands]
  extractor = _make_extractor(sets, config)
  measured = [_measure(each, extractor, complain) for each in sets]
  if config.output.save_statistics:
    _save_statistics(config.output.save_statistics, measured[0])
  weights = None
  if extractor and 'is' in config.figures.figures and measured[-1].features is not None:
    weights = extractor.read_class_weights()
  outcome = compare(measured, config.figures, weights)
  path = config.output.json
  if path == STANDARD_OUTPUT:
    return outcome._replace(lines=[json_text(as_json(outcome, measured, config), indent=2)])
  if path:
    files.make_folder_of(path)
    write_json(path, as_json(outcome, measured, config))
  return outcome


def _make_extractor(sets: Sequence[ImageSet], config: FidConfig) -> Extractor | None:
  """The network; None where no set has images."""
  with_images = [each.name for each in sets if each.images is not None]
  if not with_images:
    return None
  if config.network.checkpoint_path is None:
    raise ValueError(
      f'--checkpoint_path must be given for the images of {with_images[0]}: {fid_weights.WHERE}'
    )
  return Extractor(config.network.checkpoint_path, config.network.resizing, config.compute)


def _measure(
  each: ImageSet, extractor: Extractor | None, complain: Callable[[str], None]
) -> Measured:
  if each.images is None or extractor is None:
    return Measured(each.name, *(each.stored or (None, None)))
  logging.info('%s: features on %s', each.name, extractor.devices)
  digests: dict[bytes, str] = {}
  images = image_sets.noting_digests(each.images, digests)
  blocks: list[np.ndarray] = []
  spatial_blocks: list[np.ndarray] = []
  failures: list[str] = []
  pooled, spatial = Moments(), Moments()
  with ProgressBar('Features', each.num_images, 'images') as bar:
    results = _with_features(extractor.extract(images, bar.update), failures, complain)
    while batch := list(itertools.islice(results, _BATCH)):
      blocks.append(np.stack([of_pool for of_pool, _ in batch]))
      pooled.add(blocks[-1])
      spatial_blocks.append(np.stack([of_space for _, of_space in batch]))
      spatial.add(spatial_blocks[-1])
      if pooled.count > FEATURES:
        spatial_blocks.clear()
  if pooled.count < 2:
    raise ValueError(f'{each.name} has {pooled.count} image(s) that can be read; 2 are the least')
  few = spatial_blocks and not each.stored
  return Measured(
    each.name,
    *(each.stored or StoredStatistics(pooled.statistics, spatial.statistics)),
    np.concatenate(blocks),
    np.concatenate(spatial_blocks) if few else None,
    digests,
    len(failures),
  )


def _with_features(
  results: Iterator[Features], failures: list[str], complain: Callable[[str], None]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Pooled and spatial features; the names of images without are added to `failures`."""
  for result in results:
    if result.pooled is not None and result.spatial is not None:
      yield result.pooled, result.spatial
      continue
    failures.append(result.name)
    with hidden():
      complain(f'{result.name}: {result.error}')


def _save_statistics(path: str, measured: Measured) -> None:
  if measured.pooled is not None:
    statistics.write(path, measured.pooled, measured.spatial)
    logging.info('%s: statistics of %s', path, measured.name)


def compare(
  measured: Sequence[Measured], config: FiguresConfig, class_weights: np.ndarray | None
) -> Outcome:
  """The figures of one set or two.

  Args:
    measured: real images and generated ones, or some alone.
    config: which figures.
    class_weights: [2048, classes] for the Inception Score; None: there are none.

  Raises:
    ValueError: a set has too few images for a figure.
  """
  values: dict[str, float] = {}
  lines: list[str] = []
  notes: list[str] = []
  last = measured[-1]
  if len(measured) == 2:
    real, fake = measured
    _compare_two(real, fake, config, values, lines, notes)
    notes += _notes_on_sets(real, fake)
  if 'is' in config.figures:
    if last.features is not None and class_weights is not None:
      probabilities = figures.class_probabilities(last.features, class_weights)
      score = figures.inception_score(probabilities, config.splits)
      values |= {'is': score.mean, 'is_deviation': score.deviation}
      lines.append(
        f'Inception Score {score.mean:.6g} +- {score.deviation:.3g} ({score.parts} parts of '
        f'{score.size} images)'
      )
    else:
      lack = 'images' if last.features is None else 'weights with a classifier'
      notes.append(f'no Inception Score of {last.name}: it needs {lack}')
  failed = sum(each.failed for each in measured)
  return Outcome(values, lines, notes, failed)


def _compare_two(
  real: Measured,
  fake: Measured,
  config: FiguresConfig,
  values: dict[str, float],
  lines: list[str],
  notes: list[str],
) -> None:
  """Adds the figures of two sets to `values`, `lines` and `notes`."""
  if 'fid' in config.figures and real.pooled and fake.pooled:
    are_few = real.spatial_features is not None and fake.spatial_features is not None
    of_few = (real.features, fake.features) if are_few else (None, None)
    values['fid'] = _frechet(real.pooled, fake.pooled, *of_few)
    lines.append(f'FID {values["fid"]:.6g}')
    notes += _notes_on_few_images(real, fake, values)
  if 'sfid' in config.figures:
    if real.spatial and fake.spatial:
      values['sfid'] = _frechet(
        real.spatial, fake.spatial, real.spatial_features, fake.spatial_features
      )
      lines.append(f'sFID {values["sfid"]:.6g}')
    else:
      without = real.name if real.spatial is None else fake.name
      notes.append(f'no sFID: {without} has no statistics of spatial features (mu_s, sigma_s)')
  if real.features is None or fake.features is None:
    without = real.name if real.features is None else fake.name
    names = [name for figure, name in _NAMES.items() if figure in config.figures]
    if names:
      notes.append(f'no {", no ".join(names)}: {without} has statistics, and no images')
    return
  if 'kid' in config.figures:
    kid = figures.kernel_distance(
      real.features, fake.features, config.kid_subsets, config.kid_subset_size, config.seed
    )
    values |= {'kid': kid.mean, 'kid_deviation': kid.deviation}
    lines.append(
      f'KID {kid.mean:.6g} +- {kid.deviation:.3g} ({kid.parts} subsets of {kid.size} images)'
    )
  if 'precision_recall' in config.figures:
    try:
      manifolds = figures.precision_and_recall(real.features, fake.features, config.neighbors)
    except ValueError as error:  # of few images, which have the other figures
      notes.append(f'no precision and recall: {error}')
      return
    values |= manifolds._asdict()
    lines.append(
      f'precision {manifolds.precision:.4f}, recall {manifolds.recall:.4f} ({config.neighbors} '
      'neighbours)'
    )


def _frechet(
  real: Statistics,
  fake: Statistics,
  real_features: np.ndarray | None,
  fake_features: np.ndarray | None,
) -> float:
  """The same number of statistics, and faster of the features of few images."""
  if real_features is None or fake_features is None:
    return figures.frechet_distance(real, fake)
  return figures.frechet_distance_of_features(real_features, fake_features)


def _notes_on_few_images(real: Measured, fake: Measured, values: dict[str, float]) -> list[str]:
  """Says of sets of fewer images than features how far FID is too large."""
  few = [
    f'{each.name} has {len(each.features):,}'
    for each in (real, fake)
    if each.features is not None and len(each.features) <= FEATURES
  ]
  if not few:
    return []
  text = f'FID of fewer images than the {FEATURES:,} features is too large: {" and ".join(few)}'
  if real.features is None or fake.features is None:
    return [f'{text}; compare it only with that of as many images']
  bias = values['fid_bias'] = figures.frechet_bias(real.features, fake.features)
  return [f'{text}; about {bias:.3g} of it is that bias, as halves of the sets show']


def _notes_on_sets(real: Measured, fake: Measured) -> list[str]:
  notes = []
  if real.features is not None and fake.features is not None:
    sizes = len(real.features), len(fake.features)
    if sizes[0] != sizes[1]:
      notes.append(
        f'the sets have {sizes[0]:,} and {sizes[1]:,} images: FID, precision and recall depend on '
        'both numbers'
      )
  both = [fake.digests[digest] for digest in fake.digests.keys() & real.digests.keys()]
  if both:
    notes.append(
      f'{len(both):,} file(s) of {fake.name} are in {real.name} too: {files.some(sorted(both))}'
    )
  return notes


def as_json(outcome: Outcome, measured: Sequence[Measured], config: FidConfig) -> dict[str, Any]:
  """The figures, and what they are of."""
  sets = {'real': measured[0]} | ({'fake': measured[1]} if len(measured) == 2 else {})
  return {
    **outcome.values,
    'sets': {
      role: {
        'name': each.name,
        'images': None if each.features is None else len(each.features),
        'failed': each.failed,
      }
      for role, each in sets.items()
    },
    'checkpoint_path': config.network.checkpoint_path,
    'resizing': config.network.resizing,
    'notes': outcome.notes,
  }
