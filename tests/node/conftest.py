import pytest
from helpers.orthanc_server import Server


@pytest.fixture
def server(tmp_path):
    """A real Orthanc of its own; skipped by name where there is none."""
    server = Server(tmp_path / "orthanc", "ORTHANC").start()
    yield server
    server.stop()
