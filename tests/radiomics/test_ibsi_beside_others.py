"""IBSI's features beside those of MIRP and pyradiomics, on pyradiomics's test cases lung1 and lung2.

Needs mirp (EUPL-1.2) or pyradiomics, which no extra installs, and DIFFUSIONCT_RADIOMICS_CASES, the folder with
lung1_image.nrrd, lung1_label.nrrd and so on (https://github.com/AIM-Harvard/pyradiomics, BSD).
"""

import os
from pathlib import Path

import numpy as np
import pytest

from diffusionct_pipeline.radiomics.ibsi import IbsiSettings, extract_ibsi

CASES = Path(os.environ.get("DIFFUSIONCT_RADIOMICS_CASES", "no such folder"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason="DIFFUSIONCT_RADIOMICS_CASES does not name the folder of the cases"),
]
SAME = 1e-5  # relative; MIRP's meshes are single precision

# Endings of tags: IBSI's, and MIRP's after its parameters.
MIRP_ENDINGS = {
    "_3D_avg": "_3d_avg", "_3D_comb": "_3d_v_mrg", "_2_5D_avg": "_2.5d_d_mrg", "_2_5D_comb": "_2.5d_v_mrg",
    "_2_5D": "_2.5d", "_3D": "_3d",
}  # fmt: skip
MIRP_SAMPLES = {"morph_moran_i", "morph_geary_c"}  # of larger regions MIRP takes some of the pairs of voxels

PYRADIOMICS = {
    "firstorder": ("stat", "", {
        "Mean": "mean", "Variance": "var", "Skewness": "skew", "Kurtosis": "kurt", "Median": "median", "Minimum": "min",
        "10Percentile": "p10", "90Percentile": "p90", "Maximum": "max", "InterquartileRange": "iqr", "Range": "range",
        "MeanAbsoluteDeviation": "mad", "RobustMeanAbsoluteDeviation": "rmad", "Energy": "energy", "RootMeanSquared": "rms",
    }),
    "shape": ("morph", "", {
        "MeshVolume": "volume", "VoxelVolume": "vol_approx", "SurfaceArea": "area_mesh", "SurfaceVolumeRatio": "av",
        "Sphericity": "sphericity", "Maximum3DDiameter": "diam", "MajorAxisLength": "pca_maj_axis",
        "MinorAxisLength": "pca_min_axis", "LeastAxisLength": "pca_least_axis", "Elongation": "pca_elongation",
        "Flatness": "pca_flatness",
    }),
    "glcm": ("cm", "_3D_avg", {
        "Autocorrelation": "auto_corr", "JointAverage": "joint_avg", "ClusterProminence": "clust_prom",
        "ClusterShade": "clust_shade", "ClusterTendency": "clust_tend", "Contrast": "contrast", "Correlation": "corr",
        "DifferenceAverage": "diff_avg", "DifferenceEntropy": "diff_entr", "DifferenceVariance": "diff_var",
        "JointEnergy": "energy", "JointEntropy": "joint_entr", "Imc1": "info_corr1", "Imc2": "info_corr2",
        "Idm": "inv_diff_mom", "Idmn": "inv_diff_mom_norm", "Id": "inv_diff", "Idn": "inv_diff_norm",
        "InverseVariance": "inv_var", "MaximumProbability": "joint_max", "SumAverage": "sum_avg", "SumEntropy": "sum_entr",
        "SumSquares": "joint_var",
    }),
    "glrlm": ("rlm", "_3D_avg", {
        "ShortRunEmphasis": "sre", "LongRunEmphasis": "lre", "GrayLevelNonUniformity": "glnu",
        "GrayLevelNonUniformityNormalized": "glnu_norm", "RunLengthNonUniformity": "rlnu",
        "RunLengthNonUniformityNormalized": "rlnu_norm", "RunPercentage": "r_perc", "GrayLevelVariance": "gl_var",
        "RunVariance": "rl_var", "RunEntropy": "rl_entr", "LowGrayLevelRunEmphasis": "lgre",
        "HighGrayLevelRunEmphasis": "hgre", "ShortRunLowGrayLevelEmphasis": "srlge",
        "ShortRunHighGrayLevelEmphasis": "srhge", "LongRunLowGrayLevelEmphasis": "lrlge",
        "LongRunHighGrayLevelEmphasis": "lrhge",
    }),
    "glszm": ("szm", "_3D", {
        "SmallAreaEmphasis": "sze", "LargeAreaEmphasis": "lze", "GrayLevelNonUniformity": "glnu",
        "GrayLevelNonUniformityNormalized": "glnu_norm", "SizeZoneNonUniformity": "zsnu",
        "SizeZoneNonUniformityNormalized": "zsnu_norm", "ZonePercentage": "z_perc", "GrayLevelVariance": "gl_var",
        "ZoneVariance": "zs_var", "ZoneEntropy": "zs_entr", "LowGrayLevelZoneEmphasis": "lgze",
        "HighGrayLevelZoneEmphasis": "hgze", "SmallAreaLowGrayLevelEmphasis": "szlge",
        "SmallAreaHighGrayLevelEmphasis": "szhge", "LargeAreaLowGrayLevelEmphasis": "lzlge",
        "LargeAreaHighGrayLevelEmphasis": "lzhge",
    }),
    "gldm": ("ngl", "_3D", {
        "SmallDependenceEmphasis": "lde", "LargeDependenceEmphasis": "hde", "GrayLevelNonUniformity": "glnu",
        "DependenceNonUniformity": "dcnu", "DependenceNonUniformityNormalized": "dcnu_norm", "GrayLevelVariance": "gl_var",
        "DependenceVariance": "dc_var", "DependenceEntropy": "dc_entr", "LowGrayLevelEmphasis": "lgce",
        "HighGrayLevelEmphasis": "hgce", "SmallDependenceLowGrayLevelEmphasis": "ldlge",
        "SmallDependenceHighGrayLevelEmphasis": "ldhge", "LargeDependenceLowGrayLevelEmphasis": "hdlge",
        "LargeDependenceHighGrayLevelEmphasis": "hdhge",
    }),
    "ngtdm": ("ngt", "_3D", {
        "Coarseness": "coarseness", "Contrast": "contrast", "Busyness": "busyness", "Complexity": "complexity",
        "Strength": "strength",
    }),
}  # fmt: skip
# Its kurtosis is 3 larger, its axes divide by N where IBSI's do by N - 1, and its meshes cut ambiguous cubes otherwise.
PYRADIOMICS_OTHERWISE = {"stat_kurt": 2, "morph_pca_maj_axis": 1e-3, "morph_pca_min_axis": 1e-3,
                         "morph_pca_least_axis": 1e-3, "morph_volume": 1e-3, "morph_area_mesh": 1e-3, "morph_av": 1e-3,
                         "morph_sphericity": 1e-3}  # fmt: skip


