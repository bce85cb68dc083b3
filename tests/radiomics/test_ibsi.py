"""The IBSI-1 digital phantom against its published reference values.

Source: Zwanenburg et al., "The Image Biomarker Standardization Initiative", Radiology 295, 2020, and the IBSI reference
manual (arXiv:1612.07003), section 5.1: a 5 x 4 x 4 phantom with 74 voxels in the region; reference values published
under CC BY 4.0 at https://github.com/theibsi/data_sets. Values are printed to three figures.
"""

import numpy as np
import pytest

from diffusionct_pipeline.radiomics import glcm, glrlm, intensity
from diffusionct_pipeline.radiomics.ibsi import IbsiSettings, extract_ibsi

IMAGE = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
MASK = np.ones(IMAGE.shape, bool)
MASK[1, 2, 0] = MASK[2, 0, 3:] = MASK[2, 2, 2] = MASK[3, 0, 3:] = False
LEVELS = 6
LABELS = np.where(MASK, IMAGE, 0)

# IBSI tag: 2.5D averaged, 2.5D merged, 3D averaged, 3D merged
GLCM_REFERENCE = {
    "MaxProbability": (0.489, 0.492, 0.503, 0.509),  # cm_joint_max
    "DifferenceEntropy": (1.61, 1.67, 1.56, 1.64),  # cm_diff_entr
    "SumAverage": (4.41, 4.41, 4.29, 4.30),  # cm_sum_avg
    "SumEntropy": (2.01, 2.14, 1.92, 2.11),  # cm_sum_entr
    "Entropy": (2.48, 2.61, 2.40, 2.57),  # cm_joint_entr
    "Energy": (0.286, 0.277, 0.303, 0.291),  # cm_energy
    "Contrast": (5.39, 5.29, 5.32, 5.12),  # cm_contrast
    "Dissimilarity": (1.46, 1.44, 1.43, 1.38),  # cm_dissimilarity
    "Homogeneity": (0.668, 0.673, 0.677, 0.688),  # cm_inv_diff
    "InverseDiffNorm": (0.847, 0.850, 0.851, 0.856),  # cm_inv_diff_norm
    "Homogeneity2": (0.606, 0.613, 0.618, 0.631),  # cm_inv_diff_mom
    "InverseDiffMomentNorm": (0.897, 0.899, 0.898, 0.902),  # cm_inv_diff_mom_norm
    "InverseVariance": (0.0597, 0.0582, 0.0604, 0.0574),  # cm_inv_var
    "Correlation": (0.178, 0.182, 0.157, 0.183),  # cm_corr
    "AutoCorrelation": (5.40, 5.45, 5.06, 5.19),  # cm_auto_corr
    "ClusterTendency": (7.48, 7.65, 7.07, 7.41),  # cm_clust_tend
    "ClusterShade": (16.6, 16.4, 16.6, 17.4),  # cm_clust_shade
    "ClusterProminence": (147, 142, 145, 147),  # cm_clust_prom
    "InformationMeasureCorr1": (-0.124, -0.0334, -0.157, -0.0288),  # cm_info_corr1
    "InformationMeasureCorr2": (0.487, 0.291, 0.520, 0.269),  # cm_info_corr2
}
JOINT_VARIANCE = (3.22, 3.24, 3.10, 3.13)  # cm_joint_var: what IBSI calls variance
SUM_VARIANCE = (7.48, 7.65, 7.07, 7.41)  # cm_sum_var: about the sum average

GLRLM_REFERENCE = {  # 2.5D averaged, 2.5D merged, over 4 directions
    "ShortRunEmphasis": (0.665, 0.680),
    "LongRunEmphasis": (3.46, 3.27),
    "LowGrayLevelRunEmpha": (0.580, 0.585),
    "HighGrayLevelRunEmpha": (10.3, 10.2),
    "ShortRunLowGrayLevelEmpha": (0.296, 0.312),
    "ShortRunHighGrayLevelEmpha": (9.03, 9.05),
    "LongRunLowGrayLevelEmpha": (2.79, 2.63),
    "LongRunHighGrayLevelEmpha": (17.9, 17.0),
    "GrayLevelNonuniformity": (19.5, 77.1),
    "RunLengthNonuniformity": (22.3, 83.2),
    "RunPercentage": (0.632, 0.632),
}

