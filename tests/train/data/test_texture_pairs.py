"""What training draws from stored scans, and how scans become latents."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.scans import simulate_coarsely

from diffusionct_pipeline.image_processor import HIGHEST_SEEN_HU, to_model
from diffusionct_pipeline.models import TextureAutoencoder
from diffusionct_pipeline.models.texture.channels import patient_mean
from diffusionct_pipeline.models.texture.coherence import coherence_of
from diffusionct_pipeline.simulation import Kernel, Scanner, mtf
from diffusionct_pipeline.train.data import texture_pairs
from diffusionct_pipeline.train.data.filtered_scans import gain
from diffusionct_pipeline.train.data.scans import KERNELS_OF_SCAN, StoredScan, read_scan, scan_path, stored_groups
from diffusionct_pipeline.train.data.scans import SLICES as SLICES_OF_SCAN
from diffusionct_pipeline.train.data.texture_pairs import STORED, TexturePairs, load_texture_pairs

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
    log_mtf_power = -torch.linspace(0, 2, RINGS).expand(SLICES, KERNELS_OF_SCAN, -1)
    tails = (number[:, None, None] + variant[:, None] / 10).expand(-1, -1, 2) / 8
    return TexturePairs(
        stored.half(), uncut.half(), pairs, agreement.half(), log_mtf_power, torch.zeros(SLICES, RINGS), tails,
        max_lp_cm=12.0,
    )  # fmt: skip


def draw(store, count=400, share=0.5, tokens=6, seed=0, same_share=0.0):
    return store.draw(count, share, tokens, torch.Generator().manual_seed(seed), same_share)


def variants(latent, uncut=0.0):
    return ((latent[:, VARIANT] - uncut) * 10).round()


def without_uncut(drawn):
    """B as its file has it."""
    b = drawn.latent_b.clone()
    b[:, VARIANT] -= UNCUT
    return b


def curves(power, latent):
    """What was added to the power (B, rings, n) of a slice and variant, which their channels tell."""
    variant, number = latent[:, VARIANT], latent[:, SLICE]
    return power - (number + (variant * 10).round() / 8)[:, None]


class TestDraw:
    def test_shapes(self, store):
        drawn = draw(store, 7)
        assert drawn.latent_a.shape == drawn.latent_b.shape == (7, 2 + RINGS, 9)
        assert drawn.tokens.shape == (7, 6, 2 + RINGS) and drawn.shift.shape == drawn.whitening.shape == (7, RINGS)
        assert drawn.phase_agreement.shape == (7, RINGS, 9)
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
        leaning = draw(replace(store, stored=stored, uncut=stored), tokens=200)
        even = torch.rand(400, 200, generator=torch.Generator().manual_seed(1)).mul(SIDE**2).long()
        shift, chance = (seen.mean(1).abs() for seen in (leaning.tokens[..., VARIANT], mean[even]))
        far = (shift > chance.max()).float().mean().item()
        assert 0.3 < far < texture_pairs.LEANING_SHARE + 0.05

    def test_some_batches_are_squares_of_the_slice_round_the_patient(self, store):
        side = 8
        stored = torch.zeros(SLICES, VARIANTS, 2 + RINGS, side**2)
        stored[:, :, VARIANT, : side**2 // 2] = -2.0  # air above
        stored[:, :, 2] = torch.arange(side**2).float()  # which position it is; the first ring has no curve
        agreement = torch.arange(side**2).float().expand(SLICES, len(PAIRS), RINGS, -1)
        store = replace(store, stored=stored.half(), uncut=stored.half(), phase_agreement=agreement)
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
        drawn = draw(replace(store, pairs=pairs))
        number = drawn.latent_a[:, SLICE, 0]
        assert number[drawn.to_standard].min() >= 2 * SLICES_OF_SCAN and number[~drawn.to_standard].min() == 0
        assert drawn.to_standard.float().mean().item() == pytest.approx(0.5, abs=0.07)
        pairs[..., 1] = 2
        assert not draw(replace(store, pairs=pairs)).to_standard.any()

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_the_standard_is_the_target_as_often_as_asked(self, store, share):
        drawn = draw(store, 2000, share)
        assert torch.equal(drawn.to_standard, variants(drawn.latent_b, UNCUT)[:, 0] == 0)
        assert drawn.to_standard.float().mean().item() == pytest.approx(share, abs=0.04 * (0 < share < 1))

    @pytest.mark.parametrize("is_simulated", (True, False))
    def test_tokens_are_of_the_group_s_other_scan_under_the_targets_variant_as_stored(self, store, is_simulated):
        """Filtered scans have no kernels in common; theirs are of other slices of the scan."""
        if not is_simulated:
            store = replace(store, log_noise_gain=torch.full_like(store.log_noise_gain, torch.nan))
        drawn = draw(store)
        own, seen = drawn.latent_b[:, SLICE, :1], drawn.tokens[..., SLICE]
        scan_of_own, scan_seen = own // SLICES_OF_SCAN, seen // SLICES_OF_SCAN
        assert (scan_seen // 2 == scan_of_own // 2).all(), "of the same group"
        assert ((scan_seen != scan_of_own) == is_simulated).all() and (seen != own).all()
        variant = drawn.latent_b[:, VARIANT, :1].expand(-1, 6) - UNCUT
        torch.testing.assert_close(drawn.tokens[..., VARIANT], variant, atol=2e-3, rtol=0)
        assert max(len(set(one.tolist())) for one in seen) == 2  # of one or two slices
        assert len(set(((seen[:, 0] - own[:, 0]) % SLICES_OF_SCAN).tolist())) == SLICES_OF_SCAN - 1

    def test_noise_of_a_pair_spreads_alike_over_the_slice_and_slow_power_does_not(self, store, monkeypatch):
        for name in ("FALLING_SHARE", "CURVED_SHARE", "SPREAD_OF_SHAPE"):
            monkeypatch.setattr(texture_pairs, name, 0.0)
        drawn = draw(store)
        of_a, of_b = (
            curves(latent[:, 2:], anchor)
            for latent, anchor in ((drawn.latent_a, drawn.latent_a), (drawn.latent_b, without_uncut(drawn)))
        )
        torch.testing.assert_close(of_a, of_b, atol=2e-3, rtol=0)
        assert of_a[:, 0].abs().max() < 1e-3, "slow power is anatomy"
        assert of_a[:, -1].std(1).mean() > 0.1 and of_a.mean((0, 2)).abs().max() < 0.1

    def test_a_curve_shifts_the_power_of_a_place_by_place_alike(self, store, monkeypatch):
        for name in ("FALLING_SHARE", "SPREAD", "SPREAD_OF_SHAPE"):
            monkeypatch.setattr(texture_pairs, name, 0.0)
        drawn = draw(store)
        added = curves(drawn.latent_a[:, 2:], drawn.latent_a)
        torch.testing.assert_close(added, added[..., :1].expand_as(added), atol=1e-3, rtol=0)
        assert added[:, 0].abs().max() < 1e-3  # nothing at 0 lp/cm
        curved = added[:, 1:, 0].abs().amax(1) > 0.01
        for chosen in (drawn.to_standard, ~drawn.to_standard):
            assert curved[chosen].float().mean().item() == pytest.approx(texture_pairs.CURVED_SHARE, abs=0.1)

    def test_another_curve_shifts_b_and_its_tokens_alike_and_never_the_standard(self, store, monkeypatch):
        for name in ("FALLING_SHARE", "SPREAD", "SPREAD_OF_SHAPE"):
            monkeypatch.setattr(texture_pairs, name, 0.0)
        drawn = draw(store)
        b = without_uncut(drawn)
        of_b = curves(b[:, 2:], b)[..., :1]  # [B,rings,1]
        of_tokens = curves(drawn.tokens.transpose(1, 2)[:, 2:], drawn.tokens.transpose(1, 2))
        torch.testing.assert_close(of_tokens, of_b.expand_as(of_tokens), atol=2e-3, rtol=0)
        shifted = of_b.abs().amax((1, 2)) > 0.01
        assert not shifted[drawn.to_standard].any() and shifted[~drawn.to_standard].any()
        of_a = curves(drawn.latent_a[:, 2:], drawn.latent_a)[..., :1]
        assert (of_a - of_b)[shifted].abs().amax((1, 2)).min() > 1e-3

    def test_noise_of_a_pair_falls_alike_and_that_of_its_tokens_does_not(self, store, monkeypatch):
        monkeypatch.setattr(texture_pairs, "FALLING_SHARE", 0.0)
        without = draw(store)
        monkeypatch.undo()
        drawn = draw(store)
        fall_a, fall_b = (
            (a - b)[:, 2:] for a, b in ((without.latent_a, drawn.latent_a), (without.latent_b, drawn.latent_b))
        )
        torch.testing.assert_close(fall_a, fall_b, atol=1e-4, rtol=0)
        assert fall_a.min() > -1e-4 and 1e-2 < fall_a.max() <= texture_pairs.LARGEST_FALL + 1e-4
        assert torch.equal(drawn.tokens, without.tokens)
        share = (fall_a.amax((1, 2)) > 1e-2).float().mean().item()
        assert share == pytest.approx(texture_pairs.FALLING_SHARE, abs=0.1)

    def test_everything_of_a_pair_is_mirrored_alike(self, store):
        places = torch.arange(SIDE**2).float() / 8
        stored = store.stored.clone()
        stored[:, :, 0] = places
        agreement = places.expand_as(store.phase_agreement).half()
        drawn = draw(replace(store, stored=stored, uncut=stored, phase_agreement=agreement))
        assert torch.equal(drawn.latent_a[:, 0], drawn.latent_b[:, 0])
        assert torch.equal(drawn.latent_a[:, 0], drawn.phase_agreement[:, 0])
        assert len({tuple(one.tolist()) for one in drawn.latent_a[:, 0]}) == 4

    def test_tokens_lie_in_the_patient(self, store):
        stored = store.stored.clone()
        stored[:, :, 1, 3:] = -1.9
        drawn = draw(replace(store, stored=stored, uncut=stored))
        assert (drawn.tokens[..., 1] > -1.5).float().mean() > 0.99

    def test_the_generator_decides(self, store):
        one, again, other = draw(store, seed=1), draw(store, seed=1), draw(store, seed=2)
        assert all(torch.equal(getattr(one, name), getattr(again, name)) for name in vars(one))
        assert not torch.equal(one.latent_a, other.latent_a)


@pytest.fixture
def exact(monkeypatch):
    """An estimate without errors."""
    for name in ("LEVEL_ERROR", "SHAPE_ERROR", "MTF_ERROR", "KERNEL_UNKNOWN_SHARE", "SPREAD", "SPREAD_OF_SHAPE"):
        monkeypatch.setattr(texture_pairs, name, 0.0)


@pytest.mark.usefixtures("exact")
class TestEstimated:
    """What an estimate would say of a pair."""

    LEVEL_RINGS = [1, 2]  # 3 and 6 lp/cm

    @pytest.fixture
    def fine(self, store):
        """Of pixels small enough to see all frequencies where the level is read."""
        stored, uncut = store.stored.clone(), store.uncut.clone()
        stored[:, :, SLICE] = uncut[:, :, SLICE] = 0.0
        return replace(store, stored=stored, uncut=uncut)

    def test_of_plain_slices_the_shift_is_the_mean_change_of_power(self, fine):
        drawn = draw(fine)
        change = patient_mean(drawn.latent_b - drawn.latent_a, drawn.latent_a)[:, 2:]
        torch.testing.assert_close(drawn.shift[:, 1:], change[:, 1:], atol=2e-3, rtol=0)
        assert drawn.shift[:, 0].abs().max() == 0, "slower power is anatomy"

    def test_of_smoothed_slices_it_lacks_at_the_level_what_smoothing_removed(self, fine):
        smoothed = texture_pairs.KERNEL_OF_VARIANT.index(1, KERNELS_OF_SCAN)  # the first kernel smoothed
        stored, uncut = (torch.cat([each, each[:, :2]], 1) for each in (fine.stored, fine.uncut))  # variants 4 and 5
        assert stored.shape[1] == smoothed + 1
        stored[:, smoothed, 2:], uncut[:, smoothed, 2:] = stored[:, 1, 2:] - 1.5, uncut[:, 1, 2:] - 1.5
        pairs = torch.tensor([[(smoothed, 0), (smoothed, 2)]]).expand(SLICES, -1, -1)
        agreement = fine.phase_agreement[:, :2]
        tails = torch.zeros(SLICES, stored.shape[1], 2)
        drawn = draw(replace(fine, stored=stored, uncut=uncut, pairs=pairs, phase_agreement=agreement, tails=tails))
        change = patient_mean(drawn.latent_b - drawn.latent_a, drawn.latent_a)[:, 2:]
        torch.testing.assert_close(drawn.shift[:, 1:], change[:, 1:] - 1.5, atol=5e-3, rtol=0)

    def test_it_is_off_as_an_estimate_is(self, fine, monkeypatch):
        monkeypatch.setattr(texture_pairs, "LEVEL_ERROR", 0.3)
        drawn = draw(fine, 1000)
        error = drawn.shift - patient_mean(drawn.latent_b - drawn.latent_a, drawn.latent_a)[:, 2:]
        assert error[:, 1:].std().item() == pytest.approx(0.3, rel=0.1)

    def test_whitening_does_not_hang_on_curves_that_kernel_and_noise_share(self, fine, monkeypatch):
        pairs = torch.tensor([[(1, 0), (1, 2)]]).expand(SLICES, -1, -1)
        store = replace(fine, pairs=pairs, phase_agreement=fine.phase_agreement[:, :2])
        monkeypatch.setattr(texture_pairs, "FALLING_SHARE", 0.0)
        drawn = draw(store)
        level = drawn.whitening[:, self.LEVEL_RINGS].mean(1)
        torch.testing.assert_close(level, torch.zeros_like(level), atol=1e-4, rtol=0)
        monkeypatch.setattr(texture_pairs, "CURVED_SHARE", 0.0)
        plain = draw(store).whitening
        torch.testing.assert_close(plain, plain[:1].expand_as(plain), atol=1e-2, rtol=0)
        torch.testing.assert_close(drawn.whitening[:, 1:3], plain[:, 1:3], atol=1e-2, rtol=0)

    def test_tails_are_those_of_all_slices_of_the_scan(self, fine, monkeypatch):
        monkeypatch.setattr(texture_pairs, "TAIL_ERROR", 0.0)
        tails = torch.zeros(SLICES, VARIANTS, 2)
        tails[::SLICES_OF_SCAN, 1] = 6.0  # one slice of each scan, in one variant
        tails[1::SLICES_OF_SCAN] = torch.nan
        drawn = draw(replace(fine, tails=tails))
        heavy = variants(drawn.latent_a)[:, 0] == 1
        expected = torch.log(torch.tensor([(3 + 6 / (SLICES_OF_SCAN - 1)) / 3]))
        torch.testing.assert_close(drawn.tails[heavy, :2], expected.expand(int(heavy.sum()), 2))
        assert drawn.tails[~heavy, :2].abs().max() == 0 and drawn.tails[:, 2].min() == 1

    def test_of_an_unknown_kernel_no_whitening_is_known(self, fine, monkeypatch):
        unknown = replace(fine, log_mtf_power=torch.full_like(fine.log_mtf_power, torch.nan))
        drawn = draw(unknown)
        assert drawn.whitening.abs().max() == 0 and drawn.shift.isfinite().all()
        monkeypatch.setattr(texture_pairs, "KERNEL_UNKNOWN_SHARE", 0.3)
        none_known = (draw(fine, 1000).whitening == 0).all(1).float().mean()
        assert none_known.item() == pytest.approx(0.3, abs=0.05)


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
        of_soft = [v for v, kernel in enumerate(texture_pairs.KERNEL_OF_VARIANT) if kernel == 3]
        soft, smoothed = power[:, of_soft[0]], power[:, of_soft[1:]].mean(1)  # the soft kernel, and smoothed otherwise
        assert smoothed.mean() < soft.mean() - 0.1
        coherence = coherence_of(pairs.phase_agreement.float().mean((2, 3)))
        to_standard = coherence[:, : pairs.stored.shape[1] - 1]
        plain, smoothed = to_standard[:, :4].mean(), to_standard[:, 4:].mean()
        assert plain > 0.6 and smoothed < plain - 0.05  # 1 HU hides what a soft kernel leaves of fast noise

    def test_kernels_and_scanner_are_known(self, pairs, folder):
        rings, first = torch.linspace(0, pairs.max_lp_cm, RINGS), stored_groups(folder)[0][0]
        assert pairs.log_mtf_power.shape == (16, KERNELS_OF_SCAN, RINGS) and pairs.log_noise_gain.shape == (16, RINGS)
        assert pairs.log_mtf_power[..., 0].abs().max() < 1e-5 and pairs.log_noise_gain[:, 0].abs().max() < 1e-5
        scan = read_scan(scan_path(folder, first))
        scanner = Scanner(aperture_mm=scan.blur_mm[0], focal_mm=scan.blur_mm[1])
        torch.testing.assert_close(pairs.log_noise_gain[0], scanner.log_noise_gain(rings / 10), check_dtype=False)
        law = Kernel("first", *scan.kernels[1])
        torch.testing.assert_close(pairs.log_mtf_power[0, 1, 1], 2 * mtf(rings[1], law).log(), check_dtype=False)

    def test_filtered_kernels_are_known_too(self):
        law, one = (4.0, 7.0, 0.3, 2.5), (0.5, 4.0, 2.0, 6.0)
        hu = np.zeros((1, KERNELS_OF_SCAN, 8, 8), np.int16)
        scan = StoredScan(
            hu, 0.7, False, np.array([law] * KERNELS_OF_SCAN), np.array([one] * KERNELS_OF_SCAN), np.zeros(0)
        )
        log_mtf_power, log_noise_gain = texture_pairs._known_of(scan, RINGS, 12.0)
        lp_cm = torch.linspace(0, 12, RINGS)
        expected = 2 * (mtf(lp_cm, Kernel("", *law)) * gain(lp_cm, *one)).clamp(min=1e-4).log()
        torch.testing.assert_close(log_mtf_power, expected.expand(KERNELS_OF_SCAN, -1))
        assert log_noise_gain.isnan().all(), "no simulated scanner"

    def test_a_second_time_it_is_read(self, folder, autoencoder, pairs, monkeypatch):
        monkeypatch.setattr(texture_pairs, "_encode_group", None)
        done = []
        again = load_texture_pairs(folder, autoencoder, progress=done.append)
        for name in STORED:
            torch.testing.assert_close(getattr(again, name), getattr(pairs, name), rtol=0, atol=0, equal_nan=True)
        assert again.max_lp_cm == pairs.max_lp_cm == autoencoder.config.max_lp_cm
        assert done == [seeds[0] for seeds in stored_groups(folder)]
        assert len(load_texture_pairs(folder, autoencoder, groups=1)) == 8

    def test_an_autoencoder_that_measures_otherwise_encodes_anew(self, folder, tmp_path):
        for path in folder.glob("*_00[0-9][0-9][0-9].*"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
        other = load_texture_pairs(tmp_path, TextureAutoencoder(7, hidden=16, blocks=1), groups=1)
        assert other.stored.shape[2] == 9

    def test_moves_to_a_device(self, pairs):
        assert torch.equal(pairs.to("cpu").stored, pairs.stored)
