"""Results for people, as a table; for programs, as JSON lines and rows like timm's."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from slim_inception import files
from slim_inception.datasets.progress_bar import digits

Result = Mapping[str, Any]

_MB = 1e6
# Heading, width of the column, how a value is made of a result.
_NET_COLUMNS = (
  ('images/s', lambda r: digits(r['images_per_second'])),
  ('slowest..fastest', lambda r: _spread(r)),
  ('stolen', lambda r: _stolen(r)),
  ('step', lambda r: f'{1e3 * r["step_seconds"]:.1f} ms'),
  ('GFLOP/s', lambda r: f'{r["gflops"]:.0f}' if 'gflops' in r else ''),
  ('of roofline', lambda r: f'{r["roofline_share"]:.0%}' if 'roofline_share' in r else ''),
  ('peak memory', lambda r: f'{r["peak_bytes"] / _MB:.0f} MB'),
  ('first step', lambda r: f'{r["first_step_seconds"]:.1f} s'),
  ('parameters', lambda r: f'{r["num_parameters"] / 1e6:.2f} M'),
)
_INPUT_COLUMNS = (
  ('images/s', lambda r: digits(r['images_per_second'])),
  ('slowest..fastest', lambda r: _spread(r)),
  ('stolen', lambda r: _stolen(r)),
  ('decoding alone', lambda r: digits(r['decode_images_per_second'])),
  ('of decoding', lambda r: f'{r["decode_share"]:.0%}'),
  ('image', lambda r: f'{r["image_bytes"] / 1e3:.0f} kB'),
  ('peak memory', lambda r: f'{r["peak_bytes"] / _MB:.0f} MB'),
  ('first batch', lambda r: f'{r["first_step_seconds"]:.1f} s'),
)
_STARTUP_COLUMNS = (
  ('import', lambda r: _seconds(r['import_seconds'])),
  ('run described', lambda r: _seconds(r['described_seconds'])),
  ('first step', lambda r: _seconds(r['command_to_first_step_seconds'])),
)
_COLUMNS = {
  'train': _NET_COLUMNS,
  'infer': _NET_COLUMNS,
  'input': _INPUT_COLUMNS,
  'startup': _STARTUP_COLUMNS,
}


def _spread(result: Result) -> str:
  slowest, fastest = result['slowest_images_per_second'], result['fastest_images_per_second']
  return f'{digits(slowest)}..{digits(fastest)}'


def _stolen(result: Result) -> str:
  """The share of the machine's time that the neighbours of a virtual one took."""
  return f'{result["stolen_share"]:.0%}'


def _seconds(ordered: Sequence[float]) -> str:
  return f'{ordered[len(ordered) // 2]:.1f} s ({ordered[0]:.1f}..{ordered[-1]:.1f})'


def table(results: Sequence[Result]) -> str:
  """A line on what was measured, a table with a row for each program, the machine's own rates."""
  first = results[0]
  head = (
    f'{first["mode"]}: {first["model_name"]}, {first["image_size"]} x {first["image_size"]} '
    f'pixels, batch {first["batch_size"]} x {first.get("num_replicas", 1)}, {first["precision"]}'
    f'{", XLA" if first["jit_compile"] else ""}; {first["device"]}, {first["kernels"]}'
  )
  columns = _COLUMNS[first['mode']]
  rows = [['', *(heading for heading, _ in columns)]]
  rows += [[r['program'], *(value(r) for _, value in columns)] for r in results]
  lines = [head, *files.text_table(rows)]
  if 'gflops' in first:
    lines.append(
      f'{first["gmacs_per_image"]:.2f} G multiply-adds an image; the machine does '
      f'{first["convolution_gflops"]:.0f} GFLOP/s in a 3 x 3 convolution (the roofline), '
      f'{first["product_gflops"]:.0f} in a matrix product'
    )
  return '\n'.join(lines)


def timm_row(result: Result) -> dict[str, Any]:
  """The columns of timm's result tables; of other programs than ours the name says which."""
  ours, mode = result['program'] == 'slim-inception', result['mode']
  name = result['model_name'] if ours else f'{result["model_name"]}.{result["program"]}'
  return {
    'model': name,
    f'{mode}_samples_per_sec': round(result['images_per_second'], 2),
    f'{mode}_step_time': round(1e3 * result['step_seconds'], 3),
    f'{mode}_batch_size': result['batch_size'] * result.get('num_replicas', 1),
    f'{mode}_img_size': result['image_size'],
    'param_count': round(result['num_parameters'] / 1e6, 2),
  }


_TIMM_COLUMNS = ('samples_per_sec', 'step_time', 'batch_size', 'img_size')


def csv_header(mode: str) -> str:
  """The first line of a file of `timm_row`s."""
  return ','.join(['model', *(f'{mode}_{column}' for column in _TIMM_COLUMNS), 'param_count'])


def check_csv(path: str | os.PathLike, mode: str) -> None:
  """Raises ValueError where there is a file with other columns."""
  path = Path(path)
  header = path.read_text('utf-8').partition('\n')[0].strip() if path.exists() else ''
  if header and header != csv_header(mode):
    raise ValueError(f'{path} has columns {header}, not {csv_header(mode)}: choose another file')


def append_csv(path: str | os.PathLike, results: Sequence[Result]) -> None:
  """Adds a row for each result to a file, which is replaced as a whole.

  Raises:
    ValueError: it has other columns.
  """
  mode = results[0]['mode']
  check_csv(path, mode)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  rows = map(timm_row, results)
  writer.writerows(files.csv_row(row[name] for name in csv_header(mode).split(',')) for row in rows)
  files.append_text(path, text.getvalue(), header=csv_header(mode) + '\n')
