"""A simulated series as DICOM and the same scan as a volume."""

import pytest
from helpers.dicom import make_slice, save
from helpers.volumes import COUNT, FIRST, STEP, THICKNESS, affine_ras, nifti, phantom, volume_of


@pytest.fixture(scope="session")
def series(tmp_path_factory):
    """Folder of a DICOM series, its slices from the feet up, as text with one decimal."""
    folder = tmp_path_factory.mktemp("series")
    for index, hu in enumerate(phantom(COUNT)):
        position = [-10, -20, round(FIRST + index * STEP, 1)]
        save(make_slice(hu, number=index + 1, ImagePositionPatient=position, SliceThickness=THICKNESS),
             folder / f"{index}.dcm")  # fmt: skip
    return folder


@pytest.fixture(scope="session")
def scan(tmp_path_factory):
    """The same scan as a NIfTI file, whose header has single precision."""
    path = tmp_path_factory.mktemp("volume") / "scan.nii"
    path.write_bytes(nifti(volume_of(phantom(COUNT)), affine_ras((0.7, 0.7, STEP), (-10, -20, FIRST))))
    return path
