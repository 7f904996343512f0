"""A server of archives."""

import pytest

from tests.datasets.archives import serving


@pytest.fixture
def server():
  with serving() as server:
    yield server
