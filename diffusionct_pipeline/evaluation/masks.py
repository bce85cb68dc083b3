"""Read masks of tumours from NIfTI, NRRD, DICOM SEG, RTSTRUCT and .npz onto the voxels of an image series, or refuse them.

NIfTI and NRRD are read like volumes, MetaImage by SimpleITK, SEG by highdicom (extra "masks"). RTSTRUCT needs neither:
its contours are numbers in tags, which pydicom reads and scikit-image fills. The stated size of a file is checked before
memory is allocated for it.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from skimage.draw import polygon2mask

from ..dicom.reading import read_dataset
from ..utils.archives import array_header
from ..utils.optional import import_optional
from ..volumes.files import is_volume, read_voxels
from .geometry import Geometry, match_slices

logger = logging.getLogger(__name__)

DETACHED_SUFFIXES = (".mhd", ".nhdr")  # headers whose voxels are in another file
SEG_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # Segmentation, Label Map Segmentation
RTSTRUCT_CLASS = "1.2.840.10008.5.1.4.1.1.481.3"
MAX_LABELS = 1000  # a file with more different values is an image, not a mask
MOST_TIMES = 8  # voxels, relative to the series, up to which a mask on another grid is read to report its position
SHEAR = 2e-3  # cosine between axes that are perpendicular up to single precision and rounding
FARTHEST_MM = 1e5  # coordinates beyond are outside of any scanner
CUT = "cut at the edge of the image"
DOUBLE = "left out: another plane of the region is nearer to the slice"
MOVED = "moved by up to half a slice's thickness, onto the nearest slice"
PARALLEL = 1 - 1e-4  # cosine of axes that may be equal; whether the voxels are is checked at the corners


def read_mask(
    path: str | os.PathLike,
    geometry: Geometry,
    labels: Sequence[str | int] | None = None,
    remarks: list[str] | None = None,
) -> dict[str, np.ndarray]:
    """Read the regions of a mask file onto an image series.

    Args:
        path: .npz with `mask` (slices, rows, columns), slices by ascending position along the normal, or in the order
            of a second array `z_mm`, their z in DICOM patient coordinates; NIfTI, NRRD or MetaImage in one file; DICOM
            SEG or RTSTRUCT.
        geometry: Geometry of the series. The grid of the file must be that of the series, or a part of it, as written
            by programs that crop a mask to its regions: axes in any order and direction in NIfTI and the like; the
            frames that it holds in SEG; an .npz has no grid, so only its shape is checked. A contour of RTSTRUCT is drawn
            on the slice within half of whose thickness it lies, and cut at the edge of the image.
        labels: Names to read; None: all. Image files and .npz name a region by its number, SEG by the label of the
            segment, RTSTRUCT by the name of the ROI.
        remarks: Receives a sentence for each contour or region that was left out, cut or moved; None logs them.

    Returns:
        Name -> (slices, rows, columns) bool; none is empty. Regions of SEG and RTSTRUCT may overlap.

    Raises:
        ValueError: if the file is not a mask, is empty or lacks a label; or, with both geometries, has another position.
        ImportError: if the reader of this format is not installed.
        OSError: if the file cannot be opened.
    """
    path = Path(path)
    name = path.name.lower()
    wanted = None if labels is None else [str(label) for label in labels]
    said: list[str] = []
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would wait forever
        raise ValueError(f'mask "{path}" is not a regular file')
    with open(path, "rb"):  # raises an OSError that names the file, whichever library would read it
        pass
    try:
        if name.endswith(".npz"):
            regions = _label_regions(_read_npz(path, geometry), wanted)
        elif is_volume(path) or name.endswith((".mha", *DETACHED_SUFFIXES)):
            regions = _label_regions(_read_image(path, geometry, said), wanted)
        else:
            dataset = read_dataset(path, header_only=True)
            if dataset.get("SOPClassUID") in SEG_CLASSES:
                _require_modest_seg(dataset, geometry)
                regions = _read_seg(path, geometry, wanted)
            elif dataset.get("SOPClassUID") == RTSTRUCT_CLASS:
                regions = _read_rtstruct(dataset, geometry, wanted, said)
            else:
                modality = dataset.get("Modality", "unknown")
                raise ValueError(f"must be SEG or RTSTRUCT, got DICOM of modality {modality}")
    except (ImportError, MemoryError):
        raise
    except ValueError as error:
        raise ValueError(f'mask "{path}" {str(error).removeprefix(chr(34) + str(path) + chr(34)).strip()}') from error
    except Exception as error:  # the error of a reader depends on the damage
        raise ValueError(f'mask "{path}" is damaged: {type(error).__name__}: {error}') from error
    for remark in said:
        if remarks is None:
            logger.warning('mask "%s": %s', path, remark)
    if remarks is not None:
        remarks += [f"{path.name}: {remark}" for remark in said]  # a report may be shared: it has no folders
    regions = {region: mask for region, mask in regions.items() if mask.any()}
    empty = [label for label in wanted or () if label not in regions]
    if empty:
        raise ValueError(f'mask "{path}" names label {empty[0]!r} but has no voxels of it{_listed(said)}')
    if not regions:
        raise ValueError(f'mask "{path}" must hold at least one region, it is empty{_listed(said)}')
    return regions


def _listed(remarks: list[str]) -> str:
    """Return the reasons for missing regions, for the end of an error."""
    return "".join(f"\n  {remark}" for remark in remarks[:3])


def _label_regions(array: np.ndarray, wanted: list[str] | None) -> dict[str, np.ndarray]:
    """Return one region for each integer label, in ascending order."""
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.rint(array)).all():
        array = array.astype(np.int64)  # many programs save labels as floating-point numbers
    if array.dtype.kind not in "iu":
        raise ValueError(f"must hold integer labels, got {array.dtype} values that are not whole")
    values = np.unique(array)
    if values[0] < 0 or len(values) > MAX_LABELS:
        raise ValueError(
            f"must hold labels, 0 for outside and up to {MAX_LABELS} of 1 or more, got {len(values)} different values "
            f"from {values[0]} to {values[-1]}"
        )
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
                raise ValueError(f"must hold an array named mask, got {sorted(file)}")
            shape, dtype = array_header(file, "mask")
            if shape != geometry.shape:
                raise ValueError(
                    f"must have the shape of the image series, {geometry.shape} (slices, rows, columns), got {shape}:\n"
                    f"  series: {geometry}"
                )
            if dtype.kind not in "biuf":
                raise ValueError(f"must hold integer labels, got values of type {dtype}")
            return file["mask"] if "z_mm" not in file else _by_height(file["mask"], file["z_mm"], geometry)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # of zipfile, zlib or numpy, depending on the damage
        raise ValueError(f"is a damaged .npz file: {error}") from error


def _by_height(mask: np.ndarray, z_mm: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Return a mask (slices, rows, columns) with its slices in the order of the series, by the z (slices,) of each."""
    apart = np.abs(np.subtract.outer(geometry.origins_mm[:, 2], np.asarray(z_mm, float).ravel()))
    nearest = apart.argmin(1)
    if apart.shape[1] != len(mask) or apart.min(1).max() > geometry.tolerance_mm or len(set(nearest)) < len(mask):
        raise ValueError(f"has z_mm that are not of the image series' slices:\n  z_mm:   {z_mm}\n  series: {geometry}")
    return mask[nearest]


