"""IBEX's rules on made-up regions, and its own example of 2014 where its files are at hand.

The example (DeveloperStudio/DataFeatureSetExample of IBEX; Zhang et al., Med. Phys. 42, 2015) holds images and masks as
Example{CT,MR,PT}_DataSet.mat and what IBEX wrote of them as Example*_Result.xlsx, from which the values below are. Set
DIFFUSIONCT_IBEX_EXAMPLE to the folder that holds the .mat files.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from diffusionct_pipeline.radiomics import RadiomicSettings, extract, glcm, intensity
from diffusionct_pipeline.radiomics.nid import NID

EXAMPLE = Path(os.environ.get("DIFFUSIONCT_IBEX_EXAMPLE", "no such folder"))
needs_example = pytest.mark.skipif(
    not EXAMPLE.is_dir(), reason="DIFFUSIONCT_IBEX_EXAMPLE does not name the folder of IBEX's example"
)
FIVE_DIGITS = 5e-6

# Results of ExampleCT, regions iGTVall1 and Heart2; of matrices in the directions sum, 0, 45, 90, 135.
CT_GLCM = {
    "Contrast": (
        (11.069836099719591, 7.585109003201919, 11.14710576298752, 10.881955315639527, 14.70792313862757),
        (6.376307659794019, 4.988805230830195, 6.360030987604962, 5.574712358659009, 8.59249483303868),
    ),
    "Homogeneity": (
        (0.44295286673741185, 0.49222324505285187, 0.42703006797686677, 0.4323356386118196, 0.4198144102232811),
        (0.4675565142866259, 0.49207789716792094, 0.4617680094030321, 0.47809649099716883, 0.4380861907084467),
    ),
    "Correlation": (
        (0.619998681909913, 0.7446263727113058, 0.6249068571081212, 0.635902249368571, 0.4737242248161561),
        (0.7695579614545935, 0.8206827081549396, 0.7685019142103361, 0.799937552405916, 0.6882510948093575),
    ),
    "Energy": (
        (0.015320229752396584, 0.017685485906101667, 0.014791201696959255, 0.014919284269399178, 0.014632384292999234),
        (0.01335000456851925, 0.014360128228376203, 0.013167403970039421, 0.013733563611946758, 0.012443627171896796),
    ),
}
CT_NID25 = {
    "Busyness": (3.58514576673492e-05, 3.278732740986554e-05),
    "Coarseness": (0.06462647713153703, 0.07119151672822427),
    "Complexity": (646558.1233969531, 708412.1210303267),
    "Contrast": (0.23421081148286188, 0.3641180797821774),
    "TextureStrength": (2.8903574444498905, 18.03636673577939),
}
CT_ID = {
    "GlobalEntropy": (6.945094442631641, 7.099630819727172),
    "GlobalMean": (1025.08613265431, 1020.2993840739111),
    "GlobalMedian": (1030, 1028),
    "GlobalStd": (42.815659070334696, 38.25965478262085),
    "GlobalUniformity": (0.010871225636792586, 0.00928686991131758),
    "Kurtosis": (88.90288152959542, 7.240096875135339),
    "Range": (1150, 603),
    "Skewness": (4.025100203445273, -0.5975283721434306),
}
# Results of ExampleMR, region GTV1: directions 0, 45, 90, 135 at the offsets 1, 4, 7.
MR_CONTRAST = (
    561.9980007996797, 1045.333061390983, 538.1355084067259, 919.4906655844159,
    4242.8269697638525, 5891.999035214676, 3547.5302593659844, 5410.434619002834,
    7772.355418719197, 8831.805335678695, 6348.155159613969, 9816.484292465944,
)  # fmt: skip
# Results of ExamplePT, regions MTV1 and Heart2: IntensityHistogram with 101 bins over 0 to 100.
PT_IH = {"Kurtosis": (34.293554669184125, 41.46252517659652), "Skewness": (5.312977855323563, 5.969122075605477)}


def example(modality, index):
    """(slices, rows, columns) of the image and of the mask."""
    stored = loadmat(EXAMPLE / f"Example{modality}_DataSet.mat", squeeze_me=True, struct_as_record=False)
    item = np.atleast_1d(stored["DataSetsInfo"])[index]
    image, mask = (info.MaskData.transpose(2, 0, 1) for info in (item.ROIImageInfo, item.ROIBWInfo))
    return image.astype(float), mask > 0


def ct_example(index):
    """With its thresholds of 850 and 2000 taken off the mask."""
    image, mask = example("CT", index)
    return image, mask & (image >= 850) & (image <= 2000)


def one_way(labels, levels, step):
    """(levels, levels): pairs counted in one direction, as the example asks for (Symmetric 0)."""
    padded = np.pad(labels, 1)
    first, second = padded, np.roll(padded, [-s for s in step], (0, 1, 2))
    both = (first > 0) & (second > 0)
    return np.bincount((first[both] - 1) * levels + second[both] - 1, minlength=levels**2).reshape(levels, levels)


@needs_example
@pytest.mark.parametrize("index", [0, 1])
class TestExampleOfCT:
    def test_glcm(self, index):
        image, mask = ct_example(index)
        settings = RadiomicSettings(grey_limits=(850, 2000), levels=115)
        found = extract(image - 1000, mask, settings=settings)
        labels = np.zeros(image.shape, int)
        labels[mask] = intensity.grey_levels(image[mask], (850, 2000), 115)
        matrices = [one_way(labels, 115, step) for step in glcm.IN_PLANE.values()]
        level = np.arange(115.0)
        for k, (direction, counts) in enumerate(zip(("sum", *glcm.IN_PLANE), [sum(matrices), *matrices])):
            for feature in ("Contrast", "Homogeneity"):  # which do not ask which way round a pair is
                value = found[f"GLCM25/{feature}/d=1/dir={direction}/bins=115"]
                assert value == pytest.approx(CT_GLCM[feature][index][k], rel=FIVE_DIGITS)
            p = counts / counts.sum()
            rows, columns = (level - p.sum(1) @ level), (level - p.sum(0) @ level)
            spread = np.sqrt((p.sum(1) @ rows**2) * (p.sum(0) @ columns**2))
            assert rows @ p @ columns / spread == pytest.approx(CT_GLCM["Correlation"][index][k], rel=FIVE_DIGITS)
            assert (p**2).sum() == pytest.approx(CT_GLCM["Energy"][index][k], rel=FIVE_DIGITS)

    def test_nid(self, index):
        image, mask = ct_example(index)
        settings = RadiomicSettings(grey_limits=(0, 2000), levels=2001, nid_window=5)
        found = extract(image - 1000, mask, settings=settings, classes=(NID,))
        for feature, values in CT_NID25.items():
            value = found[f"NID25/{feature}/nhood=5/bins=2001"]
            assert value == pytest.approx(values[index], rel=FIVE_DIGITS), feature

    def test_intensity(self, index):
        image, mask = ct_example(index)
        settings = RadiomicSettings(grey_limits=(850, 2000), histogram_bins=1151)
        found = extract(image - 1000, mask, settings=settings)
        for feature, values in CT_ID.items():
            assert found[f"ID/{feature}"] == pytest.approx(values[index], rel=FIVE_DIGITS), feature


@needs_example
def test_contrast_of_the_example_of_mr():
    image, mask = example("MR", 0)
    low, high = image[mask].min(), image[mask].max()
    levels = int(high - low) + 1  # AdaptLimitLevel 1: a level for each value
    labels = np.zeros(image.shape, int)
    labels[mask] = intensity.grey_levels(image[mask], (low, high), levels)
    steps = [tuple(offset * s for s in step) for offset in glcm.OFFSETS for step in glcm.IN_PLANE.values()]
    found = glcm.cooccurrence_features(glcm.cooccurrence_counts(labels, levels, steps))
    assert found[:, glcm.FEATURES.index("Contrast")] == pytest.approx(MR_CONTRAST, rel=FIVE_DIGITS)


@needs_example
@pytest.mark.parametrize("index", [0, 1])
def test_histogram_of_the_example_of_pt_is_described_by_the_heights_of_its_bins(index):
    image, mask = example("PT", index)
    found = extract(image - 1000, mask, settings=RadiomicSettings(grey_limits=(0, 100), histogram_bins=102))
    for feature, values in PT_IH.items():
        assert found[f"IH/{feature}"] == pytest.approx(values[index], rel=FIVE_DIGITS)


class TestRules:
    def test_a_value_goes_to_the_nearest_grey_level(self):
        values = np.array([-5, 0, 0.9, 1, 1.1, 3, 6.9, 7.1, 8, 20])
        assert intensity.grey_levels(values, (0, 8), 5).tolist() == [1, 1, 1, 2, 2, 3, 4, 5, 5, 5]
        assert intensity.grey_locations((0, 8), 5).tolist() == [0, 2, 4, 6, 8]

    def test_histogram_features_are_those_of_the_heights_or_of_the_values(self):
        hu = np.repeat([-1000.0, -900, -900, -600], 4).reshape(1, 4, 4)
        heights = [0.25, 0.5, 0, 0, 0.25]  # at 0, 100, 200, 300, 400
        settings = dict(grey_limits=(0, 400), histogram_bins=5)
        by_height = extract(hu, np.ones(hu.shape, bool), settings=RadiomicSettings(**settings))
        by_value = extract(hu, np.ones(hu.shape, bool), settings=RadiomicSettings(**settings, histogram_of="values"))
        assert by_height["IH/Range"] == 0.5 and by_value["IH/Range"] == 400
        assert by_height["IH/MeanAbsoluteDeviation"] == pytest.approx(np.abs(np.subtract(heights, 0.2)).mean())
        assert (
            by_value["IH/Kurtosis"] == by_value["ID/Kurtosis"] == by_height["ID/Kurtosis"] != by_height["IH/Kurtosis"]
        )

    def test_percentile_areas_run_straight_across_empty_bins(self):
        hu = np.repeat([-1000.0, -900, -900, -600], 4).reshape(1, 4, 4)
        found = extract(hu, np.ones(hu.shape, bool), settings=RadiomicSettings(grey_limits=(0, 400), histogram_bins=5))
        # cumulated 25 % at 0, 75 % at 100 and on to 400, where it is 100 %
        assert found["IH/PercentileArea/p=35"] == pytest.approx(20)
        assert found["IH/PercentileArea/p=85"] == pytest.approx(100 + 300 * 10 / 25)
        assert "first histogram bin alone holds 25 %" in found.undefined["IH/PercentileArea/p=15"]

    def test_values_beyond_the_limits_are_no_part_of_the_histogram(self):
        hu = np.repeat([-900.0, -800, -800, 500], 4).reshape(1, 4, 4)
        found = extract(hu, np.ones(hu.shape, bool), settings=RadiomicSettings(grey_limits=(0, 400), histogram_bins=5))
        assert found["IH/Range"] == 0.5  # of 0, 1/4, 1/2, 0 voxels at 0 to 300; the bin at 400 is left out
        assert found["IH/PercentileArea/p=35"] == pytest.approx(100 + 100 * (35 - 100 / 3) / (200 / 3))
        beyond = extract(hu + 2000, np.ones(hu.shape, bool), settings=RadiomicSettings(grey_limits=(0, 400)))
        assert beyond.undefined["IH/PercentileArea/p=55"] == intensity.ALL_BEYOND
        assert beyond.undefined["IH/Kurtosis"] == intensity.EQUAL_HEIGHTS
