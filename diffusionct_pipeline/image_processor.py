"""Convert between Hounsfield units and tensors in model range, for arrays, tensors and DICOM; no other module does."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydicom.dataset import Dataset

from .dicom import CTSlice, kernel_name, read_series, read_slice
from .dicom.headers import LEGAL_RANGES, header_texts, header_value
from .dicom.hounsfield import OUTSIDE_FIELD_OF_VIEW_HU
from .dicom.plausible import ValueRange, lacks_air, lacks_air_remark, narrow_remark, spectral_remark
from .dicom.reading import SQUARE_TOLERANCE
from .physics.scan_noise import scan_position
from .utils.padding import beyond_circle, extend_into_padding, pad_odd_reflect
from .volumes import CTVolume, is_volume, read_volume
from .volumes.itk import ITKVolume, is_itk_image

logger = logging.getLogger(__name__)

HU_CENTRE, HU_SCALE = -150.0, 500.0  # lung -850 -> -1.4, soft tissue 40 -> 0.4, bone 1000 -> 2.3: variance of about 1
# Range of the models' input, as in training. Signed files hold noise well below vacuum, which belongs to the texture of air
# and lung: clipping at -1024 changed 11 % of the pixels of a sharp slice of a real pair and lowered its CCC from .88 to .83.
LOWEST_SEEN_HU, HIGHEST_SEEN_HU = OUTSIDE_FIELD_OF_VIEW_HU, 3071.0
HIGHEST_AIR_HU = -900.0  # highest air value that files hold outside the circle of reconstruction
UNMEASURED_HU = -1024.0  # air, in place of pixels without a measurement
LEGAL_HU = (-32768.0, 65535.0)  # the range of 16 stored bits at slope 1: anything else is not CT
LEGAL_SPACING_MM = LEGAL_RANGES["PixelSpacing"][:2]
GRID = 32  # the encoder halves five times
PREVIEW_WINDOW_HU = (-1350.0, 150.0)  # the usual lung window: centre -600, width 1500

# What the pipeline accepts as a slice or a series, and as several; `KINDS` is the list in words. SimpleITK images are accepted,
# too, but SimpleITK is optional.
ImageSource = str | os.PathLike | Dataset | CTVolume | np.ndarray | torch.Tensor
ImageInput = ImageSource | Sequence[ImageSource]
KINDS = "a path, Dataset, folder with one series, CTVolume, SimpleITK image, HU array or tensor (H, W) or (N, H, W), or a list of these"


def to_model(hu: torch.Tensor) -> torch.Tensor:
    """Convert Hounsfield units to model range; any shape, not clipped."""
    return (hu - HU_CENTRE) / HU_SCALE


def to_hu(sample: torch.Tensor) -> torch.Tensor:
    """Convert model range to Hounsfield units, the inverse of `to_model`."""
    return sample * HU_SCALE + HU_CENTRE


@dataclass(frozen=True, eq=False)
class HUSlice:
    """Hold one slice of the input.

    Attributes:
        hu: float32 array (H, W) in HU, not clipped.
        spacing_mm: Side of a pixel in mm.
        padding: bool array (H, W), True where the scanner measured nothing.
        kind: "np", "pt", "dicom" or "volume": what "auto" returns.
        source: The DICOM slice; None for other kinds.
        volume: The volume of the slice, the same object for all its slices; None for other kinds.
        device: The device of a tensor; None for other kinds.
        position_mm: Position along the normal of the slices, as in `scan_position`; 0 where it is not known.
        thickness_mm: Slice thickness; None where it is not known.
        series_uid: Identifies the scan; "" for arrays and tensors where it is not known.
    """

    hu: np.ndarray
    spacing_mm: float
    padding: np.ndarray
    kind: str
    source: CTSlice | None = None
    volume: CTVolume | None = None
    device: torch.device | None = None
    position_mm: float = 0.0
    thickness_mm: float | None = None
    series_uid: str = ""

    @property
    def ct_slice(self) -> CTSlice:
        """Return the DICOM slice, for a slice that is one."""
        assert self.source is not None
        return self.source

    @property
    def file(self) -> Path:
        """Return the file of a DICOM slice that was read from one."""
        assert self.ct_slice.path is not None
        return self.ct_slice.path

    @property
    def kernel(self) -> str:
        """Return the name of the reconstruction kernel, "" where it is unknown."""
        return "" if self.source is None else kernel_name(self.source.dataset, self.source.name)


class CTImageProcessor:
    """Load slices of any accepted kind, and convert them to model range on a padded grid and back."""

    def load(
        self,
        image: ImageInput,
        pixel_spacing: float | tuple[float, float] | None = None,
        argument: str = "image",
        judge: bool = True,
    ) -> list[HUSlice]:
        """Read every slice of `image`.

        Args:
            image: Path of a DICOM, NIfTI or NRRD file or of a folder with exactly one DICOM series, pydicom `Dataset`,
                `CTVolume`, SimpleITK image, HU array or tensor of shape (H, W) or (N, H, W) and any integer or float type,
                or a list of these.
            pixel_spacing: mm, a float or (row, column); required for arrays and tensors, and only for these.
            argument: Name of the argument that `image` came from, for error messages.
            judge: Whether to refuse values that cannot be Hounsfield units, and to log `doubts`.

        Returns:
            A list of `HUSlice`, those of a folder or volume sorted by position.

        Raises:
            ValueError, FileNotFoundError, TypeError: naming the argument, the value received and what is allowed.
            DicomError, VolumeError: naming the file and the reason.
        """
        spacing_name = "pixel_spacing" if argument == "image" else f"{argument}_pixel_spacing"
        spacing_mm = None if pixel_spacing is None else square_spacing(pixel_spacing, spacing_name)
        slices = self._load(image, spacing_mm, argument, spacing_name)
        if not slices:
            raise ValueError(f"`{argument}` must be {KINDS}, got nothing.")
        if spacing_mm is not None and all(item.kind in ("dicom", "volume") for item in slices):
            raise ValueError(
                f"`{spacing_name}` must be None for DICOM and volumes, which have a spacing of their own, got {pixel_spacing}."
            )
        if judge:
            values = ValueRange()
            for item in slices:
                values.add(item.hu, item.padding)
            if values.problem:
                raise ValueError(f"`{argument}` {values.problem}")
            for remark in doubts(slices, f"`{argument}`"):
                logger.warning("%s", remark)
        return slices

    def _load(self, image: ImageInput, spacing_mm: float | None, argument: str, spacing_name: str) -> list[HUSlice]:
        if isinstance(image, (list, tuple)):
            return [loaded for item in image for loaded in self._load(item, spacing_mm, argument, spacing_name)]
        if isinstance(image, (str, os.PathLike)):
            path = Path(image)
            if not path.exists():
                raise FileNotFoundError(f'`{argument}` must be an existing path, got "{path}".')
            if is_volume(path) and not path.is_dir():
                return from_volume(read_volume(path))
            return [from_dicom(source) for source in (read_series(path) if path.is_dir() else [read_slice(path)])]
        if isinstance(image, Dataset):
            return [from_dicom(read_slice(image))]
        if is_itk_image(image):
            return from_volume(ITKVolume.of(image))
        if isinstance(image, CTVolume):
            return from_volume(image)
        if not isinstance(image, (np.ndarray, torch.Tensor)):
            raise TypeError(f"`{argument}` must be {KINDS}, got {type(image).__name__}.")
        if spacing_mm is None:
            raise ValueError(
                f"`{spacing_name}` must be a float or (row, column) in mm for arrays and tensors, got None."
            )
        stack = hu_stack(image, argument)  # [N,H,W]
        kind, device = ("pt", image.device) if isinstance(image, torch.Tensor) else ("np", None)
        return [HUSlice(hu, spacing_mm, unmeasured(hu), kind, device=device) for hu in stack]

    def place(
        self,
        slices: list[HUSlice],
        positions_mm: Sequence[float] | None = None,
        thickness_mm: float | None = None,
        series_uid: str | None = None,
    ) -> list[HUSlice]:
        """Set the position, thickness and scan of arrays, tensors and volumes; DICOM has its own.

        Raises:
            ValueError: if any is given for DICOM, the number of positions is not that of the slices, or a value is not a
                number in mm.
        """
        if positions_mm is None and thickness_mm is None and series_uid is None:
            return slices
        if any(item.kind == "dicom" for item in slices):
            raise ValueError(
                "`slice_positions`, `slice_thickness` and `series_uid` must be None for DICOM, which has its own."
            )
        if thickness_mm is not None and not 0 < thickness_mm < math.inf:
            raise ValueError(f"`slice_thickness` must be above 0 mm, got {thickness_mm}.")
        positions_mm = [float(z) for z in ([i.position_mm for i in slices] if positions_mm is None else positions_mm)]
        if len(positions_mm) != len(slices) or not np.isfinite(positions_mm).all():
            expected = f"one finite value in mm for each of {len(slices)} slices"
            raise ValueError(f"`slice_positions` must hold {expected}, got {positions_mm}.")
        return [
            replace(
                item,
                position_mm=scan_position(z),
                thickness_mm=item.thickness_mm if thickness_mm is None else thickness_mm,
                series_uid=item.series_uid if series_uid is None else str(series_uid),
            )
            for item, z in zip(slices, positions_mm)
        ]

    def preprocess(
        self, slices: Sequence[HUSlice], device: torch.device | str = "cpu"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Convert slices of one size to model range on a grid of multiples of 32, extended to the right and bottom.

        Values are clipped to -1500..3071 HU. Where nothing was measured, the slice is extended and fades into air.

        Returns:
            (B, 1, H', W') float32 tensor in model range and (B,) float32 tensor of pixel spacings in mm.
        """
        filled = [extend_into_padding(item.hu, item.padding, UNMEASURED_HU) for item in slices]
        hu = torch.from_numpy(np.stack(filled))[:, None]  # [B,1,H,W]
        sample = to_model(hu.clamp(LOWEST_SEEN_HU, HIGHEST_SEEN_HU))
        bottom, right = (-size % GRID for size in hu.shape[-2:])
        sample = pad_odd_reflect(sample, 0, right, 0, bottom)  # [B,1,H',W']
        spacing_mm = torch.tensor([item.spacing_mm for item in slices], dtype=torch.float32)
        return sample.to(device), spacing_mm.to(device)

    def postprocess(self, sample: torch.Tensor, slices: Sequence[HUSlice]) -> list[np.ndarray]:
        """Convert model range to HU on the original grid.

        Values beyond -1500..3071 HU (metal), which were clipped for the models, keep their excess: output = model + (input -
        clipped input). Padding keeps its value.

        Args:
            sample: (B, 1, H', W') tensor in model range.
            slices: The B slices that `preprocess` was given.

        Returns:
            A list of B float32 arrays (H, W) in HU, not clipped.
        """
        height, width = slices[0].hu.shape
        model_hu = to_hu(sample[:, 0, :height, :width].float().cpu()).numpy()
        excess = [item.hu - item.hu.clip(LOWEST_SEEN_HU, HIGHEST_SEEN_HU) for item in slices]
        return [np.where(item.padding, item.hu, hu + more) for item, hu, more in zip(slices, model_hu, excess)]

    def to_kind(self, hu: np.ndarray, given: HUSlice, kind: str) -> np.ndarray | torch.Tensor | Image.Image:
        """Convert an HU array (H, W) to "pt", on the device of the input slice, or "pil"; "np" is returned as it is."""
        if kind == "pt":
            return torch.from_numpy(hu).to(given.device or "cpu")
        return preview(hu) if kind == "pil" else hu


