"""Data sets as TFRecords: schema, converters, and the factory that finds them by name."""

from pathlib import Path as _Path

if __name__ == 'datasets' and (_Path(__file__).resolve().parents[1] / 'slim_inception').is_dir():
  from slim_inception import _alias  # a checkout, slim's idiom: `from datasets import ...`

  _alias.install(__name__, __file__)
