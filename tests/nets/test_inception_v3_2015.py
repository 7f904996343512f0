"""The network of FID gives the features of its graph of 2015, and of pytorch-fid's network."""

import dataclasses
import tarfile

import numpy as np
import pytest
from slim_inception.nets import inception_v3, inception_v3_2015, nets_factory
from slim_inception.nets.convert import conversion, fid
from slim_inception.preprocessing import preprocessing_factory

from tests import golden, graph_2015

NET = 'inception_v3_2015'
THIN = {'depth_multiplier': 0.125}


@pytest.fixture(scope='module', params=[False, True], ids=['gamma unused', 'gamma'])
def graph(request):
  return graph_2015.build(THIN['depth_multiplier'], scales=request.param)


def test_the_graph_of_2015(graph, tmp_path):
  path = tmp_path / 'classify_image_graph_def.pb'
  path.write_bytes(graph.SerializeToString())
  with tarfile.open(tmp_path / 'inception-2015-12-05.tgz', 'w:gz') as file:
    file.add(path, path.name)
  pixels = ((golden.images(2, 64, 96) + 1) * 127.5).round()
  fetched = ('mixed_6/conv:0', 'mixed_10/join:0', 'pool_3:0', 'softmax/logits:0')
  spatial, last, features, logits = graph_2015.run(graph, pixels, *fetched)
  for name in (path.name, 'inception-2015-12-05.tgz'):
    model = nets_factory.create_model(NET, weights=tmp_path / name, **THIN)
    preprocessing = preprocessing_factory.get(nets_factory.get_net(NET).preprocessing)
    images = np.stack([preprocessing.eval_view(p.astype(np.uint8), 299, 299) for p in pixels])
    ours, end_points = model(images)
    assert ours.shape == (2, graph_2015.OUTPUTS)
    assert golden.relative_error(ours, logits) < 1e-4
    assert golden.relative_error(end_points['AvgPool_1a'], features) < 1e-4
    assert golden.relative_error(end_points['Mixed_7c'], last) < 1e-4
    assert golden.relative_error(end_points['Mixed_6d'][..., : spatial.shape[-1]], spatial) < 1e-4
    assert all(name in model.variables_by_name for name in read_names(tmp_path / name))


def read_names(path):
  weights = conversion.read(path, NET)
  assert weights.num_classes == graph_2015.OUTPUTS
  assert not weights.left_out
  assert set(weights.layers) == {
    path for paths in nets_factory.get_net(NET).weighted.values() for path in paths
  }
  return [f'{inception_v3_2015.SCOPE}/{scope}/weights' for scope in weights.layers]


def test_the_graph_in_a_scope_and_of_another_net(graph, tmp_path):
  for node in graph_copy(graph, scope := 'import/').node:
    assert node.name.startswith(scope)
  path = tmp_path / 'scoped.pb'
  path.write_bytes(graph_copy(graph, scope).SerializeToString())
  assert conversion.read(path, NET).num_classes == graph_2015.OUTPUTS
  with pytest.raises(ValueError, match='not of inception_v3: .* but is of inception_v3_2015'):
    conversion.read(path, 'inception_v3')


def graph_copy(graph, scope):
  copy = type(graph)()
  copy.CopyFrom(graph)
  for node in copy.node:
    node.name = scope + node.name
    node.input[:] = [scope + name for name in node.input]
  return copy


def test_it_differs_from_inception_v3_in_the_last_pool_alone():
  before, ours = (net.BODY for net in (inception_v3, inception_v3_2015))
  assert ours[:-1] == before[:-1]
  cells = [c.op for c in ours[-1].cells if c.op.endswith('Pool')]
  assert (cells, [c.op for c in before[-1].cells if c.op.endswith('Pool')]) == (
    ['MaxPool'],
    ['AvgPool'],
  )
  assert dataclasses.replace(inception_v3.HEAD, auxiliary=None) == inception_v3_2015.HEAD


def test_a_file_of_inception_v3_says_where_the_right_ones_are(tmp_path):
  torch_file = pytest.importorskip('safetensors.numpy', reason='it is not installed')
  from tests.nets.test_convert_safetensors import small_state

  path = tmp_path / 'inception_v3.safetensors'
  auxiliary = {'AuxLogits.fc.weight': np.ones((3, 2), np.float32)}
  for state in (small_state('inception_v3', classes=1000), small_state('inception_v3') | auxiliary):
    torch_file.save_file(state, path)
    with pytest.raises(ValueError, match=f'it is inception_v3, of the same .*{fid.WHERE[:30]}'):
      conversion.read(path, NET)


def test_pytorch_fids_network_both_ways(tmp_path, monkeypatch):
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  torchvision = pytest.importorskip('torchvision', reason='torchvision is not installed')
  theirs = pytest.importorskip('pytorch_fid.inception', reason='pytorch-fid is not installed')
  from safetensors.torch import load_file

  from tests.nets.test_convert_torch import randomize

  plain = torchvision.models.inception_v3(
    weights=None, num_classes=1008, aux_logits=False, init_weights=False
  )
  state = randomize(plain).state_dict()
  path = tmp_path / 'pt_inception-2015-12-05-6726825d.pth'
  torch.save(state, path)
  monkeypatch.setattr(theirs, 'load_state_dict_from_url', lambda *_, **__: torch.load(path))
  network = theirs.InceptionV3([3], resize_input=False, normalize_input=False).eval()
  images = golden.images(2, 299, 299)
  with torch.no_grad():
    (expected,) = network(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    expected = expected.numpy()[:, :, 0, 0]
  ours = nets_factory.create_model(NET, weights=path)
  logits, end_points = ours(images)
  assert golden.relative_error(end_points['AvgPool_1a'][:, 0, 0], expected) < 1e-4
  product = expected @ state['fc.weight'].numpy().T + state['fc.bias'].numpy()
  assert golden.relative_error(logits, product) < 1e-4

  weights = conversion.read(path, NET)
  conversion.write_timm(str(tmp_path / 'back.safetensors'), weights)
  plain.load_state_dict(load_file(tmp_path / 'back.safetensors'), strict=True)
  for name, value in state.items():
    torch.testing.assert_close(plain.state_dict()[name], value)
