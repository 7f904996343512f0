"""HTML pages that need neither network nor server: what all of them share."""

import base64
import io
import warnings
from importlib import resources

import jinja2
import markupsafe

from slim_inception import files
from slim_inception.datasets import images
from slim_inception.evaluate.metrics import percent

_JPEG_QUALITY = 80


def style() -> markupsafe.Markup:
  """The style sheet."""
  return markupsafe.Markup(read('report.css'))


def read(name: str, package: str | None = None) -> str:
  """A text file of a package, of this one by default."""
  return (resources.files(package or __package__) / name).read_text('utf-8')


def render(template: str, **content: object) -> str:
  """A page from the text of its template, which escapes whatever names the content holds.

  Raises:
    jinja2.UndefinedError: the template names what is not there.
  """
  environment = jinja2.Environment(
    autoescape=True,
    finalize=_printable,
    lstrip_blocks=True,
    trim_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters['percent'] = percent
  return environment.from_string(template).render(**content)


def _printable(value: object) -> object:
  """Text without NUL and its like, which HTML does not allow."""
  if not isinstance(value, str) or isinstance(value, markupsafe.Markup):
    return value
  return files.printable(value)


def thumbnail(encoded: bytes, size: int, upright: bool = False) -> bytes:
  """A small JPEG of an image file; b'' where Pillow cannot decode it.

  Args:
    encoded: the file.
    size: of the longer side in pixels; small images are not enlarged.
    upright: turn it as EXIF says; evaluation does not.
  """
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Pillow's, on broken EXIF and the like
      image = images.decode(encoded, (4 * size) ** 2, upright=upright)
  except images.BadImageError:
    return b''
  image.thumbnail((size, size))
  file = io.BytesIO()
  image.convert('RGB').save(file, 'JPEG', quality=_JPEG_QUALITY)
  return file.getvalue()


def data_address(image: bytes) -> str:
  """A PNG or JPEG as an address that has all of it."""
  kind = 'png' if image.startswith(b'\x89PNG') else 'jpeg'
  return f'data:image/{kind};base64,{base64.b64encode(image).decode()}'
