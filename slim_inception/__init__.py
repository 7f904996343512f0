"""The Inception family in TensorFlow: nets, records, synchronous training, evaluation, exports.

In an installation `nets`, `datasets` and `preprocessing` lie in this folder. In a checkout they lie
beside it, where slim's users look for them; they are `slim_inception.nets` and so on there too.
"""

from pathlib import Path as _Path

__version__ = '0.2.0.dev0'

_here = _Path(__file__).resolve().parent
if not (_here / 'nets').is_dir():  # a checkout, or an editable installation of one
  __path__.append(str(_here.parent))
