"""Says what the features of a net are good for on your images, without training it.

  slim-inception probe --checkpoint_path=CHECKPOINT --dataset_dir=DIR [--output=probe.json]

Computes the features of two splits, what the logits are made of or an --end_point, by weights of
any library that eval reads, and classifies those of --eval_split_name by those of
--train_split_name: by a linear classifier (L2-regularized logistic regression, whose strength is
chosen on a fifth of the training split) and by k-nearest neighbours (weighted by the cosine, as
DINO does). Accuracies come with their 95 % intervals. --features_dir keeps features for the next
time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from slim_inception import files, flags
from slim_inception.cli import console, quiet
from slim_inception.embed.probe_config import ProbeConfig, resolve


def define_flags() -> None:
  flags.define(ProbeConfig)


def main(_: list[str]) -> None:
  request = flags.parse(ProbeConfig, resolve, prepare=quiet.import_tensorflow)
  from slim_inception.embed import probe

  result = probe.probe(request)
  console.say(*lines(result))
  if output := request.config.output.output:
    files.make_folder_of(output)
    files.write_json(output, result)
    console.say(f'written to {output}')


def lines(result: Mapping[str, Any]) -> Iterator[str]:
  """A line for each figure."""
  for name in ('num_train_images', 'num_images', 'num_classes', 'num_features'):
    yield f'{name} {result[name]}'
  for kind in ('linear', 'knn'):
    figures = result[kind]
    for name in ('top_1', 'top_5'):
      if name in figures:
        low, high = figures[f'{name}_interval']
        yield f'{kind}_{name} {figures[name]:.4f}'
        yield f'{kind}_{name}_interval {low:.4f} {high:.4f}'
  yield f'linear_l2 {result["linear"]["l2"]:g}'
  yield f'seconds_of_features {result["seconds_of_features"]}'
  yield f'seconds_of_heads {result["seconds_of_heads"]}'
