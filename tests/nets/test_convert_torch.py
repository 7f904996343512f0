"""timm's, torchvision's and facenet-pytorch's own models give our logits, on random weights.

CI has neither PyTorch nor these: there `test_convert_safetensors.py` tests names, shapes and the
turning of kernels alone. With a CUDA build of PyTorch, uninstall triton: imported after TensorFlow
it ends the process (both bring LLVM).
"""

import argparse
import functools
import os
import pathlib

import numpy as np
import pytest
from slim_inception.nets import nets_factory
from slim_inception.nets.convert import conversion, description, formats, torch_family
from slim_inception.nets.convert.stored import Images

from tests import golden
from tests.nets.test_convert_safetensors import DIGESTS, digest, small_state

torch = pytest.importorskip('torch', reason='PyTorch is not installed')
TORCHVISION = pytest.importorskip('torchvision', reason='torchvision is not installed')
load_file = pytest.importorskip('safetensors.torch', reason='it is not installed').load_file
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

  ours.save(tmp_path / 'ours.ckpt')  # its auxiliary head, which timm's net does not have, is fresh
  weights = conversion.read(tmp_path / 'ours.ckpt', name)
  conversion.write_timm(str(tmp_path / 'back.safetensors'), weights)
  back = TIMM.create_model(name, num_classes=7)
  back.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  assert golden.relative_error(their_logits(back.eval(), images), expected) < 1e-4

  conversion.write_timm(str(tmp_path / 'half.safetensors'), weights, 'bfloat16')
  half = TIMM.create_model(name, num_classes=7).bfloat16()
  half.load_state_dict(load_file(tmp_path / 'half.safetensors'), strict=True)
  for key, value in back.bfloat16().state_dict().items():
    assert torch.equal(half.state_dict()[key], value)


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
  assert description.summarise(weights.left_out) == '96 x num_batches_tracked'

  # transform_input takes images of ImageNet's statistics to [-1, 1]: nothing to fold.
  theirs.transform_input = True
  plain = nets_factory.create_model('inception_v3', weights=tmp_path / 'theirs.pth')
  assert golden.relative_error(plain(images)[0], their_logits(theirs, theirs_images)) < 1e-4

  conversion.write_timm(str(tmp_path / 'back.safetensors'), weights)
  theirs.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  theirs.transform_input = False
  assert golden.relative_error(their_logits(theirs, images), logits) < 1e-4


def features(model, images):
  found = []
  handle = model.Mixed_6e.register_forward_hook(lambda _, __, output: found.append(output))
  their_logits(model, images)
  handle.remove()
  return found[0].numpy()


def test_facenet_pytorch_both_ways(tmp_path):
  facenet = pytest.importorskip('facenet_pytorch', reason='facenet-pytorch is not installed')
  name = 'inception_resnet_v1'
  make = functools.partial(facenet.InceptionResnetV1, pretrained=None, classify=True, num_classes=7)
  theirs, embeddings = randomize(make()), []
  with torch.no_grad():
    theirs.last_bn.weight.copy_(torch.linspace(-1, 1, 512))
  theirs.last_bn.register_forward_hook(lambda _, __, output: embeddings.append(output.numpy()))
  torch.save(theirs.state_dict(), tmp_path / 'theirs.pt')
  images = golden.images(2, 160, 160)
  theirs_images = (127.5 * images / 128).astype(np.float32)
  expected = their_logits(theirs, theirs_images)

  weights = conversion.read(tmp_path / 'theirs.pt', name)
  assert weights.arguments == {'bottleneck_layer_size': 512}
  assert weights.notes == ("trained on (pixel - 127.5) / 128, as this library's net",)
  for num_classes, values in ((7, expected), (None, embeddings[0])):
    ours = nets_factory.create_model(name, num_classes, image_size=160, **weights.arguments)
    assert not conversion.fill(ours.variables_by_name, weights, ()).fresh
    assert golden.relative_error(ours(images)[0], values) < 1e-4

  assert conversion.write_timm(tmp_path / 'back.safetensors', weights) == []
  back = make()
  back.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  assert golden.relative_error(their_logits(back.eval(), theirs_images), expected) < 1e-4

  # Without classifier, for a net that is given what theirs is given.
  state = {key: value for key, value in theirs.state_dict().items() if 'logits' not in key}
  torch.save(state, tmp_path / 'embedding.pt')
  net_images = Images((127.5,), (128.0,))
  weights = conversion.read(tmp_path / 'embedding.pt', name, net_images=net_images)
  assert (weights.num_classes, weights.arguments) == (None, {'bottleneck_layer_size': 512})
  assert conversion.fill(ours.variables_by_name, weights, ()).fresh == ()
  assert golden.relative_error(ours(theirs_images)[0], embeddings[0]) < 1e-4
  assert conversion.write_timm(tmp_path / 'back.safetensors', weights) == []
  back = facenet.InceptionResnetV1(pretrained=None)
  back.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  normalized = torch.nn.functional.normalize(torch.from_numpy(embeddings[0])).numpy()
  assert golden.relative_error(their_logits(back.eval(), theirs_images), normalized) < 1e-4


