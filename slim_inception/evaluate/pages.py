"""HTML pages that need neither network nor server: what all of them share."""

from importlib import resources

import jinja2
import markupsafe

from slim_inception import files
from slim_inception.evaluate.metrics import percent


def style() -> markupsafe.Markup:
  """The style sheet."""
  return markupsafe.Markup(read('report.css'))


def read(name: str) -> str:
  """A text file of this package."""
  return (resources.files(__package__) / name).read_text('utf-8')


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
