"""Find the body's surface on a slice: where it is bare, how it is tilted, and how far each pixel is from it.

The border of body and air is the one sharp edge that every scan has (Sanders, Hurwitz, Samei, "Patient-specific
quantification of image quality: an automated method for measuring spatial resolution in clinical CT images", Med Phys 43,
5330, 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d, map_coordinates
from scipy.spatial import cKDTree
from skimage.measure import find_contours

SURFACE_HU = -500.0  # halfway between air and skin
VACUUM_HU = -1024.0  # lower values are padding, or noise that other formats clip
HIGHEST_HU = 300.0  # clips metal beside the skin, which must not move the surface
SMOOTHED_MM = 1.0  # sigma of smoothing for the contour, equal on both sides, so that it does not move
STEP_MM = 0.5  # between vertices along the contour
ALONG_MM = 1.5  # sigma of smoothing along the contour: noise is removed, the roughness of skin stays
OUTSIDE_MM, INSIDE_MM = np.arange(2.5, 8.1, 0.5), np.arange(2.5, 6.1, 0.5)
HIGHEST_AIR_HU, HIGHEST_NEAR_AIR_HU = -930.0, -800.0  # mean and maximum outside; a table or folded skin exceeds them
LOWEST_TISSUE_HU, HIGHEST_TISSUE_HU = -220.0, 120.0  # mean inside: fat to muscle
LOWEST_NEAR_TISSUE_HU = -350.0
BORDER_MM = 9.0  # from the image's border and from padding
SHARPEST_BEND_MM = 15.0  # radius: at sharper bends, of an ear or a fold, a slice shows more than two sides
REACH_MM = 7.0  # pixels farther away are not used


@dataclass(frozen=True, eq=False)
class BodyEdge:
    """Hold the outline of the body on a slice.

    Attributes:
        vertices_mm: (N, 2) row and column in mm, `STEP_MM` apart.
        normals: (N, 2) unit vectors that point outwards.
        bare: (N,) bool, True where there is only air outside and only soft tissue inside.
    """

    vertices_mm: np.ndarray
    normals: np.ndarray
    bare: np.ndarray


def body_edge(
    hu: np.ndarray, spacing_mm: float, padding: np.ndarray | None = None, outline_only: bool = False
) -> BodyEdge | None:
    """Return the outline of the largest body on a slice, None where there is none.

    Args:
        hu: (H, W) HU.
        spacing_mm: Side of a pixel.
        padding: (H, W) bool, True where nothing was measured.
        outline_only: Whether to skip the search for bare parts; then `bare` is False everywhere.
    """
    smooth = gaussian_filter(np.clip(hu, VACUUM_HU, HIGHEST_HU).astype(np.float32), SMOOTHED_MM / spacing_mm)
    framed = np.pad(smooth, 1, constant_values=VACUUM_HU)  # so that every outline is closed
    outline = max(find_contours(framed, SURFACE_HU), key=_area, default=None)
    if outline is None or len(outline) < 3:
        return None
    vertices = _even_steps((outline - 1) * spacing_mm)
    if len(vertices) * STEP_MM < 2 * np.pi * SHARPEST_BEND_MM:
        return None
    vertices = gaussian_filter1d(vertices, ALONG_MM / STEP_MM, axis=0, mode="wrap")
    tangent = np.roll(vertices, -1, 0) - np.roll(vertices, 1, 0)
    normals = np.column_stack([-tangent[:, 1], tangent[:, 0]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-9)

    if outline_only:
        return BodyEdge(vertices, normals, np.zeros(len(vertices), bool))

    def profile(offsets_mm: np.ndarray, seen: np.ndarray = smooth, order: int = 1) -> np.ndarray:
        """Return HU (offsets, N) along the normals, smoothed by default."""
        places = (vertices + offsets_mm[:, None, None] * normals) / spacing_mm
        return map_coordinates(seen, np.moveaxis(places, -1, 0), order=order, mode="nearest")

    if profile(OUTSIDE_MM).mean() > profile(-OUTSIDE_MM).mean():
        normals = -normals
    outside, inside = profile(OUTSIDE_MM), profile(-INSIDE_MM)
    # Files clip noise at their lowest HU, which raises the mean of noisy air but not its median.
    lift = max(float(np.median(outside) - np.median(profile(OUTSIDE_MM, hu, order=0))), 0.0)
    bend = np.linalg.norm(np.roll(vertices, -1, 0) - 2 * vertices + np.roll(vertices, 1, 0), axis=1) / STEP_MM**2
    far = (np.array(hu.shape) - 1) * spacing_mm - BORDER_MM
    bare = (
        (outside.mean(0) < HIGHEST_AIR_HU + lift) & (outside.max(0) < HIGHEST_NEAR_AIR_HU + lift)
        & (inside.mean(0) > LOWEST_TISSUE_HU) & (inside.mean(0) < HIGHEST_TISSUE_HU)
        & (inside.min(0) > LOWEST_NEAR_TISSUE_HU) & (bend < 1 / SHARPEST_BEND_MM)
        & (vertices > BORDER_MM).all(1) & (vertices < far).all(1)
    )  # fmt: skip
    if padding is not None and padding.any():
        clear_mm = distance_transform_edt(~padding) * spacing_mm
        bare &= map_coordinates(clear_mm, (vertices / spacing_mm).T, order=1, mode="nearest") > BORDER_MM
    return BodyEdge(vertices, normals, bare)


def tilt(edge: BodyEdge, neighbour: BodyEdge, distance_mm: float) -> np.ndarray:
    """Return by how many mm the surface moves sideways per mm along the slice normal, (N,), from another slice's outline."""
    nearest = cKDTree(neighbour.vertices_mm).query(edge.vertices_mm)[1]
    moved = ((neighbour.vertices_mm[nearest] - edge.vertices_mm) * edge.normals).sum(1)
    return np.abs(moved) / distance_mm


def pixels_near(
    hu: np.ndarray, spacing_mm: float, edge: BodyEdge, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the signed distance in mm (positive outside), HU and nearest vertex of the pixels near some vertices.

    Args:
        hu: (H, W) HU.
        spacing_mm: Side of a pixel.
        edge: Its outline.
        chosen: (N,) bool, the vertices; pixels that are nearest to another vertex are left out.
    """
    near = np.ones(hu.shape, bool)
    places = np.round(edge.vertices_mm[chosen] / spacing_mm).astype(int).clip(0, np.array(hu.shape) - 1)
    near[tuple(places.T)] = False
    rows, columns = np.nonzero(distance_transform_edt(near) * spacing_mm < REACH_MM)
    pixels = np.column_stack([rows, columns]) * spacing_mm
    nearest = cKDTree(edge.vertices_mm).query(pixels)[1]
    kept = chosen[nearest]
    nearest, pixels = nearest[kept], pixels[kept]
    distance = ((pixels - edge.vertices_mm[nearest]) * edge.normals[nearest]).sum(1)
    return distance, hu[rows[kept], columns[kept]], nearest


def _area(outline: np.ndarray) -> float:
    """Return the area inside a closed outline (N, 2) by the shoelace formula."""
    y, x = outline.T
    return abs(float(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1)))) / 2


def _even_steps(outline: np.ndarray) -> np.ndarray:
    """Resample a closed outline (M, 2) in mm, first point = last, to (N, 2) points `STEP_MM` apart."""
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(outline, axis=0), axis=1))]
    places = np.linspace(0, along[-1], max(int(along[-1] / STEP_MM), 3), endpoint=False)
    return np.column_stack([np.interp(places, along, outline[:, axis]) for axis in (0, 1)])
