"""IBSI's features on made-up regions: what is known of them exactly, and at the edges of what can be measured."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from diffusionct_pipeline.radiomics import feature_names
from diffusionct_pipeline.radiomics.ibsi import IbsiSettings, extract_ibsi, ibsi_names, textures
from diffusionct_pipeline.radiomics.ibsi.extractor import grey_levels
from diffusionct_pipeline.radiomics.ibsi.morphology import spatial_correlation

MM = (2.0, 0.8, 0.8)
SETTINGS = IbsiSettings(bin_width_hu=25, range_hu=(-1000, 400))


def texture(shape=(6, 20, 22), seed=0):
    """Correlated noise in integer HU."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 0.8)
    return np.rint(40 + 60 * noise / noise.std())


def ball(shape, radius, mm=(1, 1, 1)):
    away = np.linalg.norm((np.indices(shape).T - (np.array(shape) - 1) / 2) * mm, axis=-1).T
    return away <= radius


@pytest.fixture
def region():
    hu = texture()
    return hu, ball(hu.shape, 6.5, MM)


def measure(hu, mask, mm=MM, settings=SETTINGS):
    """Tag -> value, and tag -> reason."""
    found = extract_ibsi(hu, mask, mm, settings)
    assert tuple(found) == ibsi_names(settings.dimensions)
    assert {name for name, value in found.items() if np.isnan(value)} == set(found.undefined)
    assert np.isfinite([value for name, value in found.items() if name not in found.undefined]).all()
    return tuple({name.split("/")[1]: each for name, each in part.items()} for part in (found, found.undefined))


class TestNames:
    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_are_unique_and_none_of_the_1401(self, dimensions):
        names = ibsi_names(dimensions)
        assert len(set(names)) == len(names) == 208 and not set(names) & set(feature_names())

    def test_have_a_code_for_each_feature(self):
        codes = {}
        for name in ibsi_names(3) + ibsi_names(2):
            _, tag, code = name.split("/")
            for suffix in ("_3D", "_2_5D", "_3D_avg", "_3D_comb", "_2_5D_avg", "_2_5D_comb"):
                tag = tag.removesuffix(suffix)
            codes.setdefault(code, set()).add(tag)
        assert all(len(code) == 4 and len(tags) == 1 for code, tags in codes.items())
        assert (codes["RNU0"], codes["ACUI"]) == ({"morph_volume"}, {"cm_contrast"})


class TestSettings:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ({}, "exactly one"),
            ({"bins": 32, "bin_width_hu": 25}, "exactly one"),
            ({"bins": 1}, "`bins` must be an integer from 2 to 1024, got 1"),
            ({"bins": 32.0}, "`bins` must .*, got 32.0"),
            ({"bin_width_hu": 0}, "`bin_width_hu` must .*, got 0"),
            ({"bin_width_hu": "25"}, "`bin_width_hu` must .*, got '25'"),
            ({"bins": 8, "range_hu": (400, -1000)}, r"`range_hu` must .*, got \(400, -1000\)"),
            ({"bins": 8, "range_hu": 400}, "`range_hu` must .*, got 400"),
            ({"bin_width_hu": 1, "range_hu": (-1000, 400)}, "at most 1024"),
            ({"bins": 8, "dimensions": 4}, "`dimensions` must be 2 or 3, got 4"),
        ],
    )
    def test_what_is_not_legal_is_named(self, bad, message):
        with pytest.raises(ValueError, match=message):
            IbsiSettings(**bad)

    def test_fixed_width_begins_at_the_range_or_at_the_least_value(self):
        x = np.array([-10.0, 0.0, 14.9, 15.0, 40.0])
        assert grey_levels(x, IbsiSettings(bin_width_hu=25)).tolist() == [1, 1, 1, 2, 3]
        assert grey_levels(x, IbsiSettings(bin_width_hu=25, range_hu=(-25, 50))).tolist() == [1, 2, 2, 2, 3]

    def test_fixed_number_spans_the_region(self):
        x = np.array([-10.0, 2.4, 2.6, 15.0, 40.0])
        assert grey_levels(x, IbsiSettings(bins=4)).tolist() == [1, 1, 2, 3, 4]

    def test_too_many_levels_are_refused(self):
        with pytest.raises(ValueError, match="at most 1024 grey levels, got 2001"):
            grey_levels(np.array([-1000.0, 1000.0]), IbsiSettings(bin_width_hu=1))


