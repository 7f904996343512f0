"""An evaluation as one HTML page, which needs neither network nor server.

Everything is in it: styles, script, figures, images. Names of classes and files are whatever the
user's folders are called, so they are escaped wherever they are written, the script puts them on
the page as text only, and the page's own policy lets no other script run.
"""

import base64
import hashlib
import html
import io
import json
import os
import string
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

import numpy as np
from PIL import Image

from slim_inception.datasets import files, records, shards
from slim_inception.evaluate import metrics as figures
from slim_inception.evaluate import reliability_plot, results
from slim_inception.evaluate.metrics import Bin, Predictions, name_of, percent

THUMBNAIL_SIZE = 160  # pixels, the longer side
_JPEG_QUALITY = 80
_MOST_PAIRS = 30  # in the table of confused pairs; results.CONFUSION_FILE has all
_FULL_MATRIX = 30  # more classes than this are an overview to zoom into

# Keys of the metrics that the headline and the plot show.
_SHOWN = frozenset(
  ['num_images', 'mean_class_accuracy', 'num_classes_with_images', 'never_predicted']
  + ['expected_calibration_error', 'calibration_bins']
  + [f'top_{k}{rest}' for k in (1, 5) for rest in ('', '_interval', '_error', '_error_interval')]
)


def write_report(
  path: str | os.PathLike,
  metrics: Mapping[str, object],
  predictions: Predictions,
  num_classes: int,
  names: Mapping[int, str],
  thumbnails: Mapping[int, bytes],
  title: str,
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: of the HTML file.
    metrics: `metrics.summary`, and what was evaluated under any other keys: numbers, texts, lists
      and dictionaries of them.
    predictions: of all images that count.
    num_classes: labels are 0 .. num_classes - 1.
    names: {label: name}.
    thumbnails: {place: JPEG or PNG} of the mistakes to be shown, b'' where there is none to show;
      see `worst_mistakes` and `make_thumbnails`.
    title: heading of the page.

  Raises:
    OSError: the disk is full or not writable.
  """
  metrics = results.plain(dict(metrics))
  table = figures.per_class(predictions, num_classes)
  used = np.flatnonzero(table.count + table.predicted)
  confusion = figures.confusion(predictions, num_classes)
  named = {int(label): name_of(names, int(label)) for label in used}
  sections = {
    'figures': ('Figures', _headline(metrics, predictions) + _facts(metrics)),
    'confusions': ('What is taken for what', _confusions(confusion, table, named)),
    'calibration': ('Can the probabilities be believed?', _calibration(metrics)),
    'mistakes': ('The most confident mistakes', _gallery(predictions, names, thumbnails)),
    'classes': ('Classes', _classes(table, named)),
  }
  script = _template('report.js')
  page = string.Template(_template('report.html')).substitute(
    title=_text(title),
    style=_template('report.css'),
    script=script,
    script_hash='sha256-' + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    links=''.join(f'<li><a href="#{k}">{_text(v[0])}</a></li>' for k, v in sections.items()),
    sections='\n'.join(
      f'<section id="{key}" aria-labelledby="{key}-title">\n'
      f'<h2 id="{key}-title">{_text(heading)}</h2>\n{body}\n</section>'
      for key, (heading, body) in sections.items()
    ),
    data=_data(confusion, named),
  )
  with files.atomic_path(path) as temporary:
    temporary.write_text(page, 'utf-8', errors='backslashreplace', newline='')


def worst_mistakes(predictions: Predictions, count: int) -> list[int]:
  """Places of at most `count` images whose wrong answer has the greatest probability."""
  wrong = np.flatnonzero(~predictions.right)
  confidence = predictions.probabilities[wrong, 0]
  order = np.argsort(-np.nan_to_num(confidence, nan=-1), kind='stable')
  return predictions.places[wrong[order[:count]]].tolist()


def make_thumbnails(
  paths: Sequence[str | os.PathLike],
  schema: records.Schema,
  places: Iterable[int],
  size: int = THUMBNAIL_SIZE,
) -> dict[int, bytes]:
  """Reads images again from their records and makes them small.

  They are shown as TensorFlow decodes them: EXIF does not turn them, transparency is dropped.

  Args:
    paths: of all shards of the split.
    schema: their keys.
    places: numbers of the records in the split, shards sorted by name.
    size: of the longer side, in pixels; small images are not enlarged.

  Returns:
    {place: JPEG}, b'' where Pillow cannot decode the image.

  Raises:
    ValueError: a shard is cut short, a record is no Example, or there are fewer records.
  """
  missing, thumbnails, first = set(places), {}, 0
  for path in sorted(map(os.fspath, paths)):
    with open(path, 'rb') as file:
      for place, (offset, length) in enumerate(shards.walk_shard(path), start=first):
        first = place + 1
        if place in missing:
          missing.remove(place)
          file.seek(offset)
          encoded = records.decode_features(file.read(length)).get(schema.encoded) or [b'']
          thumbnails[place] = _thumbnail(encoded[0], size)
  if missing:
    raise ValueError(f'there is no record {min(missing)}: the split has {first}')
  return thumbnails


def _thumbnail(encoded: bytes, size: int) -> bytes:
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Pillow's, on broken EXIF and the like
      image = Image.open(io.BytesIO(encoded))
      if image.mode.startswith('I'):  # 16 bits a pixel
        image = image.point(lambda value: value / 256).convert('L')
      image.thumbnail((size, size))
      file = io.BytesIO()
      image.convert('RGB').save(file, 'JPEG', quality=_JPEG_QUALITY)
  except Exception:  # Pillow's decoders raise nearly anything on broken input
    return b''
  return file.getvalue()


# Text


def _template(name: str) -> str:
  return (resources.files(__package__) / name).read_text('utf-8')


def _text(value: object) -> str:
  """Text of anyone's, as HTML; NUL and its like are not allowed in it."""
  shown = ''.join(c if c >= ' ' or c in '\t\n' else '\N{REPLACEMENT CHARACTER}' for c in str(value))
  return html.escape(shown)


def _data(confusion: figures.Confusion, named: Mapping[int, str]) -> str:
  """What the overview draws, as JSON that cannot end the element that it stands in."""
  index = {label: i for i, label in enumerate(named)}
  wrong = confusion.true != confusion.predicted
  pairs = zip(*(column[wrong].tolist() for column in confusion), strict=True)
  mistakes = [n for true, guess, count in pairs for n in (index[true], index[guess], count)]
  if len(named) <= _FULL_MATRIX:
    return '{}'
  content = {'labels': list(named), 'names': list(named.values()), 'mistakes': mistakes}
  encoded = json.dumps(results.plain(content), separators=(',', ':'))
  return encoded.replace('<', '\\u003c').replace('>', '\\u003e').replace('&', '\\u0026')


# What the figures are


def _headline(metrics: Mapping[str, object], predictions: Predictions) -> str:
  first = predictions.top.shape[1]
  count = f'{metrics["num_images"]:,}'
  cards = [
    _accuracy_card('Top-1 accuracy', 'top_1', metrics),
    _accuracy_card(f'Top-{first} accuracy', 'top_5', metrics),
    (
      'Mean class accuracy',
      percent(metrics['mean_class_accuracy']),
      f'every class counts the same; {metrics["num_classes_with_images"]:,} have images',
    ),
    (
      'Calibration error',
      percent(metrics['expected_calibration_error']),
      f'expected (ECE), {len(metrics["calibration_bins"])} bins',
    ),
    ('Images counted', count, 'each once'),
  ]
  return (
    '<dl class="figures">'
    + ''.join(
      f'<div><dt>{_text(name)}</dt><dd class="value">{value}</dd>'
      f'<dd class="note">{_text(note)}</dd></div>'
      for name, value, note in cards
    )
    + '</dl>'
  )


def _accuracy_card(name: str, key: str, metrics: Mapping[str, object]) -> tuple[str, str, str]:
  low, high = metrics[f'{key}_interval']
  error = percent(metrics[f'{key}_error'])
  note = f'95 % interval {100 * low:.2f} to {100 * high:.2f} %; error {error}'
  return name, percent(metrics[key]), note


def _facts(metrics: Mapping[str, object]) -> str:
  """Whatever else the metrics say: checkpoint, net, crops, members, images left out."""
  rows = ''.join(
    f'<dt>{_text(key.replace("_", " "))}</dt><dd>{_value(value)}</dd>'
    for key, value in metrics.items()
    if key not in _SHOWN and value not in (None, [], {})
  )
  return f'<h3>What was evaluated</h3>\n<dl class="facts">{rows}</dl>' if rows else ''


def _value(value: object) -> str:
  if isinstance(value, Mapping):
    pairs = (f'{_text(str(k).replace("_", " "))} {_value(v)}' for k, v in value.items())
    return ', '.join(pairs)
  if isinstance(value, list | tuple):
    separator = '<br>' if any(isinstance(item, Mapping) for item in value) else ', '
    return separator.join(map(_value, value))
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, float):
    return f'{value:.6g}'
  return _text(f'{value:,}' if isinstance(value, int) and abs(value) >= 10_000 else value)