def test_their_names_shapes_and_epsilon():
  models = [
    ('inception_v3', TIMM.create_model('inception_v3', num_classes=1001, aux_logits=True)),
    ('inception_v4', TIMM.create_model('inception_v4', num_classes=1001)),
    ('inception_resnet_v2', TIMM.create_model('inception_resnet_v2', num_classes=1001)),
    (
      'inception_v3',
      TORCHVISION.models.inception_v3(weights=None, init_weights=False, num_classes=1001),
    ),
    (
      'inception_v1',
      TORCHVISION.models.googlenet(aux_logits=False, init_weights=False, num_classes=1001),
    ),
  ]
  for name, model in models:
    assert digest({key: value.shape for key, value in model.state_dict().items()}) == DIGESTS[name]
    assert {m.eps for m in model.modules() if hasattr(m, 'running_var')} == {0.001}
  for name in ('resnet50', 'resnet101', 'resnet152'):
    for model in (TIMM.create_model(name), getattr(TORCHVISION.models, name)()):
      ours = name.replace('resnet', 'resnet_v1_5_')
      shapes = {key: value.shape for key, value in model.state_dict().items()}
      assert digest(shapes) == DIGESTS[ours]
      assert {m.eps for m in model.modules() if hasattr(m, 'running_var')} == {1e-5}


def test_what_pytorch_files_may_hold(tmp_path):
  state = TIMM.create_model('inception_v3', num_classes=3).state_dict()
  torch.save({'model': {f'module.{k}': v.half() for k, v in state.items()}}, tmp_path / 'a.pt')
  torch.save(state, tmp_path / 'b.pt', _use_new_zipfile_serialization=False)
  for path in (tmp_path / 'a.pt', tmp_path / 'b.pt'):
    assert conversion.read(path, 'inception_v3').num_classes == 3

  prefixed = {f'module._orig_mod.{key}': value for key, value in state.items()}
  torch.save({'state_dict': prefixed, 'args': argparse.Namespace(lr=0.1)}, tmp_path / 'c.pt')
  torch.save({'model_state_dict': state, 'epoch': 3}, tmp_path / 'd.pt')
  torch.save({'state_dict': {f'model.{k}': v for k, v in state.items()}}, tmp_path / 'e.ckpt')
  for path in ('c.pt', 'd.pt', 'e.ckpt'):
    assert conversion.read(tmp_path / path, 'inception_v3').num_classes == 3

  ran = tmp_path / 'ran'

  class Evil:
    def __reduce__(self):
      return pathlib.Path.touch, (ran,)

  torch.save({'state_dict': state, 'note': Evil()}, tmp_path / 'evil.pt')
  with pytest.raises(ValueError, match=r'evil.pt holds Python objects besides tensors \(.+\), and'):
    conversion.read(tmp_path / 'evil.pt', 'inception_v3')
  assert not ran.exists()
  torch.save([1, 2], tmp_path / 'list.pt')
  with pytest.raises(ValueError, match='list.pt holds no state dict, but list'):
    conversion.read(tmp_path / 'list.pt', 'inception_v3')
  (tmp_path / 'cut.pt').write_bytes((tmp_path / 'b.pt').read_bytes()[:100_000])
  with pytest.raises(ValueError, match=r'cut.pt (is damaged|holds)'):
    conversion.read(tmp_path / 'cut.pt', 'inception_v3')