class TestShape:
    def test_of_a_ball(self):
        found, _ = measure(np.full((25, 25, 25), 40.0), ball((25, 25, 25), 10), (1, 1, 1))
        assert found["morph_volume"] == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.02)
        assert found["morph_diam"] == pytest.approx(21, abs=0.5)
        assert found["morph_pca_maj_axis"] == pytest.approx(4 * np.sqrt(10**2 / 5), rel=0.02)
        assert found["morph_pca_flatness"] == pytest.approx(1) and found["morph_com"] == pytest.approx(0, abs=1e-9)
        assert 0.85 < found["morph_sphericity"] < 1 < found["morph_sph_dispr"]

    def test_of_a_block_at_the_border_of_the_image(self):
        found, _ = measure(texture((4, 6, 8)), np.ones((4, 6, 8), bool), (2, 1, 1))
        assert found["morph_vol_approx"] == 4 * 6 * 8 * 2
        assert found["morph_vol_dens_aabb"] == pytest.approx(found["morph_volume"] / 384)
        assert found["morph_vol_dens_conv_hull"] == pytest.approx(1)

    def test_correlations_in_space_are_those_of_all_pairs(self, region):
        hu, mask = region
        at, x = np.argwhere(mask) * MM, hu[mask]
        weight = np.linalg.norm(at[:, None] - at, axis=-1)
        weight = 1 / np.where(weight == 0, np.inf, weight)
        away, n, total = x - x.mean(), len(x), weight.sum()
        moran = n / total * (away @ weight @ away) / (away**2).sum()
        geary = (n - 1) / (2 * total) * (weight * (x[:, None] - x) ** 2).sum() / (away**2).sum()
        assert spatial_correlation(hu, mask, np.array(MM)) == pytest.approx((moran, geary), rel=1e-9)


class TestTextures:
    def test_runs_are_those_that_a_walk_finds(self, region):
        labels = np.where(region[1], np.random.default_rng(1).integers(1, 4, region[1].shape), 0)
        padded = np.pad(labels, 1)
        for step in textures.STEPS[3]:
            walked = []
            for at in map(np.array, np.argwhere(padded)):
                if padded[tuple(at - step)] != (level := padded[tuple(at)]):
                    ahead = itertools.takewhile(
                        lambda k, at=at, step=step, level=level: padded[tuple(at + k * np.array(step))] == level,
                        itertools.count(),
                    )
                    walked.append((level, len(list(ahead))))
            assert sorted(zip(*textures.runs(labels, step))) == sorted(walked)

    def test_zones_of_two_dimensions_stay_in_their_slice(self):
        labels = np.ones((3, 4, 4), int)
        mask = labels > 0
        level, size, distance = textures.zones(labels, mask, 2)
        assert (level.tolist(), size.tolist(), distance.tolist()) == ([1] * 3, [16] * 3, [1] * 3)
        assert textures.zones(labels, mask, 3)[1].tolist() == [48]

    def test_distance_of_a_zone_is_that_of_its_nearest_voxel(self):
        mask, labels = np.ones((7, 7, 7), bool), np.full((7, 7, 7), 2)
        labels[3, 3, 3] = labels[3, 3, 2] = 1
        level, size, distance = textures.zones(labels, mask, 3)
        assert set(zip(level.tolist(), size.tolist(), distance.tolist())) == {(1, 2, 3), (2, 341, 1)}


class TestInvariance:
    def test_values_beyond_the_range_count_for_shape_only(self, region):
        hu, mask = region
        bright = hu.copy()
        bright[np.nonzero(mask)[0][5], np.nonzero(mask)[1][5], np.nonzero(mask)[2][5]] = 3000
        whole, cut = measure(hu, mask)[0], measure(bright, mask)[0]
        assert cut["morph_volume"] == whole["morph_volume"] and cut["stat_max"] == whole["stat_max"]
        assert cut["stat_energy"] < whole["stat_energy"]

    @pytest.mark.parametrize("turned", [lambda a: np.rot90(a, axes=(1, 2)), lambda a: a[::-1, :, ::-1]])
    def test_turned_images_have_the_same_features(self, region, turned):
        one, other = (measure(*(each(part) for part in region))[0] for each in (lambda a: a, turned))
        assert other == pytest.approx(one, rel=1e-4)  # the mesh is single precision

    def test_what_lies_around_the_region_does_not_matter(self, region):
        hu, mask = region
        assert measure(np.where(mask, hu, 2000), mask) == measure(hu, mask)

    def test_finer_voxels_keep_shape_and_values(self, region):
        coarse, _ = measure(*region)
        fine, _ = measure(*(part.repeat(2, 0).repeat(2, 1).repeat(2, 2) for part in region), tuple(np.array(MM) / 2))
        for tag in ("stat_mean", "stat_var", "ih_entropy", "ivh_v10", "morph_vol_approx"):
            assert fine[tag] == pytest.approx(coarse[tag])
        for tag in ("morph_volume", "morph_pca_maj_axis", "morph_diam"):
            assert fine[tag] == pytest.approx(coarse[tag], rel=0.05)


