"""A drawing as SVG: plain elements that any viewer and editor knows."""

from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from slim_inception import files
from slim_inception.draw.shapes import Arrowhead, Drawing, Line, Point, Rectangle, Shape, Text


def check_name(path: str) -> None:
  """Raises ValueError where the name is not that of an SVG."""
  if Path(path).suffix != '.svg' or not Path(path).stem:
    raise ValueError(
      f'expected a name that ends in .svg, not {path} (a browser or cairosvg makes a PNG of it)'
    )


def write(drawing: Drawing, path: str) -> None:
  """Writes an .svg file, whole or not at all, into a folder that is made if need be.

  Raises:
    ValueError: the name ends otherwise.
    OSError: the file cannot be written.
  """
  check_name(path)
  files.make_folder_of(path)
  with files.atomic_text(path) as file:
    file.write(render(drawing))


def render(drawing: Drawing) -> str:
  """The text of an .svg file."""
  width, height = _number(drawing.width), _number(drawing.height)
  return '\n'.join(
    [
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
      f'viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif">',
      f'<title>{escape(drawing.title)}</title>',
      f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
      *(_element(shape) for shape in drawing.shapes),
      '</svg>\n',
    ]
  )


def _element(shape: Shape) -> str:
  match shape:
    case Rectangle():
      attributes = (
        f'x="{_number(shape.x)}" y="{_number(shape.y)}" width="{_number(shape.width)}" '
        f'height="{_number(shape.height)}" rx="{_number(shape.radius)}" '
        f'fill="{shape.fill}" stroke="{shape.stroke}"'
      )
      if not shape.tip:
        return f'<rect {attributes}/>'
      return f'<rect {attributes}><title>{escape(shape.tip)}</title></rect>'
    case Line():
      return (
        f'<polyline points="{_points(shape.points)}" fill="none" stroke="{shape.color}" '
        f'stroke-width="{_number(shape.width)}" stroke-linejoin="round"/>'
      )
    case Arrowhead():
      return f'<polygon points="{_points(shape.corners)}" fill="{shape.color}"/>'
    case Text():
      anchor = ' text-anchor="middle"' if shape.centred else ''
      weight = ' font-weight="bold"' if shape.bold else ''
      # Texts lie over boxes; the tips are the boxes'.
      return (
        f'<text x="{_number(shape.x)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}" '
        f'fill={quoteattr(shape.color)}{anchor}{weight} pointer-events="none">'
        f'{escape(shape.text)}</text>'
      )


def _points(points: tuple[Point, ...]) -> str:
  return ' '.join(f'{_number(x)},{_number(y)}' for x, y in points)


def _number(value: float) -> str:
  """At most one digit after the point: a tenth of a pixel."""
  return f'{value:.1f}'.removesuffix('.0')
