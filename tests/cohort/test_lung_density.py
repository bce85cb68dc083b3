"""Density of a given region and of lungs that a threshold finds."""

import numpy as np
import pytest

from diffusionct_pipeline.cohort import lungs_by_threshold, read_table
from diffusionct_pipeline.cohort.lung_density import density as of_region
from diffusionct_pipeline.commands._main import main

VOXEL_MM = (5.0, 5.0, 5.0)


@pytest.fixture
def chest():
    """(12, 60, 80) HU: a patient in air, two lungs with a vessel, a bubble of gas; and the lungs."""
    z, y, x = np.indices((12, 60, 80))
    hu = np.where(((y - 30) / 24) ** 2 + ((x - 40) / 34) ** 2 < 1, 40.0, -1000.0)
    lungs = np.zeros(hu.shape, bool)
    for side in (26, 54):
        lungs |= ((y - 30) / 14) ** 2 + ((x - side) / 10) ** 2 < 1
    hu[lungs] = -860
    vessel = lungs & (abs(y - 30) < 2)
    hu[vessel] = 30
    hu[4:6, 48:50, 40:42] = -990
    return hu, lungs & ~vessel


def test_figures_are_those_of_their_definitions():
    hu = np.concatenate([np.full(10, -960.0), np.full(20, -920.0), np.full(60, -800.0), np.full(10, 0.0)])[None, None]
    found = of_region(hu, np.ones(hu.shape, bool), (1, 2, 5))
    assert found["DENSITY/LAA950"] == 10 and found["DENSITY/LAA910"] == 30
    assert found["DENSITY/Percentile15"] == -920 and found["DENSITY/Mean"] == pytest.approx(-760)
    assert found["DENSITY/Volume"] == pytest.approx(1) and found["DENSITY/VolumeAbove400"] == pytest.approx(0.1)


def test_lungs_are_found_without_the_air_around_vessels_and_bubbles(chest):
    hu, lungs = chest
    np.testing.assert_array_equal(lungs_by_threshold(hu, VOXEL_MM), lungs)
    with pytest.raises(ValueError, match="at least 100 ml of air"):
        lungs_by_threshold(np.where(lungs, 40, hu), VOXEL_MM)


def test_command(write_patient, chest, tmp_path, capsys):
    pytest.importorskip("pandas")
    hu, lungs = chest
    header = {"PixelSpacing": [5.0, 5.0]}
    scans = write_patient("ann", hu, 1, mask=lungs.astype(np.uint8), **header)
    assert main(["features", str(scans), "--density", "--out", str(tmp_path / "found.csv")]) == 0
    assert main(["features", str(scans), str(scans), "--density", "--out", str(tmp_path / "given.csv")]) == 0
    found, given = read_table(tmp_path / "found.csv"), read_table(tmp_path / "given.csv")
    names = [name for name in found if name.startswith("DENSITY/")]
    assert len(names) == 6 and found["region"].tolist() == ["lungs"]
    np.testing.assert_allclose(found[names], given[names])
    assert main(["features", str(scans), "--out", str(tmp_path / "none.csv")]) == 2
    assert "give MASKS" in capsys.readouterr().err