# In the order of `ibsi_names`; of textures the aggregation is named.
REFERENCE = {
    "morph": "556 592 388 .698 .0411 .599 1.19 .843 .186 .672 13.1 11.4 9.31 8.54 .816 .749 .869 .866 1.17 1.36 .961 1.03 "
    "1200 .0397 .974",
    "stat": "2.15 3.05 1.08 -.355 1 1 1 4 6 3 5 1.55 1.11 1.15 .812 .6 567 2.77",
    "ih": "2.15 3.05 1.08 -.355 1 1 1 4 6 1 3 5 1.55 1.11 1.15 .812 .6 1.27 .512 8 3 -50 1",
    "ivh": ".324 .0946 5 2 .23 3",
    "cm 2_5D_avg": ".489 2.2 3.22 2.48 1.46 3.11 1.61 4.41 7.48 2.01 .286 5.39 1.46 .668 .847 .606 .897 .0597 .178 5.4 "
    "7.48 16.6 147 -.124 .487",
    "cm 2_5D_comb": ".492 2.2 3.24 2.61 1.44 3.23 1.67 4.41 7.65 2.14 .277 5.29 1.44 .673 .85 .613 .899 .0582 .182 5.45 "
    "7.65 16.4 142 -.0334 .291",
    "rlm 2_5D_avg": ".665 3.46 .58 10.3 .296 9.03 2.79 17.9 19.5 .413 22.3 .461 .632 3.58 .758 2.52",
    "rlm 2_5D_comb": ".68 3.27 .585 10.2 .312 9.05 2.63 17 77.1 .412 83.2 .445 .632 3.59 .767 2.76",
    "szm 2_5D": ".368 34.2 .368 16.2 .0295 9.87 30.6 107 5.44 .302 3.44 .191 .243 3.92 17.3 3.08",
    "dzm 2_5D": ".917 1.33 .368 16.2 .362 14.3 .391 23.7 5.44 .302 14.4 .802 .243 3.92 .0988 2",
    "ngt 2_5D": ".0285 .601 6.8 14.1 .741",
    "ngl 2_5D": ".159 18.8 .693 7.66 .0477 3.07 17.2 50.8 37.9 .512 12.4 .167 1 3.05 3.27 3.36 .122",
    "cm 3D_avg": ".503 2.14 3.1 2.4 1.43 3.06 1.56 4.29 7.07 1.92 .303 5.32 1.43 .677 .851 .618 .898 .0604 .157 5.06 7.07 "
    "16.6 145 -.157 .52",
    "cm 3D_comb": ".509 2.15 3.13 2.57 1.38 3.21 1.64 4.3 7.41 2.11 .291 5.12 1.38 .688 .856 .631 .902 .0574 .183 5.19 "
    "7.41 17.4 147 -.0288 .269",
    "rlm 3D_avg": ".705 3.06 .603 9.7 .352 8.54 2.39 17.6 21.8 .43 26.9 .513 .68 3.46 .574 2.43",
    "rlm 3D_comb": ".729 2.76 .607 9.64 .372 8.67 2.16 15.6 281 .43 328 .501 .68 3.48 .598 2.62",
    "szm 3D": ".255 550 .253 15.6 .0256 2.76 503 1490 1.4 .28 1 .2 .0676 2.64 331 2.32",
    "dzm 3D": "1 1 .253 15.6 .253 15.6 .253 15.6 1.4 .28 5 1 .0676 2.64 0 1.92",
    "ngt 3D": ".0296 .584 6.54 13.5 .763",
    "ngl 3D": ".045 109 .693 7.66 .00963 .736 102 235 37.9 .512 4.86 .0657 1 3.05 22.1 4.4 .0533",
}


def three_figures(value):
    return pytest.approx(value, rel=5.1e-3)  # half a unit of the third printed figure, at worst 1.00


def glcm_by_aggregation():
    """(4, 22): 2.5D averaged, 2.5D merged, 3D averaged, 3D merged."""
    rows = []
    for directions in (glcm.IN_PLANE, glcm.SPATIAL):
        counts = glcm.cooccurrence_counts(LABELS, LEVELS, list(directions.values()))
        rows.append(glcm.cooccurrence_features(counts).mean(0))
        rows.append(glcm.cooccurrence_features(counts.sum(0, keepdims=True))[0])
    return dict(zip(glcm.FEATURES, np.array(rows).T))


def test_phantom_is_the_published_one():
    assert IMAGE.shape == (4, 4, 5) and MASK.sum() == 74
    assert sorted(set(IMAGE[MASK])) == [1, 3, 4, 6]


@pytest.mark.parametrize("feature", GLCM_REFERENCE)
def test_glcm_feature_agrees_with_ibsi(feature):
    assert glcm_by_aggregation()[feature] == three_figures(GLCM_REFERENCE[feature])


def test_all_glcm_features_are_covered():
    assert set(glcm.FEATURES) - set(GLCM_REFERENCE) == {"Variance", "SumVariance"}


def test_glcm_variance_and_sum_variance_are_ibex_definitions():
    found = glcm_by_aggregation()
    np.testing.assert_array_equal(found["Variance"], found["ClusterTendency"])
    assert found["ClusterTendency"] == three_figures(SUM_VARIANCE)  # IBSI's sum variance
    assert not np.any(np.isclose(found["Variance"], JOINT_VARIANCE, rtol=0.05))
    # about SumEntropy instead of the sum average: IBSI's value plus the squared distance of the two, per matrix
    merged = 1
    shift = found["SumAverage"][merged] - found["SumEntropy"][merged]
    assert found["SumVariance"][merged] == pytest.approx(found["ClusterTendency"][merged] + shift**2)
    assert not np.any(np.isclose(found["SumVariance"], SUM_VARIANCE, rtol=0.05))


