"""Measures how fast training, inference, input and start are here, beside other libraries.

  python benchmark_image_classifier.py --mode=train --model_name=inception_v3 --batch_size=16
  python benchmark_image_classifier.py --mode=infer --precision=bfloat16 --peers=keras,timm \\
    --timm_python=/path/to/python

A table on stdout; --output_json and --output_csv add to files. Rates are the median of the rounds,
with the slowest and the fastest. The roofline is the rate of one large 3 x 3 convolution, measured
in the same process.
"""

import quiet_tensorflow  # noqa: F401, I001  before what imports TensorFlow
import console as command_line
from benchmarking import common, input_rate, net_rate, peers, report, startup, timing
from benchmarking.config import Config, peers_of, resolve

_MODES = {
  'train': net_rate.train,
  'infer': net_rate.infer,
  'input': input_rate.input_rate,
  'startup': startup.startup,
}


def benchmark(config: Config) -> list[common.Result]:
  """Our result, then those of the peers.

  Raises:
    ValueError, OSError: a file, the records or a peer is not as it should be.
  """
  if config.output_csv:
    report.check_csv(config.output_csv, config.mode)
  if config.timm_python:
    peers.check_timm(config.timm_python)
  results = [{'mode': config.mode, **_MODES[config.mode](config)}]
  for name in peers_of(config):
    results.append(_of_peer(config, name))
  return results


def _of_peer(config: Config, name: str) -> common.Result:
  found = peers.measure(
    name,
    timm_python=config.timm_python,
    mode=config.mode,
    model_name=config.model_name,
    num_classes=common.NUM_CLASSES,
    image_size=config.image_size,
    batch_size=config.batch_size,
    precision=config.precision,
    on_cpu=config.clone_on_cpu,
    warmup_steps=config.warmup_steps,
    num_rounds=config.num_rounds,
  )
  times = timing.Times(**found['times'])
  return {
    'mode': config.mode,
    **common.facts(config),
    **common.figures(times, config.batch_size),
    'program': name,
    'jit_compile': peers.PEERS[name].compiled,
    'version': found['version'],
    'first_step_seconds': times.first,
    'peak_bytes': found['peak_bytes'],
    'num_parameters': found['num_parameters'],
  }


def main(_: list[str]) -> None:
  config = command_line.flag_values(Config, resolve, {})
  results = benchmark(config)
  print(report.table(results))
  if config.output_json:
    report.append_json(config.output_json, results)
  if config.output_csv:
    report.append_csv(config.output_csv, results)


def console() -> None:
  command_line.define_flags(Config, {})
  command_line.run(main)


if __name__ == '__main__':
  console()
