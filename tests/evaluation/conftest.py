import numpy as np
import pytest
from helpers.dicom import make_slice, save

from diffusionct_pipeline.evaluation.geometry import find_series


@pytest.fixture
def write_stack(tmp_path):
    """Writes HU (slices, rows, columns) as a CT series, 2.5 mm apart; returns its folder."""

    def write(hu, name="standard", series=1, **header):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for k, one in enumerate(hu):
            position = {"ImagePositionPatient": [-10.0, -20.0, 2.5 * k], **header}
            save(make_slice(one, number=k + 1, series=series, **position), folder / f"{k:03d}.dcm")
        return folder

    return write


@pytest.fixture(scope="session")
def noise():
    """(5, 40, 48) HU of noisy soft tissue."""
    return np.rint(np.random.default_rng(0).normal(40, 60, (5, 40, 48)))


@pytest.fixture
def folder(write_stack, noise):
    """The noise as a series."""
    return write_stack(noise)


@pytest.fixture
def geometry(folder):
    """Of that series."""
    return find_series(folder).geometry
