"""What training draws from stored scans, and how scans become latents."""

import pytest
import torch
from diffusionct_pipeline.image_processor import HIGHEST_SEEN_HU, to_model
from diffusionct_pipeline.models import TextureAutoencoder
from diffusionct_pipeline.models.texture.coherence import coherence_of
from diffusionct_pipeline.training_data import texture_pairs
from diffusionct_pipeline.training_data.scans import SLICES as SLICES_OF_SCAN
from diffusionct_pipeline.training_data.scans import read_scan, scan_path, stored_groups
from diffusionct_pipeline.training_data.texture_pairs import TexturePairs, load_texture_pairs
from helpers.scans import simulate_coarsely

RINGS, SLICES, VARIANTS, SIDE = 5, 4 * SLICES_OF_SCAN, 4, 3
PAIRS = torch.tensor([(1, 0), (2, 0), (3, 0), (0, 2), (1, 3)])
UNCUT = 0.05  # what the channel of the mean has more there
SLICE, VARIANT = 0, 1  # the channels that say which it is, as they hold no power


@pytest.fixture(scope="module")
def store():
    """Latents whose first channels say their slice and variant, and whose power is a number of these."""
    number, variant = torch.arange(SLICES).float(), torch.arange(VARIANTS).float()
    stored = torch.zeros(SLICES, VARIANTS, 2 + RINGS, SIDE**2)
    stored[:, :, SLICE] = number.view(-1, 1, 1)
    stored[:, :, VARIANT] = variant.view(1, -1, 1) / 10
    stored[:, :, 2:] = (number[:, None] + variant / 8).view(SLICES, VARIANTS, 1, 1)
    uncut = stored.clone()
    uncut[:, :, VARIANT] += UNCUT
    pairs = PAIRS.expand(SLICES, -1, -1).clone()
    agreement = torch.linspace(0, 0.8, SIDE**2).expand(SLICES, len(PAIRS), RINGS, -1)
    return TexturePairs(stored.half(), uncut.half(), pairs, agreement.half())


def draw(store, count=400, share=0.5, tokens=6, seed=0, same_share=0.0):
    return store.draw(count, share, tokens, torch.Generator().manual_seed(seed), same_share)


def variants(latent, uncut=0.0):
    return ((latent[:, VARIANT] - uncut) * 10).round()


def curves(power, latent):
    """What was added to the power (B, rings, n) of a slice and variant, which their channels tell."""
    variant, number = latent[:, VARIANT], latent[:, SLICE]
    return power - (number + (variant * 10).round() / 8)[:, None]