def _read_image(path: Path, geometry: Geometry, remarks: list[str]) -> np.ndarray:
    """Read an image as (slices, rows, columns) of the series."""
    most = MOST_TIMES * math.prod(geometry.shape)
    if is_volume(path):
        voxels, affine = read_voxels(path, most)
        array, steps, origin = voxels, affine[:3, :3].T, affine[:3, 3]
    else:
        array, steps, origin = _read_meta_image(path, geometry, most)
    placed, slices = _placed(array, steps, origin, geometry, remarks)
    whole = np.zeros(geometry.shape, placed.dtype)
    whole[slices] = placed
    return whole


def _read_meta_image(path: Path, geometry: Geometry, most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read an array (z, y, x), its steps and its origin."""
    if path.name.lower().endswith(DETACHED_SUFFIXES):
        raise ValueError(
            "keeps its voxels in another file, which is not read; save it in one file, as .nrrd or .nii.gz"
        )
    with open(path, "rb") as file:
        named = re.search(rb"^ElementDataFile\s*=\s*(.*?)\s*$", file.read(1 << 16), re.M)
    if named is None or named[1] != b"LOCAL":
        raise ValueError("does not hold its voxels itself, or is damaged; save it in one file, as .nrrd or .nii.gz")
    SimpleITK = import_optional("SimpleITK")
    try:
        reader = SimpleITK.ImageFileReader()
        reader.SetImageIO("MetaImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = reader.GetSize()
        if math.prod(size) * reader.GetNumberOfComponents() > most:  # reading might exhaust the memory
            raise ValueError(f"holds {size} voxels, the image series {geometry.shape} (slices, rows, columns)")
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"cannot be read: {str(error).strip().splitlines()[-1]}") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        found = f"{image.GetDimension()} dimensions and {image.GetNumberOfComponentsPerPixel()} values per voxel"
        raise ValueError(f"must have 3 dimensions and 1 value per voxel, got {found}")
    columns = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()  # steps of x, y, z as columns
    return SimpleITK.GetArrayFromImage(image), columns.T[::-1], np.array(image.GetOrigin())


def _placed(
    array: np.ndarray, steps: np.ndarray, origin: np.ndarray, geometry: Geometry, remarks: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Reorder the axes of an array on the grid of the series, or a part of it, to those of the series.

    Args:
        array: (n0, n1, n2).
        steps: (3, 3) vector in mm from one voxel to the next along each axis.
        origin: (3,) centre of the first voxel in mm.
        geometry: Geometry of the series.
        remarks: Receives a sentence if the array is a part.

    Returns:
        The array with axes slice, row, column and the series' rows and columns, and its slices' indices in the series.
    """
    # 1. Axes that are perpendicular up to rounding, in the order and direction of the series.
    steps, origin = _perpendicular(array.shape, steps, origin)
    sides = np.linalg.norm(steps, axis=1)
    cosines = geometry.directions @ (steps / sides[:, None]).T  # [axis of the series, axis of the grid]
    order = np.abs(cosines).argmax(1)
    found = np.take_along_axis(cosines, order[:, None], 1)[:, 0]
    if sorted(order) != [0, 1, 2] or np.abs(found).min() < PARALLEL:
        raise ValueError(
            f"must have the axes of the image series:\n  mask:   {array.shape} voxels, axes "
            f"{np.round(steps / sides[:, None], 4).tolist()}\n  series: {geometry}"
        )
    array, steps = array.transpose(order), steps[order]
    for axis in np.flatnonzero(found < 0):
        origin = origin + (array.shape[axis] - 1) * steps[axis]
        steps[axis] = -steps[axis]
        array = np.flip(array, int(axis))
    # 2. The voxels must be those of the series.
    sides = np.linalg.norm(steps, axis=1)
    own = Geometry(array.shape, float(sides[2]), steps / sides[:, None], _origins(origin, steps, array))
    both = f"\n  mask:   {own}\n  series: {geometry}"
    if abs(sides[1] - sides[2]) * max(array.shape[1:]) > geometry.tolerance_mm:
        raise ValueError(
            f"must have square pixels like the image series, got {sides[1]:.4g} x {sides[2]:.4g} mm:{both}"
        )
    is_part = array.shape[0] < geometry.shape[0]
    if array.shape[1:] != geometry.shape[1:]:
        is_part = True
        array, origin = _continued(array, steps, origin, geometry)
        own = Geometry(array.shape, own.spacing_mm, own.directions, _origins(origin, steps, array))
    try:
        slices = match_slices(own, geometry)
    except ValueError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ValueError(f"has another position than the image series: {reason}:{both}") from None
    outside = slices < 0
    if (array[outside] != 0).any() or (outside.any() and len(slices) >= geometry.shape[0]):
        raise ValueError(f"has other slices than the image series:{both}")
    if is_part:
        remarks.append(f"it covers a part of the image series' grid; the rest counts as outside of every region.{both}")
    return array[~outside], slices[~outside]


def _perpendicular(shape: tuple[int, ...], steps: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest perpendicular axes to those of a grid, about its centre, and the corresponding origin."""
    sides = np.linalg.norm(steps, axis=1)
    if not (np.isfinite(steps).all() and np.isfinite(origin).all() and (sides > 0).all()):
        raise ValueError("must have an invertible affine")
    axes = steps / sides[:, None]
    shear = np.abs(axes @ axes.T - np.eye(3)).max()
    if shear > SHEAR:
        raise ValueError(
            f"has a sheared affine: its axes must be perpendicular within {SHEAR:g}, got {shear:.2g}. "
            "Resample it onto the grid of the image series first"
        )
    left, _, right = np.linalg.svd(axes)
    square = left @ right * sides[:, None]
    middle = (np.array(shape) - 1) / 2
    return square, origin + middle @ steps - middle @ square


def _origins(origin: np.ndarray, steps: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Return the centre (slices, 3) of the first pixel of each slice."""
    return origin + np.arange(array.shape[0])[:, None] * steps[0]


def _continued(
    array: np.ndarray, steps: np.ndarray, origin: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, np.ndarray]:
    """Extend a mask that was cropped to its regions to the rows and columns of the series; others are left unchanged."""
    rows, columns = geometry.shape[1:]
    if array.shape[1] > rows or array.shape[2] > columns:
        return array, origin
    nearest = np.abs(geometry.positions_mm - origin @ geometry.directions[0]).argmin()
    offset = geometry.directions[1:] @ (origin - geometry.origins_mm[nearest]) / geometry.spacing_mm
    top, left = (int(value) for value in np.rint(offset))
    if not (0 <= top <= rows - array.shape[1] and 0 <= left <= columns - array.shape[2]):
        return array, origin
    whole = np.zeros((array.shape[0], rows, columns), array.dtype)
    whole[:, top : top + array.shape[1], left : left + array.shape[2]] = array
    return whole, origin - top * steps[1] - left * steps[2]


def _require_modest_seg(dataset: Dataset, geometry: Geometry) -> None:
    """Refuse a segmentation that is unreasonably large by its header, before memory is allocated for its frames."""
    frames, described = (
        int(dataset.get("NumberOfFrames") or 1),
        len(dataset.get("PerFrameFunctionalGroupsSequence") or ()),
    )
    if frames != described:
        raise ValueError(f"states {frames} frames but describes {described}: it is damaged")
    segments = max(len(dataset.get("SegmentSequence") or ()), 1)
    voxels, most = frames * int(dataset.Rows) * int(dataset.Columns), MOST_TIMES * segments * math.prod(geometry.shape)
    if segments > MAX_LABELS or voxels > most:
        raise ValueError(
            f"must hold at most {MAX_LABELS} segments and, for this image series, {most} voxels, got {segments} segments "
            f"and {voxels} voxels in {frames} frames"
        )


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
            raise ValueError(f"has frames that do not form a volume: {error}\n  series: {geometry}") from error
        array = volume.array[..., 0]  # [slices, rows, columns]
        if not np.isin(np.unique(array), (0, 1)).all():
            raise ValueError(f"must be binary, got a fractional segment {name!r}")
        # Frames without a region may be left out, which needs no remark.
        array, slices = _placed(array, volume.affine[:3, :3].T, volume.affine[:3, 3], geometry, [])
        regions[name] = np.zeros(geometry.shape, bool)
        regions[name][slices] = array != 0
    return regions


def _read_rtstruct(
    dataset: Dataset, geometry: Geometry, wanted: list[str] | None, remarks: list[str]
) -> dict[str, np.ndarray]:
    """Fill closed planar contours. Contours of one ROI on one slice are combined by exclusive or: one inside another is
    a hole (DICOM PS3.3 C.8.8.6 leaves it to the writer; both keyholes and nested contours are handled correctly)."""
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
            continue  # points and lines do not enclose a region
        if number in rois:
            _require_frame_of_reference(str(rois[number].get("ReferencedFrameOfReferenceUID", "")), geometry)
        region, problems = _filled([np.asarray(c.ContourData, float).reshape(-1, 3) for c in contours], geometry)
        remarks += [f"region {name!r}: {problem}" for problem in problems]
        regions[name] = region
    return regions


def _filled(contours: list[np.ndarray], geometry: Geometry) -> tuple[np.ndarray, list[str]]:
    """Return a region (slices, rows, columns) bool, and which of its contours were left out, cut or moved.

    Args:
        contours: (points, 3) in mm each.
        geometry: Geometry of the series.
    """
    region = np.zeros(geometry.shape, bool)
    counts: Counter[str] = Counter()
    # 1. Each contour goes to the slice that contains it; of several planes at one slice, the nearest is used.
    placed: dict[int, dict[float, list[np.ndarray]]] = {}
    for points_mm in contours:
        problem, index, distance = _slice_of(points_mm, geometry)
        if problem:
            counts[problem] += 1
            continue
        placed.setdefault(index, {}).setdefault(distance, []).append(points_mm)
    # 2. Fill them.
    for index, planes in placed.items():
        nearest = min(planes, key=abs)
        if abs(nearest) > geometry.tolerance_mm:
            counts[MOVED] += len(planes[nearest])
        counts[DOUBLE] += sum(len(group) for distance, group in planes.items() if distance != nearest)
        for points_mm in planes[nearest]:
            offset = (points_mm - geometry.origins_mm[index]) @ geometry.directions[1:].T / geometry.spacing_mm
            beyond = np.maximum(-1 - offset, offset - geometry.shape[1:]).max()  # contours may run along the outer edge
            if beyond > 0:
                counts[CUT] += 1
            region[index] ^= polygon2mask(geometry.shape[1:], offset)
    problems = [f"{count} of {len(contours)} contours {problem}" for problem, count in counts.items() if count]
    return region, problems


def _slice_of(points_mm: np.ndarray, geometry: Geometry) -> tuple[str, int, float]:
    """Return why a contour is on no slice, "" if it is on one; the slice's index, and the contour's height above it in mm."""
    if points_mm.size == 0 or not (np.abs(points_mm) < FARTHEST_MM).all():
        return "left out: coordinates that are missing, NaN, infinite or beyond any scanner", -1, 0.0
    heights = points_mm @ geometry.directions[0]
    if np.ptp(heights) > 2 * geometry.tolerance_mm:
        return "left out: not in the plane of the slices", -1, 0.0
    height, positions = float(heights.mean()), geometry.positions_mm
    index = int(np.abs(positions - height).argmin())
    distance = float(height - positions[index])
    steps = np.diff(positions)
    half = (geometry.thickness_mm or (float(np.median(steps)) if len(steps) else 0.0)) / 2
    if abs(distance) > max(half, geometry.tolerance_mm):
        where = "between slices" if positions[0] < height < positions[-1] else "beyond the image series"
        return f"left out: {where}, farther from any than half a slice's thickness", -1, 0.0
    return "", index, round(distance / geometry.tolerance_mm) * geometry.tolerance_mm


def _require_frame_of_reference(uid: str, geometry: Geometry) -> None:
    if uid and geometry.frames_of_reference and uid not in geometry.frames_of_reference:
        known = ", ".join(sorted(geometry.frames_of_reference))
        raise ValueError(
            f"belongs to another scan: its frame of reference must be that of the image series, {known}, got {uid}\n"
            f"  series: {geometry}"
        )


def _unique_names(numbers: list[int], names: list[str]) -> list[str]:
    """Return the names, with their number where several share one or have none."""
    return [n if n and names.count(n) == 1 else f"{n} #{i}".strip() for i, n in zip(numbers, names)]