@pytest.fixture
def small():
  """State dicts of small arrays: of the weights, and of their averages."""
  weights = {name: torch.from_numpy(array) for name, array in small_state('inception_v4').items()}
  return weights, {name: value + 1 for name, value in weights.items()}


def test_averages_of_training_scripts(small, tmp_path):
  weights, averages = small
  wrapped = {f'module.{name}': value for name, value in averages.items()}
  contents = {
    'timm.pth.tar': {'state_dict': weights, 'state_dict_ema': averages, 'epoch': 3},
    'torchvision.pth': {'model': weights, 'model_ema': wrapped | {'n_averaged': torch.tensor(5)}},
    'alone.pth': {'state_dict_ema': averages},
    'plain.pth': {'state_dict': weights},
  }
  expected = {True: 2.0, False: 1.0}
  for name, content in contents.items():
    torch.save(content, tmp_path / name)
    for use_ema in (None, True, False):
      read = functools.partial(conversion.read, tmp_path / name, 'inception_v4', use_ema=use_ema)
      if (name, use_ema) in (('alone.pth', False), ('plain.pth', True)):
        with pytest.raises(
          ValueError, match=rf'{name} has (the|no) moving averages of the weights'
        ):
          read()
        continue
      result = read()
      assert result.averages is (name != 'plain.pth' and use_ema is not False)
      assert (result.layers['Conv2d_1a_3x3'].weights == expected[result.averages]).all()


class Flags(argparse.Namespace):
  """A type of a script's own."""


def test_checkpoints_that_timm_itself_writes(tmp_path):
  """`CheckpointSaver`, with flags, an optimizer, the averages and an accuracy of NumPy."""
  from timm.utils import CheckpointSaver, ModelEmaV3

  model = TIMM.create_model('inception_v4', num_classes=3)
  averages = ModelEmaV3(model)
  with torch.no_grad():
    for value in averages.module.parameters():
      value += 1
  optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
  flags = argparse.Namespace(model='inception_v4', opt='sgd', lr=0.1, mean=None)
  for args in (flags, Flags(model='inception_v4')):
    saver = CheckpointSaver(model, optimizer, args, averages, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=np.float64(76.5))
    if args is not flags:
      with pytest.raises(ValueError, match=r'model_best.pth.tar holds Python objects .*Flags\)'):
        conversion.read(tmp_path, 'inception_v4')
      continue
    for use_ema, expected in ((None, averages.module), (False, model)):
      weights = conversion.read(tmp_path, 'inception_v4', use_ema=use_ema)  # the folder
      assert weights.path == str(tmp_path / 'model_best.pth.tar')
      assert weights.averages is (use_ema is None)
      assert (', moving averages of the weights' in description.about(weights)) is weights.averages
      first = expected.features[0].conv.weight.detach().numpy().transpose(2, 3, 1, 0)
      np.testing.assert_array_equal(weights.layers['Conv2d_1a_3x3'].weights, first)


def test_checkpoints_of_torchvisions_references(small, tmp_path):
  """What references/classification/train.py saves: averages of `AveragedModel`."""
  model = torch.nn.Sequential(torch.nn.Linear(2, 2))
  averaged = torch.optim.swa_utils.AveragedModel(model).state_dict()
  assert set(averaged) == {'n_averaged', 'module.0.weight', 'module.0.bias'}
  weights, averages = small
  optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
  checkpoint = {
    'model': {f'module._orig_mod.{name}': value for name, value in weights.items()},
    'optimizer': optimizer.state_dict(),
    'lr_scheduler': torch.optim.lr_scheduler.StepLR(optimizer, 30).state_dict(),
    'epoch': 3,
    'args': argparse.Namespace(data_path='imagenet', device='cuda', lr=0.1),
    'model_ema': {f'module.{k}': v for k, v in averages.items()} | {'n_averaged': torch.tensor(5)},
    'scaler': {'scale': 65536.0},
  }
  torch.save(checkpoint, tmp_path / 'checkpoint.pth')
  for use_ema, expected in ((None, 2.0), (False, 1.0)):
    result = conversion.read(tmp_path / 'checkpoint.pth', 'inception_v4', use_ema=use_ema)
    assert (result.layers['Conv2d_1a_3x3'].weights == expected).all()
    assert result.averages is (use_ema is None)


