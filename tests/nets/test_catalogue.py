"""The catalogue against the registry, the pages, and figures written down elsewhere."""

import pathlib

from slim_inception.nets import catalogue, nets_factory

from slim_inception.cli import list as list_command
from tests import tiny

DOCS = pathlib.Path(__file__).parent.parent.parent / 'docs'


def test_errors_are_those_of_the_page_on_evaluation():
  page = (DOCS / 'evaluation.md').read_text('utf-8')
  papers = [net.paper for net in nets_factory.NETS.values() if net.paper and net.paper.crops_144]
  assert len(papers) == 4
  for paper in papers:
    errors = (paper.one_crop, paper.crops_12, paper.crops_144)
    cells = ' | '.join(f'{top_1} / {top_5}' for top_1, top_5 in errors)
    assert f'| {paper.title} | {cells} |' in page


def test_checkpoints_are_whole():
  assert len({checkpoint.name for checkpoint in catalogue.CHECKPOINTS}) == 46
  for checkpoint in catalogue.CHECKPOINTS:
    assert checkpoint.net in nets_factory.NETS
    assert checkpoint.source and checkpoint.images and checkpoint.outputs in (128, 512, 1000, 1001)
    is_of_faces = checkpoint.net == 'inception_resnet_v1'
    is_without_figures = is_of_faces or 'adv_imagenet_models' in checkpoint.source
    assert (checkpoint.top_1 is None) == is_without_figures
    if checkpoint.top_1:
      assert 69 < checkpoint.top_1 < 83 and 89 < checkpoint.top_5 < 97


def test_the_page_has_the_tables_as_they_are():
  page = (DOCS / 'nets.md').read_text('utf-8')
  lines = [line for line in list_command.as_markdown() if not line.startswith(f'| {tiny.NAME} |')]
  end = lines.index('')
  assert '\n'.join(lines[:end]) in page
  assert '\n'.join(lines[end + 1 :]) in page


def test_json_names_the_sources():
  content = list_command.as_json()
  assert {'name', 'parameters', 'multiply_adds', 'paper'} <= content['nets'][0].keys()
  papers = {net['name']: net['paper'] for net in content['nets']}
  assert papers['inception_v3']['one_crop'] == {'top_1': 21.2, 'top_5': 5.6}
  assert papers['resnet_v1_50']['one_crop'] == {'top_1': 24.7, 'top_5': 7.8}
  assert papers['resnet_v1_200']['one_crop'] is None
  assert all(checkpoint['source'] for checkpoint in content['checkpoints'])
