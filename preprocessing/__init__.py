"""From the file of an image to what a net takes: pure functions."""

from pathlib import Path as _Path

if (
  __name__ == 'preprocessing' and (_Path(__file__).resolve().parents[1] / 'slim_inception').is_dir()
):
  from slim_inception import _alias  # a checkout, slim's idiom: `from preprocessing import ...`

  _alias.install(__name__, __file__)