def test_numpys_numbers_are_passed_over_and_nothing_else_of_it(small, tmp_path):
  weights, _ = small
  for number in (np.float32(0.5), np.float64(0.5), np.int64(3), np.bool_(True)):
    torch.save({'state_dict': weights, 'metric': number}, tmp_path / 'a.pth')
    assert conversion.read(tmp_path / 'a.pth', 'inception_v4').num_classes == 3
  for odd, name in ((np.ones(3), '_reconstruct'), (pathlib.Path('x'), 'Path')):
    torch.save({'state_dict': weights, 'best': odd}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=rf'a.pth holds Python objects .*{name}\), and opening'):
      conversion.read(tmp_path / 'a.pth', 'inception_v4')


@pytest.mark.filterwarnings('ignore')  # of CUDA's, where there is none
def test_an_optimizer_alone_is_named(tmp_path):
  model = torch.nn.Linear(2, 2)
  optimizer = torch.optim.Adam(model.parameters())
  model(torch.ones(1, 2)).sum().backward()
  optimizer.step()
  for content in (optimizer.state_dict(), {'epoch': 3, 'optimizer': optimizer.state_dict()}):
    torch.save(content, tmp_path / 'optimizer.pt')
    with pytest.raises(
      ValueError, match='optimizer.pt is the state of an optimizer, without weigh'
    ):
      conversion.read(tmp_path / 'optimizer.pt', 'inception_v4')


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', ['inception_v4', 'inception_resnet_v2'])
def test_cadenes_nets(name, tmp_path):
  cadene = pytest.importorskip('pretrainedmodels', reason='pretrainedmodels is not installed')
  make = getattr(cadene, name.replace('_', ''))
  theirs = randomize(make(num_classes=7, pretrained=None))
  torch.save(theirs.state_dict(), tmp_path / 'theirs.pth')
  images = golden.images(2, 299, 299)
  ours = nets_factory.create_model(name, weights=tmp_path / 'theirs.pth')
  assert golden.relative_error(ours(images)[0], their_logits(theirs, images)) < 1e-4


@pytest.mark.parametrize('scope', ['student', 'student.'])
def test_one_of_two_nets(scope, small, tmp_path):
  weights, others = small
  state = {f'student.{name}': value for name, value in weights.items()}
  state |= {f'teacher.{name}': value for name, value in others.items()}
  torch.save(state, tmp_path / 'distillation.pth')
  with pytest.raises(
    ValueError, match='under student., teacher.: --source_scope=student. takes one'
  ):
    conversion.read(tmp_path / 'distillation.pth', 'inception_v4')
  result = conversion.read(tmp_path / 'distillation.pth', 'inception_v4', source_scope=[scope])
  assert (result.layers['Conv2d_1a_3x3'].weights == 1).all()
  outside = {name for name, rule in result.left_out.items() if rule == f'not in {scope}'}
  assert outside == {name for name in state if name.startswith('teacher.')}


