"""The plot of a report that shows whether probabilities are as often right as they say."""

from collections.abc import Sequence

from slim_inception.evaluate.metrics import Bin, percent

_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 650, 16, 296  # of the plot
_BARS_TOP, _BARS_BOTTOM = 366, 440  # of the counts below it


def draw(bins: Sequence[Bin]) -> str:
  """Accuracy over probability, and below it how many images each bar stands for, as SVG.

  Args:
    bins: from probability 0 to 1; at least one has images.
  """
  largest = max(entry.count for entry in bins)

  def x(share: float) -> float:
    return _LEFT + share * (_RIGHT - _LEFT)

  def y(share: float) -> float:
    return _BOTTOM - share * (_BOTTOM - _TOP)

  parts = []
  for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
    parts.append(
      f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
      f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.0%}</text>'
      f'<text x="{x(tick):.1f}" y="{_BOTTOM + 18}" text-anchor="middle">{tick:.0%}</text>'
    )
  for entry in bins:
    if not entry.count:
      continue
    left, width = x(entry.low) + 1, x(entry.high) - x(entry.low) - 2
    height = max(1.0, (_BARS_BOTTOM - _BARS_TOP) * entry.count / largest)
    said = (
      f'{entry.count:,} images with {entry.low:.0%} to {entry.high:.0%}: mean probability '
      f'{percent(entry.confidence, 1)}, accuracy {percent(entry.accuracy, 1)}'
    )
    parts.append(
      f'<g><title>{said}</title>'
      f'<rect class="bar" x="{left:.1f}" y="{y(entry.accuracy):.1f}" width="{width:.1f}" '
      f'height="{_BOTTOM - y(entry.accuracy):.1f}"/>'
      f'<line class="said" x1="{left:.1f}" x2="{left + width:.1f}" y1="{y(entry.confidence):.1f}" '
      f'y2="{y(entry.confidence):.1f}"/>'
      f'<rect class="count" x="{left:.1f}" y="{_BARS_BOTTOM - height:.1f}" width="{width:.1f}" '
      f'height="{height:.1f}"/>'
      f'<text x="{left + width / 2:.1f}" y="{_BARS_BOTTOM - height - 4:.1f}" '
      f'text-anchor="middle">{_short(entry.count)}</text></g>'
    )
  return (
    '<svg class="plot" viewBox="0 0 672 462" role="img" aria-labelledby="plot-title">'
    '<title id="plot-title">Accuracy over the probability of the prediction, and images in each '
    'bin; the table below has the numbers</title>'
    + ''.join(parts)
    + f'<line class="ideal" x1="{_LEFT}" y1="{_BOTTOM}" x2="{_RIGHT}" y2="{_TOP}"/>'
    f'<text x="{_LEFT}" y="{_BOTTOM + 38}">probability of the prediction</text>'
    f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_BARS_BOTTOM}" y2="{_BARS_BOTTOM}"/>'
    f'<text x="{_LEFT}" y="{_BARS_BOTTOM + 16}">images</text></svg>'
  )


def _short(count: int) -> str:
  """A count in at most five characters: 9999, 12.3k, 123k, 1.2M."""
  for unit, letter in ((1_000_000, 'M'), (1000, 'k')):
    if count >= 10_000 and count >= unit:
      return f'{count / unit:.3g}{letter}'
  return str(count)