class TestEdges:
    def one(self, hu, *place):
        mask = np.zeros(hu.shape, bool)
        mask[place] = True
        return mask

    def test_one_voxel(self):
        hu = texture()
        found, reasons = measure(hu, self.one(hu, 2, 5, 5))
        assert (found["stat_mean"], found["stat_var"], found["morph_vol_approx"]) == (hu[2, 5, 5], 0, np.prod(MM))
        assert (found["szm_lze_3D"], found["rlm_lre_3D_avg"], found["ngl_hde_3D"]) == (1, 1, 1)
        assert {"cm_contrast_3D_avg", "ngt_contrast_3D", "morph_pca_flatness", "morph_moran_i"} < set(reasons)

    def test_flat_region(self):
        hu = np.full((5, 12, 12), 30.0)
        found, reasons = measure(hu, ball(hu.shape, 4))
        assert (found["stat_skew"], found["ih_entropy"], found["cm_energy_3D_avg"]) == (0, 0, 1)
        assert (found["ngt_coarseness_3D"], found["ngt_strength_3D"]) == (1e6, 0)
        assert set(reasons) == {
            "morph_moran_i", "morph_geary_c", *(f"cm_{name}_3D_{how}" for name in ("corr", "info_corr1") for how in ("avg", "comb")),
        }  # fmt: skip
        assert reasons["morph_moran_i"] == "all values are equal, so there is no variance to divide by"

    def test_one_slice_has_textures_of_the_directions_in_it(self):
        hu = texture((1, 20, 20))
        mask = ball(hu.shape, 7)
        cube, reasons = measure(hu, mask)
        plane, _ = measure(hu, mask, settings=IbsiSettings(bin_width_hu=25, range_hu=(-1000, 400), dimensions=2))
        assert set(reasons) == {"morph_vol_dens_aee", "morph_area_dens_aee"}
        assert cube["cm_contrast_3D_avg"] == pytest.approx(plane["cm_contrast_2_5D_avg"])
        assert cube["ngl_dc_entr_3D"] == plane["ngl_dc_entr_2_5D"] and cube["morph_pca_flatness"] == 0

    def test_no_voxel_in_the_range_leaves_the_shape(self):
        hu = np.full((5, 12, 12), 900.0)
        found, reasons = measure(hu, ball(hu.shape, 4))
        assert found["morph_volume"] > 0 and reasons["stat_mean"] == "no voxel of the region lies within range_hu"
        assert len(found) - len(reasons) == 21

    def test_two_pieces_are_one_region(self):
        hu = texture()
        mask = self.one(hu, slice(1, 3), slice(2, 5), slice(2, 5)) | self.one(hu, 4, slice(12, 18), slice(12, 18))
        found, reasons = measure(hu, mask)
        assert not reasons and found["morph_vol_approx"] == pytest.approx(mask.sum() * np.prod(MM))

    @pytest.mark.parametrize(
        ("hu", "mask", "mm", "message"),
        [
            (np.zeros((2, 3, 3)), np.zeros((2, 3, 3), bool), MM, "`mask` must hold at least one voxel"),
            (np.zeros((2, 3, 3)), np.full((2, 3, 3), 2), MM, "must be bool or integers 0 and 1"),
            (np.full((2, 3, 3), np.nan), np.ones((2, 3, 3), bool), MM, "`hu` must be finite"),
            (np.zeros((2, 3, 3)), np.ones((2, 3, 3), bool), (1, 1), r"`spacing_mm` must .*, got \(1, 1\)"),
            (np.zeros((2, 3, 3)), np.ones((2, 3, 3), bool), (0, 1, 1), r"`spacing_mm` must .*, got \(0, 1, 1\)"),
        ],
    )
    def test_what_cannot_be_measured_is_refused(self, hu, mask, mm, message):
        with pytest.raises(ValueError, match=message):
            extract_ibsi(hu, mask, mm, SETTINGS)
