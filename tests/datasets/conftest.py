"""A server of archives."""

import importlib.util

import pytest

from tests.datasets.archives import serving

if importlib.util.find_spec('hypothesis') is None:
  collect_ignore = ['test_records.py', 'test_shards.py', 'test_imagenet_boxes.py']


@pytest.fixture
def server():
  pytest.importorskip('pooch')
  with serving() as server:
    yield server
