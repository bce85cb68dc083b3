"""Stored scans: made once, in groups, each of them from its own seed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.scans import simulate_coarsely

from diffusionct_pipeline.simulation import KERNELS, Scanner
from diffusionct_pipeline.simulation.scanner import SMALLEST_BLUR
from diffusionct_pipeline.simulation.splits import SCANS
from diffusionct_pipeline.train.data import scans
from diffusionct_pipeline.train.data.filtered_scans import SOFT, UNFILTERED
from diffusionct_pipeline.train.data.objects import TrainingObject
from diffusionct_pipeline.train.data.scans import SLICES, read_scan, scan_path, simulate_groups, stored_groups


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    with pytest.MonkeyPatch.context() as patch:
        simulate_coarsely(patch, folder)
    return folder


@pytest.fixture(scope="module")
def group(folder):
    (seeds,) = stored_groups(folder)
    return [read_scan(scan_path(folder, seed)) for seed in seeds]


LAW = (4.0, 7.0, 0.3, 2.5)


class TestSimulateGroups:
    def test_two_scans_of_four_slices_under_five_kernels(self, group):
        for scan in group:
            assert scan.hu.shape == (SLICES, 5, 64, 64) and scan.hu.dtype == np.int16
            assert 0.5 <= scan.spacing_mm <= 0.9
        assert group[0].spacing_mm != group[1].spacing_mm

    def test_the_standard_comes_first_and_is_sharper_than_the_soft_one(self, group):
        roughness = [
            np.mean([np.diff(scan.hu[:, kernel].astype(float)).std() for scan in group]) for kernel in range(5)
        ]
        assert roughness[0] > 1.2 * roughness[3]

    def test_kernels_of_a_slice_show_one_object(self, group):
        means = group[0].hu.astype(float).mean((2, 3))  # [slices,kernels]
        assert np.ptp(means, axis=1).max() < 3 and np.ptp(means[:, 0]) > 3

    def test_kernels_and_the_scanner_s_blur_are_stored(self, group):
        one, other = group
        assert one.kernels.shape == (scans.KERNELS_OF_SCAN, 4) and one.blur_mm.shape == (2,)
        np.testing.assert_array_equal(one.kernels, other.kernels)
        assert not np.array_equal(one.blur_mm, other.blur_mm), "each scan has a scanner of its own"
        standard = KERNELS["Bl64"]
        assert one.kernels[0].tolist() == [standard.mtf50, standard.mtf10, standard.boost, standard.boost_peak]
        for scan in group:
            scanner = Scanner(aperture_mm=scan.blur_mm[0], focal_mm=scan.blur_mm[1])
            assert 0.01 <= scanner.whitening <= 0.075
            blurred = scanner.blur(torch.from_numpy(scan.kernels[1:, 0] / 10))
            assert (blurred >= 0.9 * SMALLEST_BLUR).all(), "no kernel is sharper than the scanner can be"

    def test_a_second_call_touches_no_file(self, folder, monkeypatch):
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
        done = []
        simulate_coarsely(monkeypatch, folder, progress=done.append)
        assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
        assert done == [0] and len(before) == 2

    def test_a_scan_depends_on_its_seed_only(self, folder, group, tmp_path, monkeypatch):
        scan_path(tmp_path, SCANS[0]).write_bytes(scan_path(folder, SCANS[0]).read_bytes())  # interrupted after it
        simulate_coarsely(monkeypatch, tmp_path)
        again = read_scan(scan_path(tmp_path, SCANS[1]))
        np.testing.assert_array_equal(again.hu, group[1].hu)
        assert again.spacing_mm == group[1].spacing_mm

    def test_processes_share_the_groups(self, tmp_path, monkeypatch):
        made = []
        monkeypatch.setattr(scans, "_scan_phantom", lambda seed, *_: made.append(seed) or [fake_slice()])
        for process in range(2):
            simulate_groups(tmp_path, 5, size=64, process=process, processes=2)
        assert sorted(made) == list(SCANS[:10]) and made[:6] == [*SCANS[0:2], *SCANS[4:6], *SCANS[8:10]]
        assert len(stored_groups(tmp_path)) == 5

    def test_objects_are_of_one_patient_and_every_third_group(self, tmp_path, monkeypatch):
        objects = [TrainingObject(torch.full((64, 64), 40, dtype=torch.int16), 0.7 + 0.1 * (i % 2)) for i in range(6)]
        scanned = []

        def scan(hu, spacing_mm, options, seed, scanner):
            scanned.append((spacing_mm, options, seed))
            return fake_slice()

        monkeypatch.setattr(scans, "rekernel_slice", scan)
        monkeypatch.setattr(scans, "_scan_phantom", lambda *_: [fake_slice()])
        simulate_groups(tmp_path, 7, objects, size=64)
        assert len({seed for _, _, seed in scanned}) == len(scanned) == 3 * 2 * SLICES
        of_scan = [scanned[i : i + SLICES] for i in range(0, len(scanned), SLICES)]
        assert all(len({(spacing, options.mas) for spacing, options, _ in one}) == 1 for one in of_scan)
        assert all(20 <= options.mas <= 100 and options.kernels[0].name == "Bl64" for _, options, _ in scanned)

    def test_filtered_groups_come_last_and_have_no_standard(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scans, "_scan_phantom", lambda *_: [fake_slice()])
        hu = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)) * 20
        filtered = [TrainingObject(hu.to(torch.int16), 0.7)]
        simulate_groups(tmp_path, 1, filtered_groups=2, filtered=filtered, size=64)
        groups = stored_groups(tmp_path)
        assert [read_scan(scan_path(tmp_path, seed)).has_standard for pair in groups for seed in pair] == [True] * 2 + [
            False
        ] * 4
        scan = read_scan(scan_path(tmp_path, groups[1][0]))
        assert len(scan.kernels) == len(scan.blur_mm) == 0, "they are not known"
        assert scan.filters.shape == (scans.KERNELS_OF_SCAN, 4)
        assert scan.hu.shape == (SLICES, scans.KERNELS_OF_SCAN, 64, 64) and 0.59 < scan.spacing_mm < 0.81
        np.testing.assert_array_equal(scan.hu[0, UNFILTERED], filtered[0].hu[:, 16:80])
        assert scan.hu[0, SOFT].std() < 0.8 * scan.hu[0, UNFILTERED].std()
        with pytest.raises(ValueError, match="filtered"):
            simulate_groups(tmp_path, 1, filtered_groups=1, size=64)

    def test_of_a_real_series_whose_kernel_is_known_filtered_scans_know_theirs(self, tmp_path):
        other, own = (
            TrainingObject(torch.full((64, 64), hu, dtype=torch.int16), 0.7, law) for hu, law in ((0, None), (9, LAW))
        )
        simulate_groups(tmp_path, 0, filtered_groups=8, filtered=[other, own, own], size=64)
        seen = set()
        for pair in stored_groups(tmp_path):
            for scan in (read_scan(scan_path(tmp_path, seed)) for seed in pair):
                is_own = scan.hu[0, UNFILTERED].max() == 9
                seen.add(bool(is_own))
                assert (scan.hu[:, UNFILTERED] == 9 * is_own).all(), "slices of one series"
                if is_own:  # pixels of another size are another MTF
                    np.testing.assert_allclose(
                        scan.kernels[:, [0, 1, 3]] * scan.spacing_mm,
                        np.array([LAW])[:, [0, 1, 3]] * 0.7 + 0 * scan.kernels[:, :3],
                        rtol=1e-6,
                    )
                else:
                    assert len(scan.kernels) == 0
        assert seen == {True, False}

    def test_it_begins_no_group_after_its_time(self, tmp_path, monkeypatch):
        monkeypatch.setattr(scans, "_scan_phantom", lambda *_: [fake_slice()])
        now = iter([0.0, 1.0, 2.0, 11.0])
        monkeypatch.setattr(scans.time, "monotonic", lambda: next(now))
        simulate_groups(tmp_path, 9, size=64, max_seconds=10)
        assert len(stored_groups(tmp_path)) == 2

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"size": 100}, "`size` must be .* got 100"),
            ({"size": 32}, "at least 64"),
            ({"standard_kernel": "Zz99"}, "Zz99"),
        ],
    )
    def test_wrong_options_are_refused_before_anything_is_made(self, tmp_path, options, said):
        with pytest.raises(ValueError, match=said):
            simulate_groups(tmp_path / "new", 1, **options)
        assert not (tmp_path / "new").exists()


def fake_slice():
    hu = np.zeros((64, 64), np.float32)
    return SimpleNamespace(hu=dict.fromkeys("abcde", hu), spacing_mm=0.7)


class TestStoredGroups:
    def test_half_a_group_is_none(self, tmp_path):
        for seed in (SCANS[0], SCANS[2], SCANS[3], SCANS[5]):
            scan_path(tmp_path, seed).touch()
        assert stored_groups(tmp_path) == [(SCANS[2], SCANS[3])]

    def test_an_empty_folder_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="run training/simulate_scans.py first"):
            stored_groups(tmp_path)
