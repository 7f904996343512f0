"""timm's and torchvision's own models give our logits, on random weights and statistics.

CI has neither PyTorch nor these: there `test_convert_safetensors.py` tests names, shapes and the
turning of kernels alone.
"""

import pathlib

import numpy as np
import pytest
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion
from slim_inception.nets.convert.layers import EPSILON

from tests import golden
from tests.nets.test_convert_safetensors import DIGESTS, digest

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
TORCHVISION = pytest.importorskip('torchvision', reason='torchvision is not installed')
TIMM = pytest.importorskip('timm', reason='timm is not installed')

SIDE = 107


def randomize(model, seed=0):
  """Random weights and statistics; gamma of both signs, and 0."""
  generator = torch.Generator().manual_seed(seed)
  with torch.no_grad():
    for name, value in model.state_dict().items():
      noise = torch.randn(value.shape, generator=generator) if value.ndim else value
      if value.ndim > 1:
        value.copy_(noise * (2.0 / value[0].numel()) ** 0.5)
      elif name.endswith('running_var'):
        value.copy_(0.5 + torch.rand(value.shape, generator=generator))
      elif name.endswith('bn.weight'):
        value.copy_(noise)
        value[:2] = torch.tensor([0.0, -1.0])
      elif value.ndim:
        value.copy_(0.1 * noise)
  return model.eval()


def their_logits(model, images):
  with torch.no_grad():
    return model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


@pytest.mark.parametrize('name', ['inception_v3', 'inception_v4', 'inception_resnet_v2'])
def test_timm_both_ways(name, tmp_path):
  theirs = randomize(TIMM.create_model(name, num_classes=7))
  torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
  images = golden.images(2, SIDE, SIDE)
  expected = their_logits(theirs, images)

  ours = nets_factory.create_model(name, weights=tmp_path / 'theirs.pth')
  assert golden.relative_error(ours(images)[0], expected) < 1e-4

  ours.save(str(tmp_path / 'ours.ckpt'))
  weights = conversion.without_auxiliary_head(conversion.read(tmp_path / 'ours.ckpt', name))
  conversion.write_timm(str(tmp_path / 'back.safetensors'), weights)
  back = TIMM.create_model(name, num_classes=7)
  from safetensors.torch import load_file

  back.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  assert golden.relative_error(their_logits(back.eval(), images), expected) < 1e-4


def test_gamma_may_be_kept(tmp_path):
  theirs = randomize(TIMM.create_model('inception_v3', num_classes=7))
  torch.save({'state_dict': theirs.state_dict()}, tmp_path / 'theirs.pth')
  arg_scope = nets_factory.NETS['inception_v3'].arg_scope(batch_norm_scale=True)
  ours = nets_factory.create_model(
    'inception_v3', weights=tmp_path / 'theirs.pth', arg_scope=arg_scope
  )
  images = golden.images(2, SIDE, SIDE)
  assert golden.relative_error(ours(images)[0], their_logits(theirs, images)) < 1e-4


def test_torchvision_with_auxiliary_head_and_imagenet_images(tmp_path):
  theirs = randomize(
    TORCHVISION.models.inception_v3(weights=None, init_weights=False, num_classes=7)
  )
  torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
  images = golden.images(2, 299, 299)
  mean, std = (255 * np.array(x) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
  theirs_images = ((127.5 * (images + 1) - mean) / std).astype(np.float32)
  with torch.no_grad():
    aux = theirs.AuxLogits(torch.from_numpy(features(theirs, theirs_images))).numpy()

  weights = conversion.read(tmp_path / 'theirs.pth', 'inception_v3', mean=mean, std=std)
  ours = nets_factory.create_model('inception_v3', 7, **weights.arguments)
  filled = conversion.fill(ours.variables_by_name, weights, ())
  logits, end_points = ours(images)
  assert golden.relative_error(logits, their_logits(theirs, theirs_images)) < 1e-4
  assert golden.relative_error(end_points['AuxLogits'], aux) < 1e-4
  assert not filled.fresh
  assert conversion.summarise(weights.ignored) == '96 x num_batches_tracked'

  # transform_input takes images of ImageNet's statistics to [-1, 1]: nothing to fold.
  theirs.transform_input = True
  plain = nets_factory.create_model('inception_v3', weights=tmp_path / 'theirs.pth')
  assert golden.relative_error(plain(images)[0], their_logits(theirs, theirs_images)) < 1e-4

  conversion.write_timm(str(tmp_path / 'back.safetensors'), weights)
  from safetensors.torch import load_file

  theirs.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  theirs.transform_input = False
  assert golden.relative_error(their_logits(theirs, images), logits) < 1e-4


def features(model, images):
  found = []
  handle = model.Mixed_6e.register_forward_hook(lambda _, __, output: found.append(output))
  their_logits(model, images)
  handle.remove()
  return found[0].numpy()


def test_their_names_shapes_and_epsilon():
  models = [
    ('inception_v3', TIMM.create_model('inception_v3', num_classes=1001, aux_logits=True)),
    ('inception_v4', TIMM.create_model('inception_v4', num_classes=1001)),
    ('inception_resnet_v2', TIMM.create_model('inception_resnet_v2', num_classes=1001)),
    (
      'inception_v3',
      TORCHVISION.models.inception_v3(weights=None, init_weights=False, num_classes=1001),
    ),
  ]
  for name, model in models:
    assert digest({key: value.shape for key, value in model.state_dict().items()}) == DIGESTS[name]
    assert {m.eps for m in model.modules() if hasattr(m, 'running_var')} == {EPSILON}


def test_what_pytorch_files_may_hold(tmp_path):
  state = TIMM.create_model('inception_v3', num_classes=3).state_dict()
  torch.save({'model': {f'module.{k}': v.half() for k, v in state.items()}}, tmp_path / 'a.pt')
  torch.save(state, tmp_path / 'b.pt', _use_new_zipfile_serialization=False)
  for path in (tmp_path / 'a.pt', tmp_path / 'b.pt'):
    assert conversion.read(path, 'inception_v3').num_classes == 3

  ran = tmp_path / 'ran'

  class Evil:
    def __reduce__(self):
      return pathlib.Path.touch, (ran,)

  torch.save({'state_dict': state, 'note': Evil()}, tmp_path / 'evil.pt')
  with pytest.raises(ValueError, match='evil.pt holds Python objects besides tensors'):
    conversion.read(tmp_path / 'evil.pt', 'inception_v3')
  assert not ran.exists()
  torch.save([1, 2], tmp_path / 'list.pt')
  with pytest.raises(ValueError, match='list.pt holds no state dict, but list'):
    conversion.read(tmp_path / 'list.pt', 'inception_v3')
  (tmp_path / 'cut.pt').write_bytes((tmp_path / 'b.pt').read_bytes()[:100_000])
  with pytest.raises(ValueError, match=r'cut.pt (is damaged|holds)'):
    conversion.read(tmp_path / 'cut.pt', 'inception_v3')
