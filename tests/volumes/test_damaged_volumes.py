"""Damaged volumes: refused by name, or whole and finite voxels; never another error."""

import gzip

import numpy as np
import pytest
from helpers import fuzz
from helpers.volumes import affine_ras, nifti, nrrd, phantom, volume_of

from diffusionct_pipeline.volumes import VolumeError, read_volume

MUTATIONS = (fuzz.flip, fuzz.random_bytes, fuzz.cut)
WHOLE = {
    "scan.nii": lambda: nifti(volume_of(phantom()), affine_ras()),
    "scan.nii.gz": lambda: gzip.compress(nifti(volume_of(phantom()), affine_ras()), mtime=0),
    "scan.nrrd": lambda: nrrd(volume_of(phantom()), affine_ras()),
    "packed.nrrd": lambda: nrrd(volume_of(phantom()), affine_ras(), encoding="gzip"),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("count", [20, pytest.param(650, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_are_refused_or_read(name, count, tmp_path):
    data, path = WHOLE[name](), tmp_path / name
    path.write_bytes(data)
    expected, refused = read_volume(path).voxels.shape, 0
    head = 400  # where the headers are: half of the damage goes there
    for number in range(count):
        rng = np.random.default_rng(number)
        damage = MUTATIONS[number % len(MUTATIONS)]
        changed = fuzz.flip(data, rng, 0, head) if number % 2 else damage(data, rng)
        path.write_bytes(changed or b"\0")
        try:
            volume = read_volume(path)
        except VolumeError as error:
            assert str(path) in str(error)
            refused += 1
        else:
            assert np.prod(volume.voxels.shape) <= 8 * np.prod(expected)
    assert refused