# Confusions


def _confusions(
  confusion: figures.Confusion, table: figures.ClassTable, named: Mapping[int, str]
) -> str:
  pairs = _pairs(confusion, table, named)
  if len(named) <= _FULL_MATRIX:
    return _matrix(confusion, table, named) + pairs
  return pairs + _OVERVIEW


def _matrix(
  confusion: figures.Confusion, table: figures.ClassTable, named: Mapping[int, str]
) -> str:
  """The whole matrix with its sums; a row is a true class, shaded by its share of the row."""
  counts = {(t, p): n for t, p, n in zip(*(c.tolist() for c in confusion), strict=True)}

  def cell(true: int, predicted: int) -> str:
    count = counts.get((true, predicted), 0)
    if not count:
      return '<td class="none">0</td>'
    share = count / table.count[true]
    said = f'{named[true]} taken for {named[predicted]}: {count} ({percent(share, 1)})'
    kind = 'hit' if true == predicted else 'miss'
    return f'<td class="{kind}" style="--share:{share:.3f}" title="{_text(said)}">{count}</td>'

  heads = ''.join(
    f'<th scope="col" title="{_text(name)}"><span class="turned">{_text(name)}</span></th>'
    for name in named.values()
  )
  rows = ''.join(
    f'<tr><th scope="row" title="{_text(name)}">{_text(name)}</th>'
    + ''.join(cell(label, predicted) for predicted in named)
    + f'<td class="sum">{table.count[label]}</td></tr>\n'
    for label, name in named.items()
  )
  sums = ''.join(f'<td class="sum">{table.predicted[label]}</td>' for label in named)
  return (
    '<h3 id="matrix-title">Confusion matrix</h3>\n'
    '<p class="quiet">A row is what the images show, a column what they were taken for; the '
    'shade is the share of the row.</p>\n'
    '<div class="scroll" tabindex="0" role="region" aria-labelledby="matrix-title">'
    '<table class="matrix"><thead><tr><th scope="col" class="axis">true ↓ predicted →</th>'
    f'{heads}<th scope="col" class="sum"><span class="turned">images</span></th></tr></thead>\n'
    f'<tbody>{rows}<tr><th scope="row" class="sum">predicted</th>{sums}'
    f'<td class="sum">{table.count.sum()}</td></tr></tbody></table></div>\n'
  )


