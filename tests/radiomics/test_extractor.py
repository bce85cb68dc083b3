from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import graycomatrix
from skimage.filters.rank import entropy as rank_entropy

from diffusionct_pipeline.radiomics import (
    FEATURE_CLASSES,
    RadiomicSettings,
    duplicate_features,
    extract,
    feature_class,
    feature_names,
    glcm,
    glrlm,
    least_value,
    nid,
)
from diffusionct_pipeline.radiomics.extractor import IBEX
from diffusionct_pipeline.radiomics.feature_class import FeatureClass

TUMOURS = Path(__file__).parents[3] / "shared" / "data" / "tumours"
ADAPTIVE = RadiomicSettings(grey_limits=None)


def texture(shape=(6, 24, 24), seed=0, mean=-300.0, std=120.0):
    """Correlated noise in integer HU."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 0.8)
    return np.round(mean + std * noise / noise.std())


def ball(shape, centre, radius):
    grid = np.indices(shape).reshape(len(shape), -1).T
    return (((grid - centre) ** 2).sum(1) <= radius**2).reshape(shape)


@pytest.fixture(scope="module")
def region():
    hu = texture((8, 40, 40))
    return hu, ball(hu.shape, (3.5, 20, 20), 9)  # through all 8 slices: even offset 7 finds pairs


def values(features):
    return np.array(list(features.values()))


class TestNames:
    def test_there_are_1401_unique_names_in_the_published_classes(self):
        families = Counter(n.split("/")[0] for n in feature_names())
        assert len(feature_names()) == len(set(feature_names())) == 1401
        assert families == {
            "GLCM25": 330, "GLCM3": 924, "GLRLM25": 33, "NID25": 5, "NID3": 5, "ID": 47, "IH": 31, "GOH": 26,
        }  # fmt: skip
        assert set(map(feature_class, feature_names())) == set(FEATURE_CLASSES)

    def test_names_and_order_of_an_extraction_are_those_announced(self, region):
        assert tuple(extract(*region)) == feature_names()
        coarse = RadiomicSettings(levels=16, nid_window=5)
        assert tuple(extract(*region, settings=coarse)) == feature_names(coarse)
        assert "GLCM25/Contrast/d=1/dir=45/bins=16" in feature_names(coarse)

    def test_no_value_lies_below_the_least(self, region):
        found = extract(*region)
        assert all(value >= least_value(name) for name, value in found.items())
        assert least_value("ID/Skewness") == -np.inf and least_value("GLCM3/Correlation/d=1/dir=0/bins=64") == -1

    def test_class_of_an_unknown_name_is_refused(self):
        with pytest.raises(ValueError, match='`name` must be like .*, got "Contrast"'):
            feature_class("Contrast")

    @pytest.mark.parametrize("reading", ["heights", "values"])
    def test_duplicates_are_equal_and_about_a_quarter(self, region, reading):
        settings = RadiomicSettings(histogram_of=reading)
        found, duplicates = extract(*region, settings=settings), duplicate_features(settings)
        assert ("IH/Kurtosis" in duplicates) == (reading == "values")
        assert 0.2 < len(duplicates) / 1401 < 0.3
        assert not set(duplicates.values()) & set(duplicates)
        for name, twin in duplicates.items():
            assert found[name] == pytest.approx(found[twin], rel=1e-12, nan_ok=True), name


class TestRegions:
    def test_every_nan_has_a_reason_and_nothing_else_has(self, region):
        hu, mask = region
        one = np.zeros(mask.shape, bool)
        one[3, 20, 20] = True
        for m in (mask, mask & (np.indices(mask.shape)[0] == 3), one):
            found = extract(hu, m)
            assert {n for n, v in found.items() if np.isnan(v)} == set(found.undefined)
            assert all(found.undefined.values())
            assert not np.isinf(values(found)).any()

    def test_a_region_in_space_is_defined_throughout(self, region):
        assert extract(*region).undefined == {}

    def test_one_slice_leaves_the_599_features_across_slices_undefined(self, region):
        hu, mask = region
        flat = extract(hu[3], mask[3])
        reasons = Counter(
            (name.split("/")[0], reason.split(" of the region")[0]) for name, reason in flat.undefined.items()
        )
        assert reasons == {("GLCM3", "no pair of voxels"): 594, ("NID3", "no voxel"): 5}

    def test_slices_far_apart_have_the_neighbourhoods_of_their_planes(self, region):
        hu, mask = region
        thick, cubes = extract(hu, mask, (3.0, 0.7, 0.7)), extract(hu, mask, (1.0, 0.7, 0.7))
        assert cubes == extract(hu, mask)
        for name in (n for n in feature_names() if n.startswith("NID3/")):
            assert thick[name] == thick[name.replace("NID3", "NID25")] != cubes[name]
        assert [nid.neighbourhood_slices(3, 0.7, mm) for mm in (0.25, 0.7, 1, 1.5, 3, 30)] == [9, 3, 3, 1, 1, 1]

    def test_a_slice_gives_the_same_in_two_and_three_dimensions(self, region):
        hu, mask = region
        np.testing.assert_array_equal(values(extract(hu[3], mask[3])), values(extract(hu[3:4], mask[3:4])))

    def test_one_voxel(self):
        hu, mask = texture((1, 9, 9)), np.zeros((1, 9, 9), bool)
        mask[0, 4, 4] = True
        found = extract(hu, mask)
        assert sum(n.startswith("GLCM") for n in found.undefined) == 330 + 924
        assert "one voxel" in found.undefined["ID/GlobalStd"]
        assert found["ID/GlobalMean"] == hu[0, 4, 4] + 1000
        assert found["ID/Range"] == 0 and np.isnan(found["ID/Kurtosis"])
        assert found["GLRLM25/RunPercentage/dir=avg/bins=64"] == 1

    @pytest.mark.parametrize("settings", [RadiomicSettings(), ADAPTIVE], ids=["fixed", "adaptive"])
    def test_one_grey_level_is_finite_or_undefined_with_a_reason(self, settings):
        found = extract(np.full((4, 12, 12), 40.0), np.ones((4, 12, 12), bool), settings=settings)
        assert {n for n, v in found.items() if not np.isfinite(v)} == set(found.undefined)
        for name in ("GLCM3/Correlation/d=1/dir=2/bins=64", "GLCM25/InformationMeasureCorr1/d=1/dir=0/bins=64",
                     "NID3/Busyness/nhood=3/bins=64", "NID25/Coarseness/nhood=3/bins=64", "ID/Skewness",
                     "GOH/Percentile/p=5"):  # fmt: skip
            assert name in found.undefined
        assert found["GLCM25/Energy/d=1/dir=0/bins=64"] == found["GLCM25/MaxProbability/d=1/dir=0/bins=64"] == 1
        assert found["GLCM25/Entropy/d=1/dir=0/bins=64"] == found["ID/GlobalEntropy"] == 0
        assert found["ID/GlobalMean"] == 1040

    def test_a_region_at_the_border_of_the_image(self):
        hu = texture((8, 20, 20))
        mask = np.zeros(hu.shape, bool)
        mask[:, :12, :12] = True
        assert extract(hu, mask).undefined == {}
        # mirroring the image there by hand changes nothing but the gradient at the very edge
        mirrored = np.pad(hu, ((0, 0), (6, 0), (6, 0)), mode="symmetric")
        by_hand = extract(mirrored, np.pad(mask, ((0, 0), (6, 0), (6, 0))))
        for name, value in extract(hu, mask).items():
            if feature_class(name) != "GOH":
                assert value == pytest.approx(by_hand[name], rel=1e-9), name

    def test_gradient_at_the_border_of_the_image_is_one_sided(self):
        ramp = np.add.outer(np.arange(16.0), np.arange(16.0)) * 10 - 500
        found = extract(ramp, np.ones(ramp.shape, bool))
        assert found["GOH/Percentile/p=5"] == found["GOH/Percentile/p=95"] == pytest.approx(45)

    def test_only_the_surroundings_within_reach_matter(self, region):
        hu, mask = region
        far = hu.copy()
        far[~ndimage.binary_dilation(mask, np.ones((1, 9, 9)))] = 3000
        np.testing.assert_allclose(values(extract(hu, mask)), values(extract(far, mask)), rtol=1e-12)

    def test_position_in_the_image_does_not_matter(self, region):
        hu, mask = region
        big, where = np.full((8, 90, 70), -1000.0), np.zeros((8, 90, 70), bool)
        big[:, 31:71, 9:49], where[:, 31:71, 9:49] = hu, mask
        np.testing.assert_array_equal(values(extract(hu, mask)), values(extract(big, where)))


class TestInvariance:
    def test_turning_by_90_degrees_permutes_the_directions(self, region):
        hu, mask = region
        straight = extract(hu, mask)
        turned = extract(np.rot90(hu, axes=(1, 2)), np.rot90(mask, axes=(1, 2)))
        swap = {"0": "90", "90": "0", "45": "135", "135": "45", "sum": "sum", "avg": "avg"}
        unordered = {"NID25", "NID3", "ID", "IH"}
        for name, value in straight.items():
            family, _, *keys = name.split("/")
            if family in ("GLCM25", "GLRLM25"):
                d = next(k for k in keys if k.startswith("dir="))[4:]
                assert turned[name.replace(f"dir={d}", f"dir={swap[d]}")] == pytest.approx(value, rel=1e-9), name
            elif family in unordered or "dir=sum" in name:
                assert turned[name] == pytest.approx(value, rel=1e-9), name

    def test_a_constant_moves_only_intensity_features_under_adaptive_limits(self, region):
        hu, mask = region
        before, after = extract(hu, mask, settings=ADAPTIVE), extract(hu + 100, mask, settings=ADAPTIVE)
        moves = ("Energy", "GlobalM", "Percentile", "Quantile", "RootMeanSquare", "LocalEntropy")
        for name, value in before.items():
            family, feature, *_ = name.split("/")
            intensity = family in ("ID", "IH") and feature.startswith(moves) and feature != "MedianAbsoluteDeviation"
            if intensity or feature == "Busyness":  # Busyness weighs p with the location of the grey level itself
                continue
            assert after[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
        assert after["ID/GlobalMean"] == pytest.approx(before["ID/GlobalMean"] + 100)

    def test_whole_grey_levels_leave_differences_alone_under_fixed_limits(self, region):
        hu, mask = region
        before, after = extract(hu, mask), extract(hu + 2 * 1400 / 63, mask)
        for feature in ("Contrast", "Dissimilarity", "Homogeneity", "ClusterShade", "Entropy", "Correlation"):
            name = f"GLCM3/{feature}/d=4/dir=9/bins=64"
            assert after[name] == pytest.approx(before[name], rel=1e-9)
        average = "GLCM25/SumAverage/d=1/dir=sum/bins=64"
        assert after[average] == pytest.approx(before[average] + 4)

    def test_integer_and_float_images_agree(self, region):
        hu, mask = region
        np.testing.assert_array_equal(
            values(extract(hu.astype(np.int16), mask.astype(np.uint8))), values(extract(hu.astype(np.float32), mask))
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (dict(mask=np.zeros((3, 8, 8), bool)), "`mask` must hold at least one voxel"),
            (dict(mask=np.ones((8, 8), bool)), r"the shape of `hu`, \(3, 8, 8\), got \(8, 8\)"),
            (dict(mask=np.full((3, 8, 8), 2)), "values from 2 to 2"),
            (dict(mask=np.full((3, 8, 8), 0.5)), "float64 values from 0.5"),
            (dict(hu=np.full((3, 8, 8), np.nan)), "`hu` must be finite"),
            (dict(hu=np.zeros(8), mask=np.ones(8, bool)), r"`hu` must be .*, got shape \(8,\)"),
            (dict(spacing=(1.0, 0.7, 0.8)), "square pixels"),
            (dict(spacing=0.0), "positive"),
        ],
    )
    def test_bad_input_is_refused_by_name(self, change, message):
        arguments = dict(hu=texture((3, 8, 8)), mask=np.ones((3, 8, 8), bool), spacing=0.7) | change
        with pytest.raises(ValueError, match=message):
            extract(**arguments)

    @pytest.mark.parametrize(
        "bad",
        [dict(histogram_of="bins"), dict(grey_limits=(5, 5)), dict(levels=1), dict(std_window=4), dict(nid_window=1)],
        ids=str,
    )
    def test_bad_settings_are_refused_by_name(self, bad):
        with pytest.raises(ValueError, match=next(iter(bad))):
            RadiomicSettings(**bad)


class TestAgainstOthers:
    @pytest.mark.parametrize("offset", glcm.OFFSETS)
    def test_in_plane_matrices_equal_those_of_skimage(self, offset):
        labels = np.random.default_rng(3).integers(1, 9, (20, 24))
        angles = {"0": 0, "45": 3 * np.pi / 4, "90": np.pi / 2, "135": np.pi / 4}  # its rows count the other way
        for direction, step in glcm.IN_PLANE.items():
            ours = glcm.cooccurrence_counts(labels[None], 8, [tuple(offset * c for c in step)])[0]
            d = offset if direction in ("0", "90") else offset * np.sqrt(2)  # skimage rounds d times the sine
            theirs = graycomatrix(labels - 1, [d], [angles[direction]], levels=8, symmetric=True)[..., 0, 0]
            np.testing.assert_array_equal(ours, theirs)

    def test_features_equal_their_definitions_written_as_loops(self):
        counts = np.random.default_rng(4).integers(0, 5, (6, 6)).astype(float)
        p = (counts + counts.T) / (2 * counts.sum())
        pairs = [(i, j, p[i - 1, j - 1]) for i in range(1, 7) for j in range(1, 7)]
        marginal = p.sum(1)
        mu = sum(i * q for i, _, q in pairs)
        var = sum((i - mu) ** 2 * q for i, _, q in pairs)
        hx = -sum(m * np.log2(m) for m in marginal)
        hxy = -sum(q * np.log2(q) for *_, q in pairs if q)
        hxy1 = -sum(q * np.log2(marginal[i - 1] * marginal[j - 1]) for i, j, q in pairs)
        hxy2 = -sum(a * b * np.log2(a * b) for a in marginal for b in marginal)
        expected = {
            "AutoCorrelation": sum(i * j * q for i, j, q in pairs),
            "ClusterShade": sum((i + j - 2 * mu) ** 3 * q for i, j, q in pairs),
            "ClusterProminence": sum((i + j - 2 * mu) ** 4 * q for i, j, q in pairs),
            "Correlation": sum((i - mu) * (j - mu) * q for i, j, q in pairs) / var,
            "InformationMeasureCorr1": (hxy - hxy1) / hx,
            "InformationMeasureCorr2": np.sqrt(1 - np.exp(-2 * (hxy2 - hxy))),
            "InverseDiffNorm": sum(q / (1 + abs(i - j) / 6) for i, j, q in pairs),
            "InverseDiffMomentNorm": sum(q / (1 + (i - j) ** 2 / 36) for i, j, q in pairs),
            "InverseVariance": sum(q / (i - j) ** 2 for i, j, q in pairs if i != j),
        }
        found = dict(zip(glcm.FEATURES, glcm.cooccurrence_features(p[None])[0]))
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, rel=1e-9), name

    @pytest.mark.parametrize(("direction", "step"), [("0", (0, 1)), ("45", (-1, 1)), ("90", (-1, 0)), ("135", (1, 1))])
    def test_run_lengths_equal_runs_walked_one_by_one(self, direction, step):
        labels = np.random.default_rng(5).integers(0, 4, (3, 9, 7))
        expected = np.zeros((3, 9))
        for slice_ in labels:
            padded = np.pad(slice_, 1)
            for y, x in np.argwhere(padded > 0):
                if padded[y - step[0], x - step[1]] == padded[y, x]:
                    continue  # not the start of a run
                length = 1
                while padded[y + length * step[0], x + length * step[1]] == padded[y, x]:
                    length += 1
                expected[padded[y, x] - 1, length - 1] += 1
        np.testing.assert_array_equal(glrlm.run_length_counts(labels, 3, direction), expected)

    def test_local_entropy_equals_that_of_skimage(self, region):
        hu, mask = region
        levels = np.round((hu + 1000) * 255 / 4096).astype(np.uint16)
        for side in (9, 17):  # counts beyond 255
            theirs = np.stack([rank_entropy(s, np.ones((side, side), np.uint8)) for s in levels])[mask]
            found = extract(hu, mask, settings=RadiomicSettings(entropy_window=side))
            assert found["ID/LocalEntropyMean"] == pytest.approx(theirs.mean(), rel=1e-9)
            assert found["ID/LocalEntropyMin"] == pytest.approx(theirs.min(), rel=1e-9)

    def test_texture_equals_that_of_pyradiomics(self, region):
        radiomics = pytest.importorskip("radiomics.featureextractor")
        import SimpleITK

        hu, mask = region
        levels = np.clip(np.floor((hu + 1000) * 63 / 1400 + 1.5), 1, 64)
        image, label = (SimpleITK.GetImageFromArray(a) for a in (levels, mask.astype(np.uint8)))

        def theirs(kind, **options):
            extractor = radiomics.RadiomicsFeatureExtractor(binWidth=1, **options)
            extractor.disableAllFeatures()
            extractor.enableFeatureClassByName(kind)
            result = extractor.execute(image, label, label=1)
            return {k.split("_")[-1]: float(v) for k, v in result.items() if k.startswith("original_")}

        ours, expected = extract(hu, mask), theirs("glcm", symmetricalGLCM=True)
        same = {"Contrast": "Contrast", "JointEnergy": "Energy", "JointEntropy": "Entropy", "Id": "Homogeneity",
                "Idm": "Homogeneity2", "InverseVariance": "InverseVariance", "Correlation": "Correlation",
                "ClusterTendency": "ClusterTendency", "ClusterShade": "ClusterShade", "SumEntropy": "SumEntropy",
                "ClusterProminence": "ClusterProminence", "DifferenceEntropy": "DifferenceEntropy",
                "Imc1": "InformationMeasureCorr1", "Imc2": "InformationMeasureCorr2"}  # fmt: skip
        for their_name, name in same.items():
            found = np.mean([ours[f"GLCM3/{name}/d=1/dir={d}/bins=64"] for d in glcm.SPATIAL])
            assert found == pytest.approx(expected[their_name], rel=1e-6), name

        expected = theirs("glrlm", force2D=True)
        labels = np.where(mask, levels, 0).astype(int)
        counts = [glrlm.run_length_counts(labels, 64, d) for d in ("0", "45", "90", "135")]
        found = np.mean([glrlm.run_length_features(m, mask.sum()) for m in counts], axis=0)
        # their levels start at the region's own minimum: only what does not weigh grey levels can be compared
        for their_name, name, factor in (
            ("ShortRunEmphasis", "ShortRunEmphasis", 1),
            ("LongRunEmphasis", "LongRunEmphasis", 1),
            ("RunPercentage", "RunPercentage", 1),
            ("GrayLevelNonUniformity", "GrayLevelNonuniformity", mask.sum()),
            ("RunLengthNonUniformity", "RunLengthNonuniformity", mask.sum()),
        ):
            assert found[glrlm.FEATURES.index(name)] * factor == pytest.approx(expected[their_name], rel=1e-6), name

    @pytest.mark.skipif(not TUMOURS.is_dir(), reason="shared data is not here")
    @pytest.mark.parametrize("case", ["LIDC-IDRI-0314_D", "LUNG1-001_B19f"])
    def test_real_tumour(self, case):
        pydicom = pytest.importorskip("pydicom")
        mask = np.load(TUMOURS / case / "tumour_mask.npz")["mask"].astype(bool)
        slices = sorted((TUMOURS / case).glob("*.dcm"))
        hu = np.zeros(mask.shape, np.float32)
        for i in np.flatnonzero(mask.any((1, 2))):
            ds = pydicom.dcmread(slices[i])
            hu[i] = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
        found = extract(hu, mask)
        assert np.isfinite(values(found)).mean() > 0.99
        # the widest slice, cut down to the region: co-occurrence as skimage counts it
        i = int(mask.sum((1, 2)).argmax())
        ys, xs = np.flatnonzero(mask[i].any(1)), np.flatnonzero(mask[i].any(0))
        box = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
        levels = np.where(mask[i], np.clip(np.floor((hu[i] + 1000) * 63 / 1400 + 1.5), 1, 64), 0).astype(int)[box]
        theirs = graycomatrix(levels, [1], [0], levels=65, symmetric=True)[1:, 1:, 0, 0].astype(float)
        flat = extract(hu[i], mask[i])
        p = theirs / theirs.sum()
        gap = np.abs(np.subtract.outer(np.arange(64), np.arange(64)))
        assert flat["GLCM25/Contrast/d=1/dir=0/bins=64"] == pytest.approx((p * gap**2).sum(), rel=1e-6)
        assert flat["GLCM25/Energy/d=1/dir=0/bins=64"] == pytest.approx((p**2).sum(), rel=1e-6)
        assert flat["GLCM25/Homogeneity/d=1/dir=0/bins=64"] == pytest.approx((p / (1 + gap)).sum(), rel=1e-6)


def test_a_class_is_a_record_that_can_stand_beside_the_others():
    voxels = FeatureClass(
        families={"SIZE": "SIZE"},
        names=lambda settings: ("SIZE/Voxels",),
        extract=lambda region: ({"SIZE/Voxels": float(region.mask.sum())}, {}),
    )
    hu, mask = texture((3, 9, 9)), np.zeros((3, 9, 9), bool)
    mask[1, 2:5, 2:5] = True
    assert dict(extract(hu, mask, classes=(voxels,))) == {"SIZE/Voxels": 9.0}
    assert tuple(extract(hu, mask, classes=(*IBEX, voxels))) == (*feature_names(), "SIZE/Voxels")
