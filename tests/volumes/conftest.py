"""A simulated series as DICOM and the same scan as a volume."""

import pytest
from helpers.dicom import make_slice, save
from helpers.volumes import COUNT, FIRST, STEP, THICKNESS, affine_ras, nifti, phantom, volume_of


@pytest.fixture(scope="session")
def series(tmp_path_factory):
    """Folder of a DICOM series, its slices from the feet up, as text with one decimal.

    Its kernel has no name that tells anything: volumes have none.
    """
    folder = tmp_path_factory.mktemp("series")
    for index, hu in enumerate(phantom(COUNT)):
        position = [-10, -20, round(FIRST + index * STEP, 1)]
        header = {"ImagePositionPatient": position, "SliceThickness": THICKNESS, "ConvolutionKernel": "UNNAMED"}
        save(make_slice(hu, number=index + 1, **header), folder / f"{index}.dcm")
    return folder


@pytest.fixture(scope="session")
def scan(tmp_path_factory):
    """The same scan as a NIfTI file, whose header has single precision."""
    path = tmp_path_factory.mktemp("volume") / "scan.nii"
    path.write_bytes(nifti(volume_of(phantom(COUNT)), affine_ras((0.7, 0.7, STEP), (-10, -20, FIRST))))
    return path
