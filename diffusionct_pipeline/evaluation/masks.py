"""Masks of tumours from NIfTI, NRRD, DICOM SEG, RTSTRUCT and .npz, on the voxels of an image series or refused.

Image files are read by SimpleITK, SEG by highdicom (extra "masks"). RTSTRUCT needs neither: its contours are numbers in
tags, which pydicom reads and scikit-image fills.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from ..dicom.reading import read_dataset
from ..optional import import_optional
from .geometry import Geometry, match_slices

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # Segmentation, Label Map Segmentation
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
MAX_LABELS = 1000  # more different values are an image, not a mask
MOST_TIMES = 8  # voxels, in those of the series, up to which a mask is read to say where it lies instead
PARALLEL = 1 - 1e-4  # cosine of axes that may be the same; whether the voxels are is checked at the corners


def read_mask(
    path: str | os.PathLike, geometry: Geometry, labels: Sequence[str | int] | None = None
) -> dict[str, np.ndarray]:
    """Read the regions of a mask file onto an image series.

    Args:
        path: .npz with `mask` (slices, rows, columns), slices by ascending position along the normal; NIfTI, NRRD or
            MetaImage; DICOM SEG or RTSTRUCT. Integer labels, 0 is outside.
        geometry: Of the series. The grid of the file must be that of the series: in NIfTI and the like all voxels, axes
            in any order and direction; in SEG the frames that it holds; an .npz has none, only its shape counts.
            Contours must lie on slices of the series and within their pixels.
        labels: Names to read; None: all. Image files and .npz name a region by its number, SEG by the label of the
            segment, RTSTRUCT by the name of the ROI.

    Returns:
        Name -> (slices, rows, columns) bool; none is empty. Regions of SEG and RTSTRUCT may overlap.

    Raises:
        ValueError: The file is no mask, is empty, lacks a label, or lies elsewhere; then with both geometries.
        ImportError: The reader of this format is not installed.
        OSError: The file cannot be opened.
    """
    path = Path(path)
    name = path.name.lower()
    wanted = None if labels is None else [str(label) for label in labels]
    with open(path, "rb"):  # an OSError that names the file, whichever library would read it
        pass
    try:
        if name.endswith(".npz"):
            regions = _label_regions(_read_npz(path, geometry), wanted)
        elif name.endswith(IMAGE_SUFFIXES):
            regions = _label_regions(_read_image(path, geometry), wanted)
        else:
            dataset = read_dataset(path, header_only=True)
            if dataset.get("SOPClassUID") in SEG_CLASSES:
                regions = _read_seg(path, geometry, wanted)
            elif dataset.get("SOPClassUID") == RTSTRUCT_CLASS:
                regions = _read_rtstruct(dataset, geometry, wanted)
            else:
                modality = dataset.get("Modality", "unknown")
                raise ValueError(f"is DICOM of modality {modality}; must be SEG or RTSTRUCT")
    except (ImportError, MemoryError):
        raise
    except ValueError as error:
        raise ValueError(f'mask "{path}" {str(error).removeprefix(chr(34) + str(path) + chr(34)).strip()}') from error
    except Exception as error:  # what a damaged file makes its reader raise depends on the damage
        raise ValueError(f'mask "{path}" is damaged: {type(error).__name__}: {error}') from error
    regions = {region: mask for region, mask in regions.items() if mask.any()}
    empty = [label for label in wanted or () if label not in regions]
    if empty:
        raise ValueError(f'mask "{path}" has no voxels of label {empty[0]!r}, which it names')
    if not regions:
        raise ValueError(f'mask "{path}" is empty; it must hold at least one region')
    return regions


def _label_regions(array: np.ndarray, wanted: list[str] | None) -> dict[str, np.ndarray]:
    """Integer labels -> one region each, in the order of the numbers."""
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.rint(array)).all():
        array = array.astype(np.int64)  # many programs save labels as floating-point numbers
    if array.dtype.kind not in "iu":
        raise ValueError(f"holds {array.dtype} values that are not whole; a mask has integer labels")
    values = np.unique(array)
    if values[0] < 0 or len(values) > MAX_LABELS:
        raise ValueError(f"holds {len(values)} different values from {values[0]} to {values[-1]}; a mask has labels, "
                         f"0 for outside and up to {MAX_LABELS} of 1 or more")
    _require_labels(wanted, [str(v) for v in values if v])
    return {str(v): array == v for v in values if v and (wanted is None or str(v) in wanted)}


def _require_labels(wanted: list[str] | None, found: Sequence[str]) -> None:
    for label in wanted or ():
        if label not in found:
            raise ValueError(f"has no voxels of label {label!r}; found: {', '.join(found) or 'none'}")


def _read_npz(path: Path, geometry: Geometry) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            if "mask" not in file:
                raise ValueError(f"holds {sorted(file)}; must hold an array named mask")
            shape, dtype = _npy_header(file, "mask.npy")
            if shape != geometry.shape:
                raise ValueError(f"has shape {shape}, the image series {geometry.shape} (slices, rows, columns):\n"
                                 f"  series: {geometry}")
            if dtype.kind not in "biuf":
                raise ValueError(f"holds values of type {dtype}; a mask has integer labels")
            return file["mask"]
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # a damaged archive raises what zipfile, zlib or numpy meet first
        raise ValueError(f"is a damaged .npz file: {error}") from error


def _npy_header(file: np.lib.npyio.NpzFile, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array of an archive, before memory is taken for what may be terabytes of zeros."""
    with file.zip.open(name) as member:
        version = np.lib.format.read_magic(member)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(member)
        return shape, dtype


