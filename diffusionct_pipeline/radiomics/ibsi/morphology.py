"""Measure IBSI's shape features of a region: its mesh, its voxel centres, and the spatial distribution of its values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes, mesh_surface_area

from ..feature_class import Reasons, Values

ORDERS = 20  # of the Legendre polynomials that the manual uses for an ellipsoid's surface
ON_A_PLANE = "the voxel centres lie in a plane, on a line or at one point"
NO_VARIANCE = "all values are equal, so there is no variance to divide by"
NOTHING_IN_RANGE = "no voxel of the region lies within range_hu"
_FLAT = 1e-9  # squared length of an axis, relative to the longest, up to which it counts as rounding


def morphology(
    mask: np.ndarray, hu: np.ndarray, inside: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[Values, Reasons]:
    """Measure all 25 shape features.

    Args:
        mask: (slices, rows, columns) bool: the region, at least one voxel.
        hu: Same shape, HU.
        inside: Same shape, bool: the voxels of the region whose values count.
        spacing_mm: Spacing of slices, rows and columns.

    Returns:
        Feature without its family -> value, NaN where undefined; and the reason for every NaN.
    """
    mm = np.asarray(spacing_mm, float)
    # 1. Mesh.
    vertices, faces, *_ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=tuple(mm))
    vertices = vertices.astype(float) - mm
    a, b, c = vertices[faces].transpose(1, 0, 2)
    volume = abs(np.einsum("ij,ij->", a, np.cross(b, c))) / 6
    area = float(mesh_surface_area(vertices, faces))
    hull = ConvexHull(vertices)
    sides = np.ptp(vertices, axis=0)
    sphere = (36 * np.pi * volume**2) ** (1 / 3)  # surface of a sphere of this volume
    # 2. Voxels.
    centres = np.argwhere(mask) * mm
    away = centres - centres.mean(0)
    # N - 1, as in the reference values of the phantom.
    if len(away) > 1:
        variances = np.linalg.eigvalsh(away.T @ away / (len(away) - 1))[::-1]
        variances = np.where(variances > _FLAT * variances[0], variances, 0)
    else:
        variances = np.full(3, np.nan)
    axes = 4 * np.sqrt(variances)
    ellipsoid = np.pi / 6 * np.prod(axes)
    values = {
        "volume": volume,
        "vol_approx": len(centres) * np.prod(mm),
        "area_mesh": area,
        "av": area / volume,
        "comp_1": volume / (np.sqrt(np.pi) * area**1.5),
        "comp_2": 36 * np.pi * volume**2 / area**3,
        "sph_dispr": area / sphere,
        "sphericity": sphere / area,
        "asphericity": area / sphere - 1,
        "diam": pdist(vertices[hull.vertices]).max(),
        "pca_maj_axis": axes[0],
        "pca_min_axis": axes[1],
        "pca_least_axis": axes[2],
        "pca_elongation": axes[1] / axes[0],
        "pca_flatness": axes[2] / axes[0],
        "vol_dens_aabb": volume / np.prod(sides),
        "area_dens_aabb": area / (2 * (sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2])),
        "vol_dens_aee": volume / ellipsoid if ellipsoid else np.nan,
        "area_dens_aee": area / ellipsoid_surface(*axes / 2) if ellipsoid else np.nan,
        "vol_dens_conv_hull": volume / hull.volume,
        "area_dens_conv_hull": area / hull.area,
    }
    reasons = dict.fromkeys((name for name, value in values.items() if np.isnan(value)), ON_A_PLANE)
    # 3. Values in the region.
    if not inside.any():
        lacking = ("com", "integ_int", "moran_i", "geary_c")
        return values | dict.fromkeys(lacking, np.nan), reasons | dict.fromkeys(lacking, NOTHING_IN_RANGE)
    x, at = hu[inside], np.argwhere(inside) * mm
    values["integ_int"] = x.mean() * volume
    if x.sum() == 0:
        values["com"], reasons["com"] = np.nan, "the values add up to zero, so they have no centre of mass"
    else:
        values["com"] = np.linalg.norm(centres.mean(0) - (at * x[:, None]).sum(0) / x.sum())
    values["moran_i"], values["geary_c"] = spatial_correlation(hu, inside, mm)
    reasons |= {name: NO_VARIANCE for name in ("moran_i", "geary_c") if np.isnan(values[name])}
    return values, reasons


def ellipsoid_surface(a: float, b: float, c: float) -> float:
    """Return the surface of an ellipsoid with semi-axes a >= b >= c > 0, by the manual's series of Legendre polynomials.

    The series stops at order 20, as in the manual, and is up to 1 % too large for flat ellipsoids.
    """
    alpha2, beta2 = 1 - (b / a) ** 2, 1 - (c / a) ** 2
    mean, product = (alpha2 + beta2) / 2, alpha2 * beta2
    before, term, total = 0.0, 1.0, 0.0  # (alpha beta)^v P_v(mean / (alpha beta)), which needs no division
    for v in range(ORDERS + 1):
        total += term / (1 - 4 * v**2)
        before, term = term, ((2 * v + 1) * mean * term - v * product * before) / (v + 1)
    return 4 * np.pi * a * b * total


def spatial_correlation(hu: np.ndarray, inside: np.ndarray, mm: np.ndarray) -> tuple[float, float]:
    """Measure Moran's I and Geary's C over all pairs of voxels, each weighted by the inverse of its distance.

    The sums over pairs are convolutions with 1 / distance, computed by FFT and exact to rounding.

    Returns:
        Both; NaN where all values are equal.
    """
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(inside))
    inside = inside[box].astype(float)
    n = inside.sum()
    x = np.where(inside > 0, hu[box], 0)
    x = (x - x.sum() / n) * inside
    squares = (x**2).sum()
    if np.ptp(hu[box][inside > 0]) == 0:
        return np.nan, np.nan
    shape = [fft.next_fast_len(2 * side - 1, real=True) for side in inside.shape]
    lags = [np.minimum(np.arange(size), size - np.arange(size)) * step for size, step in zip(shape, mm)]
    distance = np.sqrt(lags[0][:, None, None] ** 2 + lags[1][:, None] ** 2 + lags[2] ** 2)
    distance[0, 0, 0] = np.inf
    weights = fft.rfftn(1 / distance)

    def weighted(array: np.ndarray) -> np.ndarray:  # sum over j of array_j / distance_ij
        return fft.irfftn(fft.rfftn(array, shape) * weights, shape)[tuple(map(slice, array.shape))]

    near = weighted(inside)
    total = (near * inside).sum()
    product = (weighted(x) * x).sum()
    moran = n / total * product / squares
    geary = (n - 1) / total * ((near * x**2).sum() - product) / squares
    return float(moran), float(geary)