def _pairs(
  confusion: figures.Confusion, table: figures.ClassTable, named: Mapping[int, str]
) -> str:
  wrong = np.flatnonzero(confusion.true != confusion.predicted)
  if not wrong.size:
    return '<p>No image was taken for another class.</p>'
  shares = confusion.count[wrong] / table.count[confusion.true[wrong]]
  order = wrong[np.lexsort((-shares, -confusion.count[wrong]))][:_MOST_PAIRS]
  rows = ''.join(
    f'<tr>{_name_cell(named[t])}{_name_cell(named[p])}<td class="number">{n}</td>'
    f'<td class="number">{percent(n / table.count[t], 1)}</td></tr>\n'
    for t, p, n in zip(*(column[order].tolist() for column in confusion), strict=True)
  )
  which = f'The first {len(order)}' if wrong.size > len(order) else 'All'
  return (
    '<h3 id="pairs-title">Most confused pairs</h3>\n'
    f'<p class="quiet">{which} of {wrong.size:,} pairs that occur; {results.CONFUSION_FILE} has '
    'all. The share is that of all images of the true class.</p>\n'
    '<div class="scroll" tabindex="0" role="region" aria-labelledby="pairs-title">'
    '<table data-sort id="pairs-table"><thead><tr><th scope="col">True</th>'
    '<th scope="col">Predicted</th><th scope="col" class="number">Images</th>'
    '<th scope="col" class="number">Share</th></tr></thead>\n'
    f'<tbody>{rows}</tbody></table></div>\n'
  )


