"""The IBSI-1 digital phantom against its published reference values.

Source: Zwanenburg et al., "The Image Biomarker Standardization Initiative", Radiology 295, 2020, and the IBSI reference
manual (arXiv:1612.07003), section 5.1: a 5 x 4 x 4 phantom with 74 voxels in the region; reference values published
under CC BY 4.0 at https://github.com/theibsi/data_sets. Values are printed to three figures.
"""

import numpy as np
import pytest

from diffusionct_pipeline.radiomics import glcm, glrlm, intensity, nid

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

# coarseness, contrast, busyness, complexity, strength
NGTDM_REFERENCE = {False: (0.0285, 0.601, 6.80, 14.1, 0.741), True: (0.0296, 0.584, 6.54, 13.5, 0.763)}


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


@pytest.mark.parametrize("cube", [False, True], ids=["2.5D", "3D"])
def test_neighbourhood_differences_give_ibsi_ngtdm(cube):
    size = (3 if cube else 1, 3, 3)
    n, s = nid.neighbourhood_differences(IMAGE.astype(float), MASK, LABELS, LEVELS, size, partial=True)
    grey = np.arange(1.0, LEVELS + 1)
    occupied, N = n > 0, n.sum()
    n, s, grey = n[occupied], s[occupied], grey[occupied]
    p, gap = n / N, grey[:, None] - grey[None, :]
    pairs = len(n) * (len(n) - 1)
    found = (
        1 / (p @ s),
        (p[:, None] * p * gap**2).sum() / pairs * s.sum() / N,
        (p @ s) / np.abs((grey * p)[:, None] - grey * p).sum(),
        (np.abs(gap) * ((p * s)[:, None] + p * s) / (p[:, None] + p)).sum() / N,
        ((p[:, None] + p) * gap**2).sum() / s.sum(),
    )
    assert found == three_figures(NGTDM_REFERENCE[cube])
