"""A server of archives."""

import threading

import pytest

from tests.datasets.archives import Server


@pytest.fixture
def server():
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
