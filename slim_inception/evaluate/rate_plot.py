"""The curve of a learning rate test, drawn."""

from slim_inception.evaluate import curves
from slim_inception.evaluate.curves import Curve, Panel
from slim_inception.train.rate_finder import WINDOW, RateCurve

_ROOM = 0.05  # of the heights between the least loss and the first, above and below


def draw(curve: RateCurve, output: str) -> list[str]:
  """Draws the loss against the learning rate to `output`.png and `output`.svg, atomically.

  The axis ends a little above the loss before the least one: where it explodes it leaves the axis.

  Args:
    curve: what the steps gave.
    output: path without suffix.

  Returns:
    The paths of the files.
  """
  losses, suggested = curve.smoothed, curve.suggest()
  low, high = losses.min(), curve.losses[: losses.argmin() + 1].max()
  room = _ROOM * max(high - low, 1e-6)
  limits = float(low - room), float(high + room)
  drawn = {
    'loss of a step': Curve(curve.rates.tolist(), curve.losses.tolist()),
    f'mean of {WINDOW} steps': Curve(curve.rates.tolist(), losses.tolist()),
  }
  if suggested is not None:
    drawn[f'where it falls fastest: {suggested:.3g}'] = Curve([suggested] * 2, limits)
  panel = Panel('loss', 'learning rate', 'loss', [*drawn.values()], limits, is_logarithmic=True)
  return curves.draw([[panel]], [*drawn], output)
