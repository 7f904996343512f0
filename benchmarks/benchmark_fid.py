"""Measures images/s and memory of slim-inception fid beside pytorch-fid's, by turns.

  python benchmarks/benchmark_fid.py --other=/path/to/python/with/pytorch-fid

Each turn is two processes. One takes features of the images with random weights, which do not
change the time, after a batch that does not count: images/s. The other is the whole command on two
folders, FID alone, from its start to its end: seconds, and the most memory that it held (of
pytorch-fid without that of the processes that read its images).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

_OURS = """
import json, sys, time
from slim_inception import kernels
kernels.choose()
from slim_inception.classify import sources
from slim_inception.evaluate.config import ComputeConfig
from slim_inception.fid.features import Extractor
folder, weights, batch_size, threads = sys.argv[1:]
compute = ComputeConfig(batch_size=int(batch_size), num_preprocessing_threads=int(threads))
extractor = Extractor(weights, 'legacy_pytorch', compute)
images = list(sources.expand([folder], None))
list(extractor.extract(images[:int(batch_size)]))
start = time.perf_counter()
count = sum(result.pooled is not None for result in extractor.extract(images))
seconds = time.perf_counter() - start
print(json.dumps({'images_per_second': count / seconds}))
"""
_THEIRS = """
import json, sys, time
import torch
from pytorch_fid import fid_score, inception
folder, weights, batch_size, threads = sys.argv[1:]
inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
model = inception.InceptionV3([3]).eval()
import pathlib
files = sorted(pathlib.Path(folder).iterdir())
arguments = dict(batch_size=int(batch_size), dims=2048, device='cpu', num_workers=int(threads))
fid_score.get_activations(files[:int(batch_size)], model, **arguments)
start = time.perf_counter()
count = len(fid_score.get_activations(files, model, **arguments))
seconds = time.perf_counter() - start
print(json.dumps({'images_per_second': count / seconds}))
"""
_OUR_COMMAND = """
import sys
from slim_inception import cli
real, fake, weights, batch_size, threads = sys.argv[1:]
sys.argv[1:] = ['fid', real, fake, '--figures=fid', '--checkpoint_path=' + weights,
    '--batch_size=' + batch_size, '--num_preprocessing_threads=' + threads]
cli.main()
"""
_THEIR_COMMAND = """
import sys
import torch
from pytorch_fid import fid_score, inception
real, fake, weights, batch_size, threads = sys.argv[1:]
inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights)
sys.argv[1:] = [real, fake, '--device=cpu', '--batch-size=' + batch_size,
    '--num-workers=' + threads]
fid_score.main()
"""
_WEIGHTS = """
import sys, torch, torchvision
model = torchvision.models.inception_v3(
    weights=None, num_classes=1008, aux_logits=False, init_weights=False)
torch.save(model.state_dict(), sys.argv[1])
from safetensors.torch import save_file
save_file(model.state_dict(), sys.argv[2])
"""


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--other', default=sys.executable, help='The Python that has pytorch-fid.')
  parser.add_argument('--images', type=int, default=192, help='So many images a set.')
  parser.add_argument('--side', type=int, default=256, help='Their sides in pixels.')
  parser.add_argument('--format', choices=('jpg', 'png'), default='jpg', help='Of the files.')
  parser.add_argument('--batch_size', type=int, default=8, help="Ours; slim-inception's default.")
  parser.add_argument(
    '--other_batch_size', type=int, default=50, help="pytorch-fid's; its own default."
  )
  parser.add_argument('--threads', type=int, default=2, help='That read images, of both.')
  parser.add_argument('--rounds', type=int, default=3, help='Turns of each.')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    measure(pathlib.Path(folder), options)


def measure(folder: pathlib.Path, options: argparse.Namespace) -> None:
  """Prints a line for each turn, then medians and ratios."""
  sets = [folder / name for name in ('real', 'fake')]
  for seed, path in enumerate(sets):
    write_images(path, seed, options)
  weights = [str(folder / name) for name in ('weights.pth', 'weights.safetensors')]
  subprocess.run([options.other, '-c', _WEIGHTS, *weights], check=True)
  programs = {
    'slim-inception': (sys.executable, _OURS, _OUR_COMMAND, weights[1], options.batch_size),
    'pytorch-fid': (options.other, _THEIRS, _THEIR_COMMAND, weights[0], options.other_batch_size),
  }
  turns: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
  for _ in range(options.rounds):
    for name, (python, features, command, path, batch_size) in programs.items():
      more = [path, str(batch_size), str(options.threads)]
      output, _, _ = run([python, '-c', features, str(sets[0]), *more])
      _, seconds, memory = run([python, '-c', command, *map(str, sets), *more])
      measured = json.loads(output.splitlines()[-1])
      turns[name].append({**measured, 'command_seconds': seconds, 'command_mib': memory})
      print(name, json.dumps(turns[name][-1]), flush=True)
  for key in turns['pytorch-fid'][0]:
    ours, theirs = ([turn[key] for turn in turns[name]] for name in programs)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
      f'{key}: {statistics.median(ours):.4g} and {statistics.median(theirs):.4g}, ratio '
      f'{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})'
    )


def write_images(folder: pathlib.Path, seed: int, options: argparse.Namespace) -> None:
  """Writes smooth images of random colours."""
  import numpy as np
  from PIL import Image

  folder.mkdir()
  rng = np.random.default_rng(seed)
  for i in range(options.images):
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    image = coarse.resize((options.side, options.side))
    image.save(folder / f'{i:05d}.{options.format}', quality=90)


def run(command: list[str]) -> tuple[str, float, float]:
  """Runs a program that must not fail.

  Returns:
    What it printed, seconds, and the most MiB of memory that it held.
  """
  start = time.perf_counter()
  with tempfile.TemporaryFile('w+') as errors:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
      errors.seek(0)
      sys.exit(f'{command[0]} ended with status {process.returncode}: {errors.read()}')
  return output, seconds, usage.ru_maxrss / 1024


if __name__ == '__main__':
  main()