def doubts(slices: Sequence[HUSlice], name: str) -> list[str]:
    """Return what makes results of slices doubtful, one sentence each, in which the slices are called `name`."""
    remarks = [narrow_remark(name, min(item.spacing_mm * min(item.hu.shape) for item in slices))]
    if all(lacks_air(item.hu, item.padding) for item in slices):
        remarks.append(lacks_air_remark(name))
    headers = [item.source for item in slices if item.source is not None]
    spectral = (
        spectral_remark(name, header_texts(header.dataset, "ImageType", header.name), description_of(header))
        for header in headers
    )
    remarks.append(next(filter(None, spectral), ""))
    files = {item.volume.header.path: item.volume.header for item in slices if item.volume and item.volume.header}
    remarks += [f'"{path}" {header.fields.doubt}' for path, header in files.items() if header.fields.doubt]
    return [remark for remark in remarks if remark]


def description_of(source: CTSlice) -> str:
    """Return the SeriesDescription of a slice, "" where there is none."""
    return str(header_value(source.dataset, "SeriesDescription", source.name) or "")


def hu_with_air_padding(item: HUSlice | CTSlice) -> np.ndarray:
    """Return the float32 HU (H, W) of a slice, with air where nothing was measured."""
    return np.where(item.padding, np.float32(UNMEASURED_HU), item.hu)


