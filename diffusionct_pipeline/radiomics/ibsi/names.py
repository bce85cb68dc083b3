"""List IBSI's feature names and codes, in the order of its reference values.

Source: the reference manual (arXiv:1612.07003, version 11). Features without a reference value there (minimum oriented
boxes and ellipsoids, the area under the intensity-volume curve) are left out, and so are the local peaks, which are
for PET.
"""

from __future__ import annotations

from functools import lru_cache

PREFIX = "IBSI"  # first part of every name: IBSI/morph_volume/RNU0

MORPHOLOGY = {
    "volume": "RNU0", "vol_approx": "YEKZ", "area_mesh": "C0JK", "av": "2PR5", "comp_1": "SKGS", "comp_2": "BQWJ",
    "sph_dispr": "KRCK", "sphericity": "QCFX", "asphericity": "25C7", "com": "KLMA", "diam": "L0JK",
    "pca_maj_axis": "TDIC", "pca_min_axis": "P9VJ", "pca_least_axis": "7J51", "pca_elongation": "Q3CK",
    "pca_flatness": "N17B", "vol_dens_aabb": "PBX1", "area_dens_aabb": "R59B", "vol_dens_aee": "6BDE",
    "area_dens_aee": "RDD2", "vol_dens_conv_hull": "R3ER", "area_dens_conv_hull": "7T7F", "integ_int": "99N0",
    "moran_i": "N365", "geary_c": "NPT7",
}  # fmt: skip
STATISTICS = {
    "mean": "Q4LE", "var": "ECT3", "skew": "KE2A", "kurt": "IPH6", "median": "Y12H", "min": "1GSF", "p10": "QG58",
    "p90": "8DWT", "max": "84IY", "iqr": "SALO", "range": "2OJQ", "mad": "4FUA", "rmad": "1128", "medad": "N72L",
    "cov": "7TET", "qcod": "9S40", "energy": "N8CA", "rms": "5ZWQ",
}  # fmt: skip
HISTOGRAM = {
    "mean": "X6K6", "var": "CH89", "skew": "88K1", "kurt": "C3I7", "median": "WIFQ", "min": "1PR8", "p10": "GPMT",
    "p90": "OZ0C", "max": "3NCY", "mode": "AMMC", "iqr": "WR0O", "range": "5Z3W", "mad": "D2ZX", "rmad": "WRZB",
    "medad": "4RNL", "cov": "CWYJ", "qcod": "SLWD", "entropy": "TLU2", "uniformity": "BJ5W", "max_grad": "12CE",
    "max_grad_g": "8E6O", "min_grad": "VQB3", "min_grad_g": "RHQZ",
}  # fmt: skip
VOLUME_HISTOGRAM = {
    "v10": "NK6P", "v90": "4279", "i10": "PWN1", "i90": "BOHI", "diff_v10_v90": "WITY", "diff_i10_i90": "JXJA",
}  # fmt: skip
COOCCURRENCE = {
    "joint_max": "GYBY", "joint_avg": "60VM", "joint_var": "UR99", "joint_entr": "TU9B", "diff_avg": "TF7R",
    "diff_var": "D3YU", "diff_entr": "NTRS", "sum_avg": "ZGXS", "sum_var": "OEEB", "sum_entr": "P6QZ",
    "energy": "8ZQL", "contrast": "ACUI", "dissimilarity": "8S9J", "inv_diff": "IB1Z", "inv_diff_norm": "NDRX",
    "inv_diff_mom": "WF0Z", "inv_diff_mom_norm": "1QCO", "inv_var": "E8JP", "corr": "NI2N", "auto_corr": "QWB0",
    "clust_tend": "DG8W", "clust_shade": "7NFM", "clust_prom": "AE86", "info_corr1": "R8DG", "info_corr2": "JN9H",
}  # fmt: skip
RUN_LENGTH = {
    "sre": "22OV", "lre": "W4KF", "lgre": "V3SW", "hgre": "G3QZ", "srlge": "HTZT", "srhge": "GD3A", "lrlge": "IVPO",
    "lrhge": "3KUM", "glnu": "R5YN", "glnu_norm": "OVBL", "rlnu": "W92Y", "rlnu_norm": "IC23", "r_perc": "9ZK5",
    "gl_var": "8CE5", "rl_var": "SXLW", "rl_entr": "HJ9O",
}  # fmt: skip
ZONE_SIZE = {
    "sze": "5QRC", "lze": "48P8", "lgze": "XMSY", "hgze": "5GN9", "szlge": "5RAI", "szhge": "HW1V", "lzlge": "YH51",
    "lzhge": "J17V", "glnu": "JNSA", "glnu_norm": "Y1RO", "zsnu": "4JP3", "zsnu_norm": "VB3A", "z_perc": "P30P",
    "gl_var": "BYLV", "zs_var": "3NSA", "zs_entr": "GU8N",
}  # fmt: skip
ZONE_DISTANCE = {
    "sde": "0GBI", "lde": "MB4I", "lgze": "S1RA", "hgze": "K26C", "sdlge": "RUVG", "sdhge": "DKNJ", "ldlge": "A7WM",
    "ldhge": "KLTH", "glnu": "VFT7", "glnu_norm": "7HP3", "zdnu": "V294", "zdnu_norm": "IATH", "z_perc": "VIWW",
    "gl_var": "QK93", "zd_var": "7WT1", "zd_entr": "GBDU",
}  # fmt: skip
TONE_DIFFERENCE = {
    "coarseness": "QCDE", "contrast": "65HE", "busyness": "NQ30", "complexity": "HDEZ", "strength": "1X9X",
}  # fmt: skip
LEVEL_DEPENDENCE = {
    "lde": "SODN", "hde": "IMOQ", "lgce": "TL9H", "hgce": "OAE7", "ldlge": "EQ3F", "ldhge": "JA6D", "hdlge": "NBZI",
    "hdhge": "9QMG", "glnu": "FP8K", "glnu_norm": "5SPA", "dcnu": "Z87G", "dcnu_norm": "OKJI", "dc_perc": "6XV8",
    "gl_var": "1PFV", "dc_var": "DNX2", "dc_entr": "FCBV", "dc_energy": "CAS9",
}  # fmt: skip

