"""No phantom is on two sides."""

from itertools import combinations

import pytest

from diffusionct_pipeline.demo import PHANTOM_SEED
from diffusionct_pipeline.simulation.splits import DEMO, IMAGE_PAIRS, SCANS, SPLITS, TEST, VALIDATION, take
from diffusionct_pipeline.train.data import objects, scans


@pytest.mark.parametrize(("one", "other"), list(combinations(SPLITS, 2)))
def test_no_two_overlap(one, other):
    assert not set(SPLITS[one]) & set(SPLITS[other])


def test_take_stays_within_the_split():
    assert list(take(VALIDATION, 2, offset=3)) == [50_003, 50_004]
    assert len(take(TEST, len(TEST))) == len(TEST)
    for count, offset in ((len(TEST) + 1, 0), (1, len(TEST)), (1, -1)):
        with pytest.raises(ValueError, match="'test'"):
            take(TEST, count, offset)


def test_the_phantom_of_the_demo_is_in_its_split():
    assert PHANTOM_SEED in DEMO


class Seen(Exception):
    """A phantom was asked for."""


@pytest.fixture
def seeds(monkeypatch):
    """Seeds of the phantoms that are made."""
    made = []

    def phantom(seed, **_):
        made.append(seed)
        raise Seen

    for module in (objects, scans):
        monkeypatch.setattr(module, "ChestPhantom", phantom)
    return made


def test_training_takes_its_phantoms_from_its_own_splits(seeds, tmp_path):
    with pytest.raises(Seen):
        objects.phantom_objects(8, seed=7)
    with pytest.raises(Seen):
        scans.simulate_groups(tmp_path, 6, process=5, processes=6, size=64)  # the sixth group
    assert seeds == [IMAGE_PAIRS[7], SCANS[10]]
    with pytest.raises(ValueError, match="image pairs"):
        objects.phantom_objects(8, seed=len(IMAGE_PAIRS))