def _read_image(path: Path, geometry: Geometry) -> np.ndarray:
    SimpleITK = import_optional("SimpleITK")
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = reader.GetSize()
        if math.prod(size) > MOST_TIMES * math.prod(geometry.shape):  # more than the wrong grid: memory would end
            raise ValueError(f"holds {size} voxels, the image series {geometry.shape} (slices, rows, columns)")
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"cannot be read: {str(error).strip().splitlines()[-1]}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        found = f"{image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} values per voxel"
        raise ValueError(f"has {found}; a mask has 3 and 1")
    columns = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()  # steps of x, y, z as columns
    placed, _ = _placed(SimpleITK.GetArrayFromImage(image), columns.T[::-1], np.array(image.GetOrigin()), geometry)
    return placed


def _placed(
    array: np.ndarray, steps: np.ndarray, origin: np.ndarray, geometry: Geometry, some_slices: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Turn an array of a regular grid onto the axes of the series.

    Args:
        array: (n0, n1, n2).
        steps: (3, 3) vector in mm from one voxel to the next along each axis.
        origin: (3,) centre of the first voxel in mm.
        some_slices: The grid may have fewer slices than the series.

    Returns:
        The array with axes slice, row, column, and the slices of the series that these are.
    """
    # 1. Axes in the order and direction of the series.
    sides = np.linalg.norm(steps, axis=1)
    cosines = geometry.directions @ (steps / sides[:, None]).T  # [axis of the series, axis of the grid]
    order = np.abs(cosines).argmax(1)
    found = np.take_along_axis(cosines, order[:, None], 1)[:, 0]
    if sorted(order) != [0, 1, 2] or np.abs(found).min() < PARALLEL:
        raise ValueError(f"has axes that are not those of the image series:\n  mask:   {array.shape} voxels, axes "
                         f"{np.round(steps / sides[:, None], 4).tolist()}\n  series: {geometry}")
    array, steps = array.transpose(order), steps[order]
    for axis in np.flatnonzero(found < 0):
        origin = origin + (array.shape[axis] - 1) * steps[axis]
        steps[axis] = -steps[axis]
        array = np.flip(array, axis)
    # 2. The same voxels?
    sides = np.linalg.norm(steps, axis=1)
    origins = origin + np.arange(array.shape[0])[:, None] * steps[0]
    own = Geometry(array.shape, float(sides[2]), steps / sides[:, None], origins)
    both = f"\n  mask:   {own}\n  series: {geometry}"
    if abs(sides[1] - sides[2]) * max(array.shape[1:]) > geometry.tolerance_mm:
        raise ValueError(f"has pixels of {sides[1]:.4g} x {sides[2]:.4g} mm; the image series' are square:{both}")
    try:
        slices = match_slices(own, geometry)
    except ValueError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"lies elsewhere than the image series: {reason}:{both}") from None
    outside = slices < 0
    if (array[outside] != 0).any() or (not some_slices and (outside.any() or len(slices) != geometry.shape[0])):
        raise ValueError(f"has other slices than the image series:{both}")
    return array[~outside], slices[~outside]


def _read_seg(path: Path, geometry: Geometry, wanted: list[str] | None) -> dict[str, np.ndarray]:
    highdicom = import_optional("highdicom")
    seg = highdicom.seg.segread(path)
    _require_frame_of_reference(str(seg.get("FrameOfReferenceUID", "")), geometry)
    numbers = list(seg.segment_numbers)
    names = _unique_names(numbers, [str(seg.get_segment_description(n).segment_label) for n in numbers])
    _require_labels(wanted, names)
    regions = {}
    for number, name in zip(numbers, names):
        if wanted is not None and name not in wanted:
            continue
        try:
            volume = seg.get_volume(segment_numbers=[number], atol=geometry.tolerance_mm)
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"has frames that form no volume: {error}\n  series: {geometry}") from error
        array = volume.array[..., 0]  # [slices, rows, columns]
        if not np.isin(np.unique(array), (0, 1)).all():
            raise ValueError(f"has a fractional segment {name!r}; must be binary")
        array, slices = _placed(array, volume.affine[:3, :3].T, volume.affine[:3, 3], geometry, some_slices=True)
        regions[name] = np.zeros(geometry.shape, bool)
        regions[name][slices] = array != 0
    return regions


def _read_rtstruct(dataset: Dataset, geometry: Geometry, wanted: list[str] | None) -> dict[str, np.ndarray]:
    """Fill closed planar contours. Contours of one ROI on one slice are combined by exclusive or: one in another is a
    hole (DICOM PS3.3 C.8.8.6 leaves it to the writer; both keyholes and nested contours come out right)."""
    rois = {int(roi.ROINumber): roi for roi in dataset.get("StructureSetROISequence") or ()}
    names = dict(zip(rois, _unique_names(list(rois), [str(roi.get("ROIName", "")) for roi in rois.values()])))
    contoured = [int(item.ReferencedROINumber) for item in dataset.get("ROIContourSequence") or ()]
    _require_labels(wanted, [names.get(number, f"#{number}") for number in contoured])
    regions = {}
    for item in dataset.get("ROIContourSequence") or ():
        number = int(item.ReferencedROINumber)
        name = names.get(number, f"#{number}")
        contours = [c for c in item.get("ContourSequence") or () if str(c.ContourGeometricType).startswith("CLOSED")]
        if not contours or (wanted is not None and name not in wanted):
            continue  # points and lines bound no region
        if number in rois:
            _require_frame_of_reference(str(rois[number].get("ReferencedFrameOfReferenceUID", "")), geometry)
        regions[name] = np.zeros(geometry.shape, bool)
        for contour in contours:
            points_mm = np.reshape(np.asarray(contour.ContourData, float), (-1, 3))
            if not np.isfinite(points_mm).all():
                raise ValueError(f"has a contour of {name!r} with coordinates that are NaN or infinite")
            index, polygon = _contour_on_slice(points_mm, name, geometry)
            regions[name][index] ^= polygon2mask(geometry.shape[1:], polygon)
    return regions


def _contour_on_slice(points_mm: np.ndarray, name: str, geometry: Geometry) -> tuple[int, np.ndarray]:
    """Slice of a contour, and its points as (row, column) of that slice."""
    low, high = (", ".join(f"{v:.2f}" for v in bound) for bound in (points_mm.min(0), points_mm.max(0)))
    both = f"\n  contour of {name!r}: from ({low}) to ({high}) mm\n  series: {geometry}"
    normal, down, along = geometry.directions
    distance = np.abs((points_mm @ normal)[:, None] - geometry.positions_mm).max(0)  # of its farthest point, [slices]
    index = int(distance.argmin())
    if distance[index] > geometry.tolerance_mm:
        raise ValueError(f"has a contour that lies on no slice of the image series (nearest: {distance[index]:.3g} mm):"
                         f"{both}")
    offset = (points_mm - geometry.origins_mm[index]) / geometry.spacing_mm
    polygon = np.stack([offset @ down, offset @ along], axis=1)
    if (polygon < -1).any() or (polygon > geometry.shape[1:]).any():  # a contour may run along the image's outer edge
        raise ValueError(f"has a contour that leaves the image series:{both}")
    return index, polygon


def _require_frame_of_reference(uid: str, geometry: Geometry) -> None:
    if uid and geometry.frames_of_reference and uid not in geometry.frames_of_reference:
        known = ", ".join(sorted(geometry.frames_of_reference))
        raise ValueError(f"belongs to another scan: its frame of reference is {uid}, that of the image series {known}\n"
                         f"  series: {geometry}")


def _unique_names(numbers: list[int], names: list[str]) -> list[str]:
    """Names as they are, with their number where several share one or have none."""
    return [n if n and names.count(n) == 1 else f"{n} #{i}".strip() for i, n in zip(numbers, names)]
