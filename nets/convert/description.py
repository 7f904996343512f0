"""What weights of others are, and what became of them, in lines for people."""

import re
from collections import defaultdict
from collections.abc import Iterable

from ..heads import AUX_LOGITS
from ..registry import get_net
from . import formats, torch_family
from .conversion import Filled, Weights


def report(weights: Weights, filled: Filled) -> list[str]:
  """Lines on what was read and what became of it."""
  scopes = sorted({name.rsplit('/', 2 if '/BatchNorm/' in name else 1)[0] for name in filled.fresh})
  lines = [
    about(weights),
    f'{len(filled.filled)} variables filled, left fresh: {", ".join(scopes) or "none"}',
    *weights.notes,
  ]
  logits = f'{get_net(weights.net).logits_scope}/biases'
  if logits in filled.fresh:
    lines += background(weights.num_classes, filled.num_classes)
  if filled.unused:
    lines.append(f'of no use here: {summarise(filled.unused)}')
  if filled.summed:
    lines.append(
      f'first convolution summed over its {filled.summed} input channels: exact for grey'
    )
  if filled.folded:
    lines.append(
      f'gamma of {filled.folded} batch norms folded into weights: exact, but not for training with '
      'the statistics of batches (keep gamma by batch_norm_scale)'
    )
  return lines


def background(stored: int | None, asked: int | None) -> list[str]:
  """A line where numbers of outputs are ImageNet's with a background and without."""
  if {stored, asked} != {1000, 1001}:
    return []
  return [
    f'the classifier begins fresh: the weights have {stored} outputs '
    f'({"no background" if stored == 1000 else "0 is the background"}), and {asked} are asked for; '
    f'a net of {stored} keeps it'
  ]


def about(weights: Weights) -> str:
  """A line on what was read."""
  by_rule: dict[str, list[str]] = defaultdict(list)
  for name, rule in weights.left_out.items():
    by_rule[rule].append(name)
  rules = [f'{summarise(names)} ({rule})' for rule, names in by_rule.items()]
  left_out = f'; left out: {", ".join(rules)}' if rules else ''
  classes = {
    None: 'no classifier',
    1000: '1000 classes, no background among them',
    1001: '1001 classes, 0 is the background',
  }.get(weights.num_classes, f'{weights.num_classes} classes')
  averages = ', moving averages of the weights' if weights.averages else ''
  text = formats.SOURCES[weights.format].text
  return f'{weights.path}: {text}, {weights.net}, {classes}{averages}{left_out}'


def differences(weights: Weights, for_torch: bool) -> list[str]:
  """Lines on what the numbers alone do not say.

  Args:
    weights: of a file.
    for_torch: whether a net of PyTorch's libraries will have them, or one of slim's or Keras'.
  """
  lines = []
  if weights.net in torch_family.COUNTING_PADDING and weights.counts_padding != for_torch:
    lines.append(
      f"average pools: timm's and torchvision's {weights.net} count the zeros around the image, "
      "slim's and Keras' do not: logits differ a little; create_model(count_padding=True) does as "
      'they do'
    )
  if weights.padding:
    lines.append(
      f'padding: outputs are those of the library with create_model(padding={weights.padding!r}), '
      'and differ a little with that of slim'
    )
  theirs = torch_family.images_of(weights.net)
  if for_torch and theirs and not weights.images:
    lines.append(
      f'taken to be for the images of {torch_family.LIBRARIES[weights.net]}, {theirs}: give '
      '--source_preprocessing=inception for those of [-1, 1]'
    )
  auxiliary = get_net(weights.net).head.weights.get(AUX_LOGITS, ())
  if for_torch and weights.net == 'inception_v3' and set(auxiliary) & set(weights.layers):
    lines.append(
      "with the auxiliary head, as torchvision's net and timm's with aux_logits=True have it: for "
      "timm's default give --noauxiliary_head"
    )
  return lines


def summarise(names: Iterable[str]) -> str:
  """'378 x num_batches_tracked, global_step': names, those with the same last part counted."""
  by_last: dict[str, list[str]] = defaultdict(list)
  for name in names:
    by_last[re.split(r'[./]', name)[-1]].append(name)
  return ', '.join(
    f'{len(names)} x {last}' if len(names) > 1 else names[0] for last, names in by_last.items()
  )