def unmeasured(hu: np.ndarray) -> np.ndarray:
    """Return where nothing was measured, (H, W) bool, as far as the HU show it."""
    return (hu < OUTSIDE_FIELD_OF_VIEW_HU) | beyond_circle(hu, HIGHEST_AIR_HU)


def from_dicom(source: CTSlice) -> HUSlice:
    """Convert a `CTSlice` to an `HUSlice`."""
    return HUSlice(
        hu=check_hu(source.hu, source.name),
        spacing_mm=square_spacing(source.spacing_mm, "PixelSpacing"),
        padding=source.padding | unmeasured(source.hu),
        kind="dicom",
        source=source,
        position_mm=scan_position(source.position_mm) if math.isfinite(source.position_mm) else 0.0,
        thickness_mm=source.thickness_mm if source.thickness_mm and source.thickness_mm > 0 else None,
        series_uid=source.series_uid,
    )


def from_volume(volume: CTVolume) -> list[HUSlice]:
    """Return the slices of a volume from feet to head; their thickness is the distance between them."""
    name = "The given volume" if volume.header is None else f'"{volume.header.path}"'
    volume = replace(volume)  # a separate object for each time that it is given
    return [volume_slice(volume, index, name) for index in range(len(volume))]


def volume_slice(volume: CTVolume, index: int, name: str) -> HUSlice:
    """Return one slice of a volume, which is called `name` in messages."""
    hu = check_hu(volume.slice_hu(index), name)
    return HUSlice(
        hu=hu,
        spacing_mm=volume.grid.spacing_mm,
        padding=unmeasured(hu),
        kind="volume",
        volume=volume,
        position_mm=scan_position(volume.grid.position_mm(index)),
        thickness_mm=scan_position(volume.grid.step_mm),
        series_uid=volume.uid,
    )


