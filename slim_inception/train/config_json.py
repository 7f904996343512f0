"""`config.json`: what a run writes of its configuration, and what is read of it."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any, TypedDict

from slim_inception import files, flags
from slim_inception.constants import CONFIG_FILE, CONFIG_SUFFIX
from slim_inception.train.config import Config


def write(directory: str, config: Config, facts: Mapping[str, Any]) -> None:
  """Saves a run's configuration, and under 'run' the facts derived from it, atomically."""
  values = {**flags.flatten(config), 'run': dict(facts)}
  files.write_json(os.path.join(directory, CONFIG_FILE), values)


class Facts(TypedDict, total=False):
  """What is read of the facts under 'run'."""

  num_classes: int
  image_size: int
  num_replicas: int
  global_batch_size: int
  total_steps: int | None
  label_offset: int
  labels: list[str]
  dataset_hashes: list[str]
  kernels: str | None
  teachers: list[dict[str, str]]
  pass_pixels: int
  devices: str


class _Written(TypedDict, total=False):
  run: Facts


def read(directory: str) -> dict[str, Any] | None:
  """The content of a directory's config.json, see `read_file`; None where there is none."""
  return read_file(os.path.join(directory, CONFIG_FILE))


def read_beside(prefix: str) -> tuple[str, dict[str, Any]] | None:
  """What lies beside a checkpoint: a path and its content, see `read_file`; None if nothing.

  It is the directory's config.json or, of a checkpoint that was copied alone, the copy of it that
  has the checkpoint's name.
  """
  for path in (os.path.join(os.path.dirname(prefix), CONFIG_FILE), prefix + CONFIG_SUFFIX):
    if content := read_file(path):
      return path, content
  return None


def read_file(path: str) -> dict[str, Any] | None:
  """The content of a config.json, each flag checked; None where there is none.

  Names that are no flags (of today) stay as they are, and so do names of nets and data sets: those
  of other programs are not registered here.

  Raises:
    ValueError: it is not JSON, or a value is not of its type or out of range; names the file and
      the field.
  """
  content = files.read_json(path, _Written)
  known = {
    name: dataclasses.replace(flag, choices=() if callable(flag.choices) else flag.choices)
    for name, flag in flags.fields(Config).items()
  }
  return content and {
    name: known[name].convert(value, f'{path}: ') if value is not None and name in known else value
    for name, value in content.items()
  }
