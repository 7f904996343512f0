"""The page of an experiment: one HTML file, with its plots in it as SVG."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import markupsafe

from slim_inception import files
from slim_inception.evaluate import pages

_TEMPLATE = Path(__file__).with_name('page.html.j2')


class Plot(NamedTuple):
  """A plot of the page.

  Attributes:
    title: its heading.
    path: of the SVG file that matplotlib wrote.
    caption: what to see in it.
  """

  title: str
  path: str
  caption: str


def check_drawing() -> None:
  """Says before the work, not after it, that matplotlib is missing.

  Raises:
    ValueError: it is.
  """
  try:
    import matplotlib  # noqa: F401
  except ModuleNotFoundError as error:
    raise ValueError('drawing needs matplotlib: pip install "slim-inception[plots]"') from error


def write(
  path: str,
  *,
  title: str,
  about: str,
  statements: Sequence[str],
  plots: Sequence[Plot],
  header: Sequence[str],
  rows: Sequence[Sequence[str]],
  facts: Mapping[str, str],
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: of the HTML file.
    title: its heading.
    about: what was tried.
    statements: what was seen, a sentence or a few each.
    plots: in their order.
    header: of the table.
    rows: of the table; the first cell is text, the others are numbers.
    facts: {name: text} of how it was made.
  """
  text = pages.render(
    _TEMPLATE.read_text('utf-8'),
    style=pages.style(),
    title=title,
    about=about,
    statements=statements,
    plots=[
      {'title': plot.title, 'caption': plot.caption, 'svg': inline_svg(plot.path, f'plot{i}-')}
      for i, plot in enumerate(plots)
    ],
    header=header,
    rows=rows,
    facts=facts,
  )
  with files.atomic_text(path) as file:
    file.write(text)


def inline_svg(path: str | os.PathLike, prefix: str) -> markupsafe.Markup:
  """The `<svg>` of a file of matplotlib, for an HTML page that has several.

  Args:
    path: of the file.
    prefix: put before its ids: those of two files may be the same.
  """
  text = Path(path).read_text('utf-8')
  text = text[text.index('<svg') :]
  text = re.sub(r'\bid="([^"]*)"', lambda m: f'id="{prefix}{m[1].replace(" ", "-")}"', text)
  text = text.replace('url(#', f'url(#{prefix}').replace('xlink:href="#', f'xlink:href="#{prefix}')
  return markupsafe.Markup(text)
