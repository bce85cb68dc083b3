"""Being here puts tests/ on the import path: `from helpers.dicom import make_slice`."""

import pytest
from helpers.tiny import tiny_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    return str(folder)
