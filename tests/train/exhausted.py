"""A run of whose steps one has too little address space: TensorFlow's own error, in a process.

  python -m tests.train.exhausted TRAIN_DIR DATA_DIR MB

The first step with 160 x 160 pixels may map so many megabytes. (Before that the threads must be
there, and the input's: where one cannot be made TensorFlow ends the process.)
"""

import contextlib
import pathlib
import re
import resource
import sys
from collections.abc import Iterator

from tests import tiny

FLAGS = {
  'image_size_schedule': '0:32:64,1:160:64',
  'aux_loss_weight': 0.0,
  'max_number_of_steps': 4,
  'batch_norm_decay': 0.9,
  'dropout_keep_prob': 1.0,
}


@contextlib.contextmanager
def address_space(megabytes: int) -> Iterator[None]:
  """No more than so many megabytes beyond those of now."""
  status = pathlib.Path('/proc/self/status').read_text()
  now = int(re.findall(r'VmSize:\s*(\d+) kB', status)[0]) * 1024
  _, most = resource.getrlimit(resource.RLIMIT_AS)
  resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 10**6, most))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main(train_dir: str, data: str, megabytes: str) -> None:
  from absl import logging

  from slim_inception.train import trainer
  from tests.train import processes

  class Limited(trainer.TrainStep):
    def __call__(self, batch, step, rate):
      if batch['image'].shape[1] == 32 or int(step) > 1:
        return super().__call__(batch, step, rate)
      with address_space(int(megabytes)):
        return super().__call__(batch, step, rate)

  tiny.register()
  logging.use_absl_handler()
  logging.set_verbosity('info')
  trainer.TrainStep = Limited
  trainer.train(processes.config(pathlib.Path(train_dir), pathlib.Path(data), **FLAGS))


if __name__ == '__main__':
  main(*sys.argv[1:])