def _name_cell(name: str) -> str:
  return f'<td class="name"><span class="clamp" title="{_text(name)}">{_text(name)}</span></td>'


_OVERVIEW = """<div id="overview" hidden>
<h3 id="overview-title">Overview of all mistakes</h3>
<p class="quiet" id="overview-help">Rows are true classes, columns predicted ones, in the order of
the labels; the stronger the colour, the more images. Right answers are left out. Point at a block
to read it, click to zoom in; or move with the arrow keys, zoom with + and −, back with 0.</p>
<div class="controls"><button type="button">Zoom in</button><button type="button">Zoom out</button>
<button type="button">Whole matrix</button></div>
<div class="overview"><canvas tabindex="0" role="application" aria-labelledby="overview-title"
 aria-describedby="overview-help"></canvas>
<output aria-live="polite">No block chosen.</output></div>
</div>"""


# Calibration


def _calibration(metrics: Mapping[str, object]) -> str:
  bins = [Bin(**entry) for entry in metrics['calibration_bins']]
  filled = [entry for entry in bins if entry.count]
  if not filled:
    return '<p>No probability is finite.</p>'
  said = 'below' if _gap(filled) > 0 else 'above'
  rows = ''.join(
    f'<tr><td class="number">{entry.low:.2f} to {entry.high:.2f}</td>'
    f'<td class="number">{entry.count:,}</td>'
    f'<td class="number">{percent(entry.confidence, 1)}</td>'
    f'<td class="number">{percent(entry.accuracy, 1)}</td></tr>\n'
    for entry in bins
  )
  return (
    '<p>Images sorted by the probability of their prediction; of those with 80 %, 80 % should be '
    f'right. On average the accuracy is {100 * abs(_gap(filled)):.1f} points {said} the '
    'probability.</p>\n<p class="quiet">Bars are accuracies; the strokes are mean probabilities, '
    'where the bars should end. Below, the images that a bar stands for.</p>\n'
    '<div class="scroll" tabindex="0" role="region" aria-label="Reliability plot">'
    f'{reliability_plot.draw(bins)}</div>\n'
    '<details><summary>The same as a table</summary><div class="scroll"><table><thead><tr>'
    '<th scope="col" class="number">Probability</th><th scope="col" class="number">Images</th>'
    '<th scope="col" class="number">Mean probability</th>'
    f'<th scope="col" class="number">Accuracy</th></tr></thead>\n<tbody>{rows}</tbody></table>'
    '</div></details>'
  )


def _gap(filled: Sequence[Bin]) -> float:
  """Mean probability less accuracy, over all images."""
  total = sum(entry.count for entry in filled)
  return sum(entry.count * (entry.confidence - entry.accuracy) for entry in filled) / total


