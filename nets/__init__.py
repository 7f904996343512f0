"""The Inception family as tables of blocks, the layers beneath, and Model around them."""

from pathlib import Path as _Path

if __name__ == 'nets' and (_Path(__file__).resolve().parents[1] / 'slim_inception').is_dir():
  from slim_inception import _alias  # a checkout, slim's idiom: `from nets import ...`

  _alias.install(__name__, __file__)
