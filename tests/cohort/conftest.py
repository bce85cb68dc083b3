import numpy as np
import pytest
from helpers.dicom import make_slice, save


@pytest.fixture
def hu():
    """(3, 24, 28) HU of noisy soft tissue."""
    return np.rint(np.random.default_rng(0).normal(40, 60, (3, 24, 28)))


@pytest.fixture
def labels(hu):
    """Two regions on these."""
    mask = np.zeros(hu.shape, np.uint8)
    mask[:, 5:14, 6:18] = 1
    mask[1, 16:22, 20:27] = 2
    return mask


@pytest.fixture
def write_patient(tmp_path, labels):
    """Writes HU as a DICOM series of a patient, with its mask beside it; returns the folder of all patients."""

    def write(name, hu, number, mask=labels, **header):
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True)
        for k, one in enumerate(hu):
            place = {"ImagePositionPatient": [-10.0, -20.0, 2.5 * k], "PatientID": name, **header}
            save(make_slice(one, number=k + 1, series=number, **place), folder / f"{k:03d}.dcm")
        if mask is not None:
            np.savez_compressed(folder / "tumours.npz", mask=mask)
        return tmp_path / "scans"

    return write