# Mistakes


def _gallery(
  predictions: Predictions, names: Mapping[int, str], thumbnails: Mapping[int, bytes]
) -> str:
  wrong = int(np.count_nonzero(~predictions.right))
  if not wrong:
    return '<p>There is none.</p>'
  index = {place: i for i, place in enumerate(predictions.places.tolist())}
  shown = [place for place in worst_mistakes(predictions, wrong) if place in thumbnails]
  items = ''.join(
    f'<li>{_mistake(predictions, index[place], names, thumbnails[place])}</li>\n' for place in shown
  )
  return (
    f'<p class="quiet">{len(shown):,} of {wrong:,} wrong answers, the most probable first; '
    f'{results.PREDICTIONS_FILE} has all.</p>\n<ul class="gallery">{items}</ul>'
  )


def _mistake(predictions: Predictions, i: int, names: Mapping[int, str], thumbnail: bytes) -> str:
  answers = [int(label) for label in predictions.answers[i] if label >= 0]
  true = results.SEPARATOR.join(name_of(names, label) for label in answers)
  predicted = name_of(names, int(predictions.top[i, 0]))
  called = predictions.filenames[i] or f'record {predictions.places[i]}'
  rank = next((k + 1 for k, label in enumerate(predictions.top[i]) if label in answers), None)
  first = predictions.top.shape[1]
  place = f'not among the first {first}'
  if rank:
    place = f'no. {rank} with {percent(float(predictions.probabilities[i, rank - 1]), 1)}'
  if thumbnail:
    kind = 'png' if thumbnail.startswith(b'\x89PNG') else 'jpeg'
    source = f'data:image/{kind};base64,{base64.b64encode(thumbnail).decode()}'
    image = (
      f'<img decoding="async" src="{source}" '
      f'alt="{_text(called)}: {_text(true)}, taken for {_text(predicted)}">'
    )
  else:
    image = '<div class="missing">cannot be shown</div>'
  probability = percent(float(predictions.probabilities[i, 0]), 1)
  return (
    f'<figure>{image}<figcaption><span class="predicted clamp" title="{_text(predicted)}">'
    f'{_text(predicted)}</span><span>with {probability}</span>'
    f'<span class="clamp" title="{_text(true)}"><b>true</b> {_text(true)}</span>'
    f'<span>{place}</span><span class="file">{_text(called)}</span></figcaption></figure>'
  )


# Classes

_COLUMNS = ('Label', 'Name', 'Images', 'Predicted', 'Right', 'Precision', 'Recall', 'F1')


def _classes(table: figures.ClassTable, named: Mapping[int, str]) -> str:
  """Rows of the classes that have images or were predicted."""
  heads = ''.join(
    f'<th scope="col"{"" if column == "Name" else _NUMBER}>{column}</th>' for column in _COLUMNS
  )
  rows = ''.join(
    f'<tr><td{_NUMBER}>{label}</td><th scope="row" class="name">{_text(name)}</th>'
    + ''.join(f'<td{_NUMBER}>{column[label]}</td>' for column in table[:3])
    + ''.join(f'<td{_NUMBER}>{percent(column[label], 1)}</td>' for column in table[3:])
    + '</tr>\n'
    for label, name in named.items()
  )
  return (
    '<p class="quiet">Recall is the accuracy on the images of a class, precision the share of '
    'right ones among the images taken for it, F1 their harmonic mean. A heading sorts.</p>\n'
    '<div class="controls" hidden><label for="filter">Filter by name or label</label>'
    '<input id="filter" type="search" autocomplete="off">'
    '<output id="shown" aria-live="polite"></output></div>\n'
    '<div class="scroll" tabindex="0" role="region" aria-labelledby="classes-title">'
    f'<table data-sort id="classes-table"><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody>'
    '</table></div>'
  )


_NUMBER = ' class="number"'
