"""timm under our clock: PYTHON timm_peer.py '{"mode": "train", ...}', see peers.

Nothing of ours is imported but the clock: PYTHON is of an environment with torch and timm.
"""

import contextlib
import json
import sys

import timing

sys.path.pop(0)  # this folder, whose names are not torch's

import timm
import torch


def main(request: dict) -> None:
  device = 'cuda' if torch.cuda.is_available() and not request['on_cpu'] else 'cpu'
  torch.backends.cudnn.benchmark = True  # the fastest of cuDNN's algorithms
  training, half = request['mode'] == 'train', request['precision'] == 'bfloat16'
  model = timm.create_model(request['net'], num_classes=request['num_classes'])
  model = model.to(device, memory_format=torch.channels_last).train(training)
  size = request['image_size']
  images = torch.rand(request['batch_size'], 3, size, size, device=device) * 2 - 1
  images = images.contiguous(memory_format=torch.channels_last)
  labels = torch.zeros(request['batch_size'], dtype=torch.long, device=device)
  if half and not training:
    model, images = model.bfloat16(), images.bfloat16()
  run = torch.compile(model) if request['compiled'] else model
  optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)
  precision = torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext()

  def train():
    optimizer.zero_grad()
    with precision:
      loss = torch.nn.functional.cross_entropy(run(images), labels)
    loss.backward()
    optimizer.step()
    return loss.detach()

  @torch.inference_mode()
  def infer():
    return run(images)

  on_gpu = device == 'cuda'
  timing.serve(
    train if training else infer,
    lambda result: result.flatten()[0].item(),  # waits for the device
    warmup_steps=request['warmup_steps'],
    facts=lambda: {
      'peak_bytes': torch.cuda.max_memory_allocated() if on_gpu else timing.peak_resident_bytes(),
      'num_parameters': sum(parameter.numel() for parameter in model.parameters()),
      'kernels': torch.backends.cpu.get_cpu_capability(),
      'version': f'timm {timm.__version__}, torch {torch.__version__}',
    },
  )


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