@pytest.mark.parametrize('zipped', [True, False])
def test_damaged_files_of_pytorch(zipped, small, tmp_path):
  weights, _ = small
  path = tmp_path / 'a.pth'
  torch.save({'state_dict': weights}, path, _use_new_zipfile_serialization=zipped)
  content = path.read_bytes()
  for at in np.linspace(0, len(content) - 1, 12).astype(int):
    flipped = bytearray(content)
    flipped[at] ^= 0xFF
    for damaged in (bytes(flipped), content[: at + 1]):
      path.write_bytes(damaged)
      try:
        conversion.read(path, 'inception_v4')
      except (ValueError, OSError) as error:
        assert len(str(error).splitlines()) == 1
        assert 'a.pth' in str(error)
        assert 'weights_only' not in str(error)  # advice to have the file's code run


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda x: x.to_sparse(), 'is a tensor of sparse_coo, float32; those of plain real numbers'),
    (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), 'is a tensor of .*qint8'),
    (lambda x: x.to(torch.complex64), 'is a tensor of strided, complex64'),
    (
      lambda x: torch.ones(1).expand(1 << 40),
      r'is to have 4,398,046,511,104 bytes, in a file of 4',
    ),
  ],
)
@pytest.mark.filterwarnings('ignore')
def test_tensors_that_are_no_plain_numbers_are_named(change, message, small, tmp_path):
  weights, _ = small
  name = 'features.0.conv.weight'
  torch.save({**weights, name: change(weights[name])}, tmp_path / 'a.pth')
  with pytest.raises(ValueError, match=f'a.pth: {name} {message}'):
    conversion.read(tmp_path / 'a.pth', 'inception_v4')
  torch.save({**weights, name: weights[name].to(torch.float8_e4m3fn)}, tmp_path / 'a.pth')
  layers = conversion.read(tmp_path / 'a.pth', 'inception_v4').layers
  assert layers['Conv2d_1a_3x3'].weights.dtype == np.float32


@pytest.mark.filterwarnings('ignore')
def test_programs_are_named_as_such(tmp_path):
  torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / 'script.pt')
  torch.export.save(
    torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), tmp_path / 'export.pt2'
  )
  for name in ('script.pt', 'export.pt2'):
    with pytest.raises(ValueError, match=rf'{name} is a program of PyTorch .* state_dict\(\)'):
      conversion.read(tmp_path / name, 'inception_v4')


@pytest.mark.skipif(not os.path.exists('/proc/self/io'), reason='the system counts no bytes')
@pytest.mark.parametrize('is_of_today', [True, False])
def test_the_width_of_deepfaces_embedding_is_told_without_its_numbers(tmp_path, is_of_today):
  """As the system counts bytes that are read."""
  first = {'conv2d_1a_3x3.conv.weight': torch.ones(1 << 20)}
  state = {'bottleneck.weight': torch.ones(128, 8), **first}
  path = tmp_path / 'facenet.pth'
  torch.save({'state_dict': state}, path, _use_new_zipfile_serialization=is_of_today)

  def bytes_read():
    with open('/proc/self/io') as file:
      return int(file.readline().removeprefix('rchar: '))

  torch_family.embedding_width(str(path))  # imports what it needs
  before = bytes_read()
  assert torch_family.embedding_width(str(path)) == 128
  assert (bytes_read() - before > 1 << 22) == (not is_of_today)
  torch.save({'bottleneck.weight': torch.ones(()), **first}, path)
  assert torch_family.embedding_width(str(path)) is None


@pytest.mark.slow
@pytest.mark.parametrize('width', [128, 512])
def test_deepfaces_own_net(tmp_path, width):
  """0.0.103's for PyTorch; it is the same function of what it is given, whatever that is."""
  module = pytest.importorskip(
    'deepface.models.facial_recognition.pytorch.Facenet', reason='deepface is not installed'
  )
  theirs = randomize(module.InceptionResNetV1(width))
  torch.save(theirs.state_dict(), tmp_path / 'facenet.pth')
  weights = conversion.read(tmp_path / 'facenet.pth', 'inception_resnet_v1')
  assert (weights.num_classes, weights.arguments) == (None, {'bottleneck_layer_size': width})
  ours = nets_factory.create_model('inception_resnet_v1', None, image_size=160, **weights.arguments)
  assert not conversion.fill(ours.variables_by_name, weights, ()).fresh
  images = golden.images(2, 160, 160)
  assert golden.relative_error(ours(images)[0], their_logits(theirs, images)) < 1e-4
  views = formats.views(tmp_path / 'facenet.pth', 'inception_resnet_v1')
  assert views == ('facenet_whitened' if width == 128 else 'facenet', 160)