@pytest.mark.parametrize("feature", GLRLM_REFERENCE)
def test_glrlm_feature_agrees_with_ibsi(feature):
    voxels = MASK.sum()
    matrices = [glrlm.run_length_counts(LABELS, LEVELS, d) for d in ("0", "45", "90", "135")]
    averaged = np.mean([glrlm.run_length_features(m, voxels) for m in matrices], axis=0)
    merged = glrlm.run_length_features(sum(matrices), 4 * voxels)  # IBSI counts the voxels once per direction
    undo = {"GrayLevelNonuniformity": voxels, "RunLengthNonuniformity": voxels}.get(feature, 1)  # IBEX's division
    undo_merged = 4 * undo if undo != 1 else 1
    column = glrlm.FEATURES.index(feature)
    assert (averaged[column] * undo, merged[column] * undo_merged) == three_figures(GLRLM_REFERENCE[feature])


def test_intensity_statistics_agree_with_ibsi():
    x = np.sort(IMAGE[MASK].astype(float))
    shape, reasons = intensity.shape_statistics(x)
    histogram = np.bincount(intensity.grey_levels(x, (1, 6), LEVELS) - 1, minlength=LEVELS)
    whole = intensity._global_statistics(x, histogram)
    assert not reasons
    assert whole["GlobalMean"] == three_figures(2.15)  # stat_mean
    assert whole["Variance"] * 73 / 74 == three_figures(3.05)  # stat_var: IBSI divides by N, IBEX by N - 1
    assert shape["Skewness"] == three_figures(1.08)  # stat_skew
    assert shape["Kurtosis"] - 3 == three_figures(-0.355)  # stat_kurt is the excess
    assert (whole["GlobalMedian"], whole["GlobalMin"], whole["GlobalMax"]) == (1, 1, 6)  # stat_median, min, max
    assert intensity.percentile(x, 10) == 1  # stat_p10
    assert (shape["InterQuartileRange"], shape["Range"]) == (3, 5)  # stat_iqr, stat_range
    assert shape["MeanAbsoluteDeviation"] == three_figures(1.55)  # stat_mad
    assert (whole["Energy"], whole["RootMeanSquare"]) == three_figures((567, 2.77))  # stat_energy, stat_rms
    assert whole["GlobalEntropy"] == three_figures(1.27)  # ih_entropy
    assert whole["GlobalUniformity"] == three_figures(0.512)  # ih_uniformity


def test_percentiles_are_matlabs_not_ibsis():
    x = np.sort(IMAGE[MASK].astype(float))
    assert intensity.percentile(x, 90) == pytest.approx(np.percentile(x, 90, method="hazen"))
    assert intensity.percentile(x, 90) == pytest.approx(4.2)  # between the 67th value 4 and the 68th 6; stat_p90 is 4


def test_median_absolute_deviation_is_matlabs_not_ibsis():
    x = np.sort(IMAGE[MASK].astype(float))
    assert intensity.shape_statistics(x)[0]["MedianAbsoluteDeviation"] == np.median(np.abs(x - np.median(x))) == 0
    assert np.abs(x - np.median(x)).mean() == three_figures(1.15)  # stat_medad: a mean, in spite of its name


@pytest.mark.parametrize("group", REFERENCE)
def test_features_of_ibsi_have_the_reference_values(group):
    family, *aggregation = group.split()
    dimensions = 2 if "2_5D" in group else 3
    found = extract_ibsi(IMAGE, MASK, (2, 2, 2), IbsiSettings(bins=LEVELS, dimensions=dimensions))
    own = [
        value
        for name, value in found.items()
        if name.startswith(f"IBSI/{family}_") and name.split("/")[1].endswith("_".join(["", *aggregation]))
    ]
    assert own == [three_figures(float(value)) for value in REFERENCE[group].split()]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_feature_of_ibsi_has_a_reference_value(dimensions):
    space = {2: "2_5D", 3: "3D"}[dimensions]
    groups = [values for group, values in REFERENCE.items() if " " not in group or space in group]
    found = extract_ibsi(IMAGE, MASK, (2, 2, 2), IbsiSettings(bins=LEVELS, dimensions=dimensions))
    assert len(found) == sum(len(values.split()) for values in groups) == 208 and not found.undefined


def test_a_fixed_width_of_one_gives_the_same_levels():
    by_width = extract_ibsi(IMAGE, MASK, (2, 2, 2), IbsiSettings(bin_width_hu=1, range_hu=(1, 6)))
    assert by_width == extract_ibsi(IMAGE, MASK, (2, 2, 2), IbsiSettings(bins=LEVELS))
