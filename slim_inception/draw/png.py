"""A drawing as an image of Pillow's."""

import functools

from PIL import Image, ImageDraw, ImageFont

from slim_inception.draw.shapes import Arrowhead, Drawing, Line, Rectangle, Shape, Text

_SMOOTH = 2  # drawn so many times larger, then reduced: Pillow's shapes have hard edges


def render(drawing: Drawing, scale: int = 2) -> Image.Image:
  """Draws with `scale` pixels for each of the drawing's.

  Returns:
    An image with a palette: few colours, so small files.
  """
  factor = scale * _SMOOTH
  size = round(drawing.width * factor), round(drawing.height * factor)
  image = Image.new('RGB', size, '#ffffff')
  draw = ImageDraw.Draw(image)
  for shape in drawing.shapes:
    _draw(draw, shape, factor)
  image = image.reduce(_SMOOTH)
  return image.quantize(128, dither=Image.Dither.NONE)


def _draw(draw: ImageDraw.ImageDraw, shape: Shape, factor: int) -> None:
  match shape:
    case Rectangle():
      corners = [shape.x, shape.y, shape.x + shape.width, shape.y + shape.height]
      draw.rounded_rectangle(
        [corner * factor for corner in corners],
        shape.radius * factor,
        shape.fill,
        shape.stroke,
        factor,
      )
    case Line():
      points = [(x * factor, y * factor) for x, y in shape.points]
      draw.line(points, shape.color, round(shape.width * factor), joint='curve')
    case Arrowhead():
      draw.polygon([(x * factor, y * factor) for x, y in shape.corners], shape.color)
    case Text():
      draw.text(
        (shape.x * factor, shape.y * factor),
        shape.text,
        shape.color,
        _font(shape.size * factor),
        anchor='ms' if shape.centred else 'ls',  # on the baseline
        # Pillow brings one weight of its font along: a thin rim makes it bold.
        stroke_width=round(shape.size * factor / 45) if shape.bold else 0,
      )


@functools.cache
def _font(size: float) -> ImageFont.FreeTypeFont:
  return ImageFont.load_default(size)
