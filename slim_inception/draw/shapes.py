"""What a drawing is made of: a list of shapes in pixels, y downwards, drawn in order."""

from collections.abc import Iterable
from typing import NamedTuple

Point = tuple[float, float]


class Rectangle(NamedTuple):
  """With round corners; `tip` is shown where one points at it."""

  x: float
  y: float
  width: float
  height: float
  fill: str  # '#rrggbb', as all colours
  stroke: str
  radius: float = 3.0
  tip: str = ''


class Line(NamedTuple):
  """Through two points or more."""

  points: tuple[Point, ...]
  color: str
  width: float = 1.2


class Arrowhead(NamedTuple):
  """A triangle that points to the right; `x`, `y` is its tip."""

  x: float
  y: float
  size: float
  color: str

  @property
  def corners(self) -> tuple[Point, ...]:
    """Its three points."""
    back, half = self.x - self.size, self.size * 0.55
    return (self.x, self.y), (back, self.y - half), (back, self.y + half)


class Text(NamedTuple):
  """One line, centred at `x` or beginning there; `y` is its baseline."""

  x: float
  y: float
  text: str
  size: float
  color: str
  bold: bool = False
  centred: bool = True


Shape = Rectangle | Line | Arrowhead | Text


class Drawing(NamedTuple):
  """An image on white."""

  width: float
  height: float
  title: str
  shapes: tuple[Shape, ...]


def moved(shapes: Iterable[Shape], dx: float, dy: float) -> list[Shape]:
  """All of them elsewhere."""
  return [
    shape._replace(points=tuple((x + dx, y + dy) for x, y in shape.points))
    if isinstance(shape, Line)
    else shape._replace(x=shape.x + dx, y=shape.y + dy)
    for shape in shapes
  ]


def text_width(text: str, size: float, bold: bool = False) -> float:
  """About how many pixels a line takes in Helvetica and its like; rather too many."""
  wide, narrow = 'MW@mw', " .,:;'|/!()ijltf"
  ems = sum(
    0.85 if c in wide else 0.3 if c in narrow else 0.68 if c.isupper() else 0.58 for c in text
  )
  return ems * size * (1.06 if bold else 1.0)
