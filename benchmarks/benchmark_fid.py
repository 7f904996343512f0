"""Measures images/s and memory of slim-inception's FID features beside pytorch-fid's, by turns.

  python benchmarks/benchmark_fid.py --other=/path/to/python/with/pytorch-fid

Each turn is a process of its own, which takes features of the same JPEGs with the same random
weights, after a batch that does not count. Weights do not change the time.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

_OURS = """
import json, resource, sys, time
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
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({'images_per_second': count / seconds, 'memory_mib': memory}))
"""
_THEIRS = """
import json, resource, sys, time
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
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({'images_per_second': count / seconds, 'memory_mib': memory}))
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
  parser.add_argument('--images', type=int, default=192, help='So many images a turn.')
  parser.add_argument('--side', type=int, default=256, help='Their sides in pixels.')
  parser.add_argument('--batch_size', type=int, default=50, help='Of both.')
  parser.add_argument('--threads', type=int, default=2, help='That read images, of both.')
  parser.add_argument('--rounds', type=int, default=3, help='Turns of each.')
  options = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    measure(pathlib.Path(folder), options)


def measure(folder: pathlib.Path, options: argparse.Namespace) -> None:
  """Prints a line for each turn, then medians and ratios."""
  import numpy as np
  from PIL import Image

  images = folder / 'images'
  images.mkdir()
  rng = np.random.default_rng(0)
  for i in range(options.images):
    coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    coarse.resize((options.side, options.side)).save(images / f'{i:05d}.jpg', quality=90)
  paths = [str(folder / name) for name in ('weights.pth', 'weights.safetensors')]
  subprocess.run([options.other, '-c', _WEIGHTS, *paths], check=True)
  programs = {
    'slim-inception': (sys.executable, _OURS, paths[1]),
    'pytorch-fid': (options.other, _THEIRS, paths[0]),
  }
  results: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
  arguments = [str(options.batch_size), str(options.threads)]
  for _ in range(options.rounds):
    for name, (python, program, weights) in programs.items():
      command = [python, '-c', program, str(images), weights, *arguments]
      done = subprocess.run(command, check=True, capture_output=True, text=True)
      results[name].append(json.loads(done.stdout.splitlines()[-1]))
      print(name, json.dumps(results[name][-1]), flush=True)
  for key in ('images_per_second', 'memory_mib'):
    ours, theirs = ([turn[key] for turn in results[name]] for name in programs)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    print(
      f'{key}: {statistics.median(ours):.4g} and {statistics.median(theirs):.4g}, ratio '
      f'{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})'
    )


if __name__ == '__main__':
  main()