PLAIN = {"morph": MORPHOLOGY, "stat": STATISTICS, "ih": HISTOGRAM, "ivh": VOLUME_HISTOGRAM}
BY_DIRECTION = {"cm": COOCCURRENCE, "rlm": RUN_LENGTH}  # averaged over directions, and merged
BY_NEIGHBOURHOOD = {"szm": ZONE_SIZE, "dzm": ZONE_DISTANCE, "ngt": TONE_DIFFERENCE, "ngl": LEVEL_DEPENDENCE}
SPACES = {2: "2_5D", 3: "3D"}
MERGINGS = ("avg", "comb")


@lru_cache(maxsize=2)
def ibsi_names(dimensions: int = 3) -> tuple[str, ...]:
    """Return all names in the order of `extract_ibsi`: IBSI/morph_volume/RNU0, IBSI/cm_contrast_3D_avg/ACUI.

    Args:
        dimensions: Dimensions of textures: 3, or 2 for textures within slices, merged over the slices ("2.5D").
    """
    space = SPACES[dimensions]
    names = [feature_name(family, feature) for family, codes in PLAIN.items() for feature in codes]
    for family, codes in BY_DIRECTION.items():
        names += [feature_name(family, feature, f"{space}_{merging}") for merging in MERGINGS for feature in codes]
    for family, codes in BY_NEIGHBOURHOOD.items():
        names += [feature_name(family, feature, space) for feature in codes]
    return tuple(names)


def feature_name(family: str, feature: str, aggregation: str = "") -> str:
    """Return the name of a feature, such as IBSI/szm_sze_3D/5QRC from "szm", "sze" and "3D"."""
    code = (PLAIN | BY_DIRECTION | BY_NEIGHBOURHOOD)[family][feature]
    return f"{PREFIX}/{'_'.join(filter(None, (family, feature, aggregation)))}/{code}"
