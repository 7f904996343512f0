"""A server of archives."""

import pytest

from tests.datasets.test_download import serving


@pytest.fixture
def server():
  with serving() as server:
    yield server