def square_spacing(pixel_spacing: float | tuple[float, float], argument: str) -> float:
    """Return a float or (row, column) in mm as a float in mm.

    Raises:
        ValueError: if it is not a number, not square or outside `LEGAL_SPACING_MM`.
    """
    try:
        values = np.asarray(pixel_spacing, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.size not in (1, 2) or not np.isfinite(values).all():
        raise ValueError(f"`{argument}` must be a float or (row, column) in mm, got {pixel_spacing!r}.")
    low, high = LEGAL_SPACING_MM
    if not all(low <= value <= high for value in values):
        raise ValueError(f"`{argument}` must be between {low} and {high} mm, got {pixel_spacing}.")
    if not math.isclose(values[0], values[-1], rel_tol=SQUARE_TOLERANCE):
        raise ValueError(
            f"`{argument}` must be that of square pixels, got {tuple(values.tolist())} mm. Resample the series first."
        )
    return float(values[0])


def hu_stack(image: np.ndarray | torch.Tensor, argument: str) -> np.ndarray:
    """Copy an array or tensor (H, W) or (N, H, W) to a float32 array (N, H, W).

    Raises:
        ValueError: for a wrong type, shape or value.
    """
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # numpy has no bfloat16
    array = np.asarray(image)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"`{argument}` must hold integers or floats, in HU, got {array.dtype}.")
    if array.ndim not in (2, 3) or 0 in array.shape or min(array.shape[-2:]) < GRID:
        raise ValueError(
            f"`{argument}` must have shape (H, W) or (N, H, W), H and W of at least {GRID} pixels, got {array.shape}."
        )
    return check_hu(array.astype(np.float32), f"`{argument}`").reshape(-1, *array.shape[-2:])


def check_hu(hu: np.ndarray, name: str) -> np.ndarray:
    """Return `hu`, or raise ValueError if it cannot be a CT slice in Hounsfield units."""
    if min(hu.shape[-2:]) < GRID:
        raise ValueError(f"{name} must have at least {GRID} x {GRID} pixels, got {hu.shape[-2]} x {hu.shape[-1]}.")
    bad = np.count_nonzero(~np.isfinite(hu))
    if bad:
        raise ValueError(f"{name} must hold finite Hounsfield units, got {bad} values that are NaN or infinite.")
    low, high = LEGAL_HU
    if hu.min() < low or hu.max() > high:
        raise ValueError(f"{name} must hold {low:g} to {high:g} HU, got {hu.min():g} to {hu.max():g}.")
    return hu


def preview(hu: np.ndarray, window_hu: tuple[float, float] = PREVIEW_WINDOW_HU) -> Image.Image:
    """Render HU (H, W) as an 8-bit grey PIL image through a fixed window (low, high); for viewing, not for measuring."""
    low, high = window_hu
    grey = (np.clip((hu - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    return Image.fromarray(grey)
