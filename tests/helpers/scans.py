"""Scans to train on that are made in a second: the real simulation on a coarse phantom by a coarse scanner."""

from diffusionct_pipeline.simulation import ChestPhantom, Scanner
from diffusionct_pipeline.train.data import scans


def coarse_phantom(seed, **options):
    """The same anatomy on a grid of 1.8 mm."""
    return ChestPhantom(seed, size=192, spacing_mm=1.8, **options)


def coarse_scanner(n_detectors=288, **options):
    """A sixth of the views."""
    return Scanner(n_views=120, n_detectors=288, detector_mm=1.4, **options)


def coarsen(patch):
    """Let `simulate_groups` take both; `patch` is a `pytest.MonkeyPatch`."""
    patch.setattr(scans, "ChestPhantom", coarse_phantom)
    patch.setattr(scans, "Scanner", coarse_scanner)


def simulate_coarsely(patch, folder, groups=1, **options):
    """`simulate_groups` at 64 x 64 pixels."""
    coarsen(patch)
    scans.simulate_groups(folder, groups, **{"size": 64} | options)