@pytest.fixture(params=["lung1", "lung2"])
def case(request):
    """Files of image and label, HU, mask and spacing."""
    SimpleITK = pytest.importorskip("SimpleITK")
    files = [CASES / f"{request.param}_{part}.nrrd" for part in ("image", "label")]
    image, label = map(SimpleITK.ReadImage, map(str, files))
    hu, mask = map(SimpleITK.GetArrayFromImage, (image, label))
    return files, hu.astype(float), mask > 0, image.GetSpacing()[::-1]


def tags(hu, mask, mm, settings):
    return {name.split("/")[1]: value for name, value in extract_ibsi(hu, mask, mm, settings).items()}


def differing(own, others):
    """Tags that differ by more than rounding, and by how much."""
    apart = {tag: abs(own[tag] - value) / max(abs(value), 1e-12) for tag, value in others.items()}
    return {tag: error for tag, error in apart.items() if not error < SAME}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("chosen", [{"bin_width_hu": 25.0, "range_hu": (-1000, 400)}, {"bins": 32}])
def test_mirp(case, dimensions, chosen):
    mirp = pytest.importorskip("mirp")
    (image, label), hu, mask, mm = case
    settings = IbsiSettings(**chosen, dimensions=dimensions)
    by_direction = (
        ["3d_average", "3d_volume_merge"] if dimensions == 3 else ["2.5d_direction_merge", "2.5d_volume_merge"]
    )
    how = {f"{family}_spatial_method": by_direction for family in ("glcm", "glrlm")}
    how |= {f"{name}_spatial_method": by_direction[0].split("_")[0] for name in ("glszm", "gldzm", "ngtdm", "ngldm")}
    how["base_discretisation_method"] = "fixed_bin_number" if settings.bins else "fixed_bin_size"
    how["base_discretisation_n_bins"] = settings.bins
    how["base_discretisation_bin_width"] = settings.bin_width_hu
    how["resegmentation_intensity_range"] = None if settings.range_hu is None else list(settings.range_hu)
    table = mirp.extract_features(
        image=str(image), mask=str(label), image_modality="ct", base_feature_families="all", by_slice=False,
        ivh_discretisation_method="none", **{name: value for name, value in how.items() if value is not None},
    )[0]  # fmt: skip
    own, others = tags(hu, mask, mm, settings), {}
    for tag in own:
        ending = next((end for end in MIRP_ENDINGS if tag.endswith(end)), "")
        start = tag.removesuffix(ending)
        of_tag = [name for name in table.columns if name == start or name.startswith((f"{start}_d1_", f"{start}_fb"))
                  or ending and name.startswith(start + MIRP_ENDINGS[ending])]  # fmt: skip
        of_tag = [name for name in of_tag if f"{MIRP_ENDINGS.get(ending, '')}_fb" in name or not ending]
        assert len(of_tag) == 1, tag
        others[tag] = float(table[of_tag[0]].iloc[0])
    assert len(others) == 208
    assert set(differing(own, others)) <= (MIRP_SAMPLES if mask.sum() > 1000 else set())


def test_pyradiomics(case):
    featureextractor = pytest.importorskip("radiomics.featureextractor")
    (image, label), hu, mask, mm = case
    extractor = featureextractor.RadiomicsFeatureExtractor(binCount=32, binWidth=None)
    extractor.enableAllFeatures()
    found = extractor.execute(str(image), str(label))
    others = {
        f"{family}_{tag}{ending}": float(found[f"original_{name}_{feature}"])
        for name, (family, ending, features) in PYRADIOMICS.items()
        for feature, tag in features.items()
    }
    own = tags(hu, mask, mm, IbsiSettings(bins=32))
    assert len(others) == 100
    apart = differing(own, others)
    assert all(error < PYRADIOMICS_OTHERWISE.get(tag, 0) for tag, error in apart.items()), apart
    assert others["stat_kurt"] == pytest.approx(own["stat_kurt"] + 3)
    n = mask.sum()
    assert others["morph_pca_maj_axis"] == pytest.approx(own["morph_pca_maj_axis"] * np.sqrt((n - 1) / n))
