import pytest

from diffusionct_pipeline.simulation import ChestPhantom, Scanner, ScanOptions


@pytest.fixture(scope="session")
def phantom():
    """A chest on a coarse grid: the same anatomy, cheap to paint."""
    return ChestPhantom(seed=1, size=256, spacing_mm=1.4)


@pytest.fixture(scope="session")
def scanner():
    """Half the default resolution and a quarter of the views."""
    return Scanner(n_views=240, n_detectors=576, detector_mm=0.7)


@pytest.fixture(scope="session")
def options():
    return ScanOptions(size=96, spacing_mm=0.8)