class TestDraw:
    def test_shapes(self, store):
        drawn = draw(store, 7)
        assert drawn.latent_a.shape == drawn.latent_b.shape == (7, 2 + RINGS, 9)
        assert drawn.reference.shape == (7, 6, 2 + RINGS) and drawn.phase_agreement.shape == (7, RINGS, 9)
        assert drawn.to_standard.dtype == torch.bool and drawn.latent_a.dtype == torch.float32

    def test_pairs_are_of_one_slice_in_two_variants_that_were_stored_as_a_pair(self, store):
        drawn = draw(store)
        assert torch.equal(drawn.latent_a[:, SLICE], drawn.latent_b[:, SLICE])
        a, b = variants(drawn.latent_a)[:, 0], variants(drawn.latent_b, UNCUT)[:, 0]
        assert {*zip(a.tolist(), b.tolist())} == {tuple(pair) for pair in PAIRS.tolist()}
        assert len(set(drawn.latent_a[:, SLICE, 0].tolist())) == SLICES

    def test_a_part_of_those_to_a_reference_are_one_variant_twice_under_two_curves(self, store):
        drawn = draw(store, same_share=0.2)
        same = (variants(drawn.latent_a) == variants(drawn.latent_b, UNCUT))[:, 0]
        share = same.float().sum() / (~drawn.to_standard).sum()
        assert share.item() == pytest.approx(0.2, abs=0.07)
        assert not same[drawn.to_standard].any() and (drawn.phase_agreement[same] == 1).all()
        between = (drawn.latent_b - drawn.latent_a)[same, 2:]  # [S,rings,L]
        torch.testing.assert_close(between, between[..., :1].expand_as(between), atol=1e-2, rtol=0)
        assert between[:, 1:].abs().amax((1, 2)).min() > 0.01

    def test_some_references_lean_to_other_anatomy_and_the_rest_are_evenly_drawn(self, store):
        stored = store.stored.clone()
        mean = torch.linspace(-1, 1, SIDE**2)
        stored[:, :, VARIANT] = mean  # the channel of the local mean
        leaning = draw(TexturePairs(stored, stored, store.pairs, store.phase_agreement), tokens=200)
        even = torch.rand(400, 200, generator=torch.Generator().manual_seed(1)).mul(SIDE**2).long()
        shift, chance = (seen.mean(1).abs() for seen in (leaning.reference[..., VARIANT], mean[even]))
        far = (shift > chance.max()).float().mean().item()
        assert 0.3 < far < texture_pairs.LEANING_SHARE + 0.05

    def test_some_batches_are_squares_of_the_slice_round_the_patient(self):
        side = 8
        stored = torch.zeros(SLICES, VARIANTS, 2 + RINGS, side**2)
        stored[:, :, VARIANT, : side**2 // 2] = -2.0  # air above
        stored[:, :, 2] = torch.arange(side**2).float()  # which position it is; the first ring has no curve
        agreement = torch.arange(side**2).float().expand(SLICES, len(PAIRS), RINGS, -1)
        store = TexturePairs(stored.half(), stored.half(), PAIRS.expand(SLICES, -1, -1), agreement)
        sizes = set()
        for seed in range(40):
            drawn = draw(store, 8, seed=seed)
            size = round(drawn.latent_a.shape[-1] ** 0.5)
            sizes.add(size)
            position = drawn.latent_a[:, 2].unflatten(1, (size, size))
            assert (position.diff(dim=2).abs() == 1).all() and (position.diff(dim=1).abs() == side).all()
            torch.testing.assert_close(drawn.latent_b[:, 2], drawn.latent_a[:, 2])
            torch.testing.assert_close(drawn.phase_agreement[:, 0], drawn.latent_a[:, 2])
            assert (drawn.latent_a[:, VARIANT].amax(1) == 0).all()  # each shows some of the patient
        assert {side, texture_pairs.SMALLEST_CROP} <= sizes <= set(range(texture_pairs.SMALLEST_CROP, side + 1))

    def test_a_scan_without_the_standard_serves_those_to_a_reference_only(self, store):
        pairs = store.pairs.clone()
        pairs[: 2 * SLICES_OF_SCAN, :, 1] = 2
        drawn = draw(TexturePairs(store.stored, store.uncut, pairs, store.phase_agreement))
        number = drawn.latent_a[:, SLICE, 0]
        assert number[drawn.to_standard].min() >= 2 * SLICES_OF_SCAN and number[~drawn.to_standard].min() == 0
        assert drawn.to_standard.float().mean().item() == pytest.approx(0.5, abs=0.07)
        pairs[..., 1] = 2
        assert not draw(TexturePairs(store.stored, store.uncut, pairs, store.phase_agreement)).to_standard.any()

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_the_standard_is_the_target_as_often_as_asked(self, store, share):
        drawn = draw(store, 2000, share)
        assert torch.equal(drawn.to_standard, variants(drawn.latent_b, UNCUT)[:, 0] == 0)
        assert drawn.to_standard.float().mean().item() == pytest.approx(share, abs=0.04 * (0 < share < 1))

    def test_references_are_other_slices_of_the_scan_under_the_targets_variant_as_stored(self, store):
        drawn = draw(store)
        own, seen = drawn.latent_b[:, SLICE, :1], drawn.reference[..., SLICE]
        assert (seen // SLICES_OF_SCAN == own // SLICES_OF_SCAN).all() and (seen != own).all()
        variant = drawn.latent_b[:, VARIANT, :1].expand(-1, 6) - UNCUT
        torch.testing.assert_close(drawn.reference[..., VARIANT], variant, atol=2e-3, rtol=0)
        assert max(len(set(one.tolist())) for one in seen) == 2  # of one or two slices
        assert len(set(((seen[:, 0] - own[:, 0]) % SLICES_OF_SCAN).tolist())) == SLICES_OF_SCAN - 1

    def test_a_curve_shifts_the_power_of_a_place_by_place_alike(self, store):
        drawn = draw(store)
        added = curves(drawn.latent_a[:, 2:], drawn.latent_a)
        torch.testing.assert_close(added, added[..., :1].expand_as(added), atol=1e-3, rtol=0)
        assert added[:, 0].abs().max() < 1e-3  # nothing at 0 lp/cm
        curved = added[:, 1:, 0].abs().amax(1) > 0.01
        assert not curved[drawn.to_standard].any()  # whose noise follows from a kernel that is known
        assert curved[~drawn.to_standard].float().mean().item() == pytest.approx(texture_pairs.CURVED_SHARE, abs=0.1)

    def test_another_curve_shifts_b_and_its_reference_alike_and_never_the_standard(self, store):
        drawn = draw(store)
        b = drawn.latent_b.clone()
        b[:, VARIANT] -= UNCUT
        of_b = curves(b[:, 2:], b)[..., :1]  # [B,rings,1]
        of_reference = curves(drawn.reference.transpose(1, 2)[:, 2:], drawn.reference.transpose(1, 2))
        torch.testing.assert_close(of_reference, of_b.expand_as(of_reference), atol=2e-3, rtol=0)
        shifted = of_b.abs().amax((1, 2)) > 0.01
        assert not shifted[drawn.to_standard].any() and shifted[~drawn.to_standard].any()
        of_a = curves(drawn.latent_a[:, 2:], drawn.latent_a)[..., :1]
        assert (of_a - of_b)[shifted].abs().amax((1, 2)).min() > 1e-3

    def test_everything_of_a_pair_is_mirrored_alike(self, store):
        places = torch.arange(SIDE**2).float() / 8
        stored = store.stored.clone()
        stored[:, :, 0] = places
        agreement = places.expand_as(store.phase_agreement).half()
        drawn = draw(TexturePairs(stored, stored, store.pairs, agreement))
        assert torch.equal(drawn.latent_a[:, 0], drawn.latent_b[:, 0])
        assert torch.equal(drawn.latent_a[:, 0], drawn.phase_agreement[:, 0])
        assert len({tuple(one.tolist()) for one in drawn.latent_a[:, 0]}) == 4

    def test_tokens_lie_in_the_patient(self, store):
        stored = store.stored.clone()
        stored[:, :, 1, 3:] = -1.9
        drawn = draw(TexturePairs(stored, stored, store.pairs, store.phase_agreement))
        assert (drawn.reference[..., 1] > -1.5).float().mean() > 0.99

    def test_the_generator_decides(self, store):
        one, again, other = draw(store, seed=1), draw(store, seed=1), draw(store, seed=2)
        assert all(torch.equal(getattr(one, name), getattr(again, name)) for name in vars(one))
        assert not torch.equal(one.latent_a, other.latent_a)


@pytest.fixture(scope="module")
def autoencoder():
    return TextureAutoencoder(RINGS, hidden=16, blocks=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    with pytest.MonkeyPatch.context() as patch:
        simulate_coarsely(patch, folder, groups=2)
    return folder


@pytest.fixture(scope="module")
def pairs(folder, autoencoder):
    return load_texture_pairs(folder, autoencoder)


class TestLoad:
    def test_every_slice_in_every_variant(self, pairs):
        variants = 5 + len(texture_pairs.SMOOTHED_KERNELS)
        assert len(pairs) == 16 and pairs.stored.shape == pairs.uncut.shape == (16, variants, 2 + RINGS, 4)
        assert pairs.stored.isfinite().all() and pairs.phase_agreement.shape == (*pairs.pairs.shape[:2], RINGS, 4)

    def test_every_variant_goes_to_the_standard_and_to_another(self, pairs):
        variants = pairs.stored.shape[1]
        for of_slice in pairs.pairs.tolist():
            assert [a for a, b in of_slice if b == 0] == list(range(1, variants))
            assert sorted(a for a, b in of_slice if b != 0) == list(range(variants))
            assert all(a != b for a, b in of_slice)

    def test_the_first_variant_is_the_standard_as_it_is(self, pairs, folder, autoencoder):
        scan = read_scan(scan_path(folder, stored_groups(folder)[1][0]))
        sample = to_model(torch.from_numpy(scan.hu[1, 0]).float().clamp(max=HIGHEST_SEEN_HU))[None, None]
        with torch.no_grad():
            latent, _ = autoencoder.encode(sample, torch.tensor([scan.spacing_mm]))
        torch.testing.assert_close(pairs.uncut[9, 0].float(), latent[0], atol=0.02, rtol=0)

    def test_smoothed_variants_have_less_slow_power_and_are_less_coherent(self, pairs):
        power = pairs.uncut[:, :, 3].float().mean(2)  # at 3 lp/cm; above, a smoother adds what a soft kernel has not
        soft, smoothed = power[:, 3], power[:, 7:10].mean(1)  # the soft kernel, and smoothed three times otherwise
        assert smoothed.mean() < soft.mean() - 0.1
        coherence = coherence_of(pairs.phase_agreement.float().mean((2, 3)))
        to_standard = coherence[:, : pairs.stored.shape[1] - 1]
        plain, smoothed = to_standard[:, :4].mean(), to_standard[:, 4:].mean()
        assert plain > 0.6 and smoothed < plain - 0.05  # 1 HU hides what a soft kernel leaves of fast noise

    def test_a_second_time_it_is_read(self, folder, autoencoder, pairs, monkeypatch):
        monkeypatch.setattr(texture_pairs, "_encode_group", None)
        done = []
        again = load_texture_pairs(folder, autoencoder, progress=done.append)
        assert all(torch.equal(getattr(again, name), getattr(pairs, name)) for name in vars(pairs))
        assert done == [seeds[0] for seeds in stored_groups(folder)]
        assert len(load_texture_pairs(folder, autoencoder, groups=1)) == 8

    def test_an_autoencoder_that_measures_otherwise_encodes_anew(self, folder, tmp_path):
        for path in folder.glob("*_00[0-9][0-9][0-9].*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        other = load_texture_pairs(tmp_path, TextureAutoencoder(7, hidden=16, blocks=1), groups=1)
        assert other.stored.shape[2] == 9

    def test_moves_to_a_device(self, pairs):
        assert torch.equal(pairs.to("cpu").stored, pairs.stored)
