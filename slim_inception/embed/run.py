"""Images from the command line to a file of embeddings."""

import contextlib
import sys
from collections.abc import Callable, Sequence

from absl import logging

from slim_inception.classify import sources
from slim_inception.datasets.progress_bar import ProgressBar, hidden
from slim_inception.embed import output
from slim_inception.embed.config import EmbedRequest
from slim_inception.embed.embedder import Embedder


def embed(operands: Sequence[str], request: EmbedRequest, complain: Callable[[str], None]) -> int:
  """Embeds images, and writes the embeddings.

  Args:
    operands: what images, see `sources.expand`.
    request: how.
    complain: gets a line for each image that has no embedding.

  Returns:
    How many these are.

  Raises:
    ValueError, OSError: a checkpoint is not as it should be, the embeddings cannot be written, or
      no image has one.
  """
  path = request.config.output.output
  embedder = Embedder(request)
  images, count = sources.listed(operands, sys.stdin.buffer)
  total = None if count is None else embedder.num_views(count)
  number = 'images' if count is None else f'{count} image(s)'
  logging.info('Embedding %s on %s', number, embedder.devices)
  failed = embedded = width = 0
  with contextlib.ExitStack() as stack:
    write = stack.enter_context(output.WRITERS[request.format](path))
    bar = stack.enter_context(ProgressBar('Embedding', total, 'views'))
    for result in embedder.embed(images, bar.update):
      with hidden():
        if result.embedding is None:
          failed += 1
          complain(f'{result.name}: {result.error}')
        else:
          embedded, width = embedded + 1, len(result.embedding)
        write(result)
    if failed and not embedded:  # what an earlier run wrote stays
      raise ValueError(f'--output={path} is not written: none of {failed} image(s) can be embedded')
  logging.info('%s: %d embedding(s) of %d numbers', path, embedded, width)
  return failed
