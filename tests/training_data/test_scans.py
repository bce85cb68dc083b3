import pytest
import torch
from diffusionct_pipeline.simulation import KERNELS
from diffusionct_pipeline.training_data import scans
from diffusionct_pipeline.training_data.latents import stored_scans
from diffusionct_pipeline.training_data.objects import TrainingObject
from diffusionct_pipeline.training_data.scans import object_groups, phantom_groups


@pytest.fixture(scope="module")
def group():
    return next(phantom_groups(1, "Br44", size=64, offset=1))


@pytest.fixture(scope="module")
def latents(group):
    return stored_scans([group, group], lambda sample, spacing: sample.view(1, 32, -1), "cpu")


class TestPhantomGroups:
    def test_two_scans_of_two_slices_under_the_same_kernels(self, group):
        first, second = group
        assert all(one.kernels == first[0].kernels for one in [*first, *second])
        assert first[0].options == first[1].options and first[0].z_mm + 50 < first[1].z_mm
        assert first[0].mas != second[0].mas and first[0].spacing_mm != second[0].spacing_mm
        assert first[0].options.smoothing == second[0].options.smoothing

    def test_the_standard_comes_first_and_is_exact_and_not_smoothed(self, group):
        one = group[0][0]
        assert next(iter(one.hu)) == "Br44" and one.kernels["Br44"] == KERNELS["Br44"]
        assert "Br44" not in one.options.smoothing and one.options.smoothing


def test_two_slices_of_objects_in_one_scan_are_of_one_patient(monkeypatch):
    objects = [TrainingObject(torch.full((64, 64), 40 + i, dtype=torch.int16), 0.7 + 0.1 * (i % 2)) for i in range(6)]
    scanned = []

    def scan(hu, spacing_mm, options, seed, scanner):
        scanned.append((spacing_mm, options))
        return seed

    monkeypatch.setattr(scans, "rekernel_slice", scan)
    groups = list(object_groups(10, objects, "Bl64", size=64))
    assert len({seed for group in groups for one in group for seed in one}) == len(scanned) == 40
    assert all(one == other for one, other in zip(scanned[::2], scanned[1::2]))
    assert len({spacing_mm for spacing_mm, _ in scanned}) == 2
    assert all(20 <= options.mas <= 100 and options.kernels[0] == KERNELS["Bl64"] for _, options in scanned)


class TestStoredScans:
    def test_pairs_are_two_kernels_of_one_slice(self, latents):
        kernels, pairs = len(latents.latents) // 8, latents.pairs
        assert (pairs.source // kernels == pairs.target // kernels).all() and (pairs.source != pairs.target).all()
        assert (latents.spacing[pairs.source] == latents.spacing[pairs.target]).all()

    def test_references_are_other_slices_of_the_group_under_the_targets_kernel(self, latents):
        kernels, pairs = len(latents.latents) // 8, latents.pairs[~latents.pairs.to_standard]
        assert (pairs.reference % kernels == pairs.target % kernels).all()
        assert (pairs.reference // kernels != pairs.target // kernels).all()
        assert (pairs.reference // kernels // 4 == pairs.target // kernels // 4).all()

    def test_the_standard_is_the_first_kernel(self, latents):
        kernels, pairs = len(latents.latents) // 8, latents.pairs[latents.pairs.to_standard]
        assert (pairs.target % kernels == 0).all() and len(pairs) == 8 * (kernels - 1)

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_draws_the_standard_as_often_as_asked(self, latents, share):
        drawn = latents.draw(2000, share, torch.Generator().manual_seed(0))
        assert len(drawn.pairs) == 2000 and drawn.latents is latents.latents
        assert abs(drawn.pairs.to_standard.float().mean().item() - share) < 0.04
