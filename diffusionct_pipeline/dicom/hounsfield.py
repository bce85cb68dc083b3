"""Stored pixel cells <-> Hounsfield units (DICOM PS3.3 sections C.7.6.3.1, C.7.5.1.1.2 and C.11.1).

cell    what the file holds: BitsAllocated (16) bits, of which BitsStored count
stored  the number those bits mean, signed or unsigned as PixelRepresentation says
HU      stored * RescaleSlope + RescaleIntercept
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from .decoding import decode
from .errors import DicomError, SkippedKind
from .headers import header_numbers, header_value

UNCOMPRESSED = (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

PIXEL_VRS = ("OB", "OW", "OB or OW", "UN")

# Scanners that declare no PixelPaddingValue still fill what lies outside the field of view with a constant (Canon:
# -2048 HU). Air is -1000 HU, and even the noise of a sharp kernel on it stays far above this.
OUTSIDE_FIELD_OF_VIEW_HU = -1500.0


@dataclass(frozen=True)
class PixelFormat:
    """How a CT image stores Hounsfield units.

    Attributes:
        slope, intercept: HU = stored * slope + intercept; both finite, slope not 0.
        bits_stored: Significant bits of the 16-bit cell, 1 to 16.
        signed: Whether stored values are two's complement.
        high_bit: Position of the most significant stored bit; None for bits_stored - 1, as in every file of today.
        padding_cells: Lowest and highest 16-bit cell (as signed or unsigned number) that means "no measurement",
            both included; None where the image declares no padding value.
    """

    slope: float = 1.0
    intercept: float = -1024.0
    bits_stored: int = 16
    signed: bool = True
    high_bit: int | None = None
    padding_cells: tuple[int, int] | None = None

    @property
    def top_bit(self) -> int:
        """Position of the most significant stored bit, 0 to 15."""
        return self.bits_stored - 1 if self.high_bit is None else self.high_bit

    @property
    def stored_range(self) -> tuple[int, int]:
        """Lowest and highest stored value."""
        if self.signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1

    @property
    def hu_range(self) -> tuple[float, float]:
        """Lowest and highest HU that the format can hold."""
        ends = [stored * self.slope + self.intercept for stored in self.stored_range]
        return min(ends), max(ends)

    @property
    def dtype(self) -> np.dtype:
        """Little-endian type of a cell."""
        return np.dtype("<i2" if self.signed else "<u2")


def pixel_format(dataset: Dataset, name: str) -> PixelFormat:
    """Read how the pixels are stored from the header.

    Raises:
        DicomError: No rescale to Hounsfield units, colour, inverted grey, or a cell that is not 16 bits wide.
    """
    # 1. One grey channel, bright = dense.
    photometric = header_value(dataset, "PhotometricInterpretation", name)
    samples = header_numbers(dataset, "SamplesPerPixel", name, 1)
    if photometric is None and samples is None and "Rows" not in dataset:
        raise DicomError(f"{name} does not describe any pixels: its header is truncated, or it is not an image.")
    if photometric != "MONOCHROME2" or samples != (1.0,):
        raise DicomError(
            f"{name} has photometric interpretation {photometric or 'none'} with {int(samples[0]) if samples else 'no'}"
            " sample(s) per pixel; only MONOCHROME2 with 1 is a CT slice."
        )
    # 2. 16-bit cells, of which BitsStored count.
    layout = {}
    for keyword, legal in {
        "Rows": range(1, 8193),  # four times the largest matrix of a scanner: what decoding may take has an end
        "Columns": range(1, 8193),
        "BitsAllocated": (16,),
        "BitsStored": range(1, 17),
        "PixelRepresentation": (0, 1),
    }.items():
        number = header_numbers(dataset, keyword, name, 1)
        if number is None or number[0] not in legal:
            found = "no value" if number is None else f"{number[0]:g}"
            wanted = f"{legal[0]} to {legal[-1]}" if len(legal) > 2 else " or ".join(map(str, legal))
            raise DicomError(f"{name} has {found} for {keyword}; expected {wanted}.")
        layout[keyword] = int(number[0])
    bits, signed = layout["BitsStored"], layout["PixelRepresentation"] == 1
    high_bit = header_numbers(dataset, "HighBit", name, 1)
    high_bit = bits - 1 if high_bit is None else int(high_bit[0])
    if not bits - 1 <= high_bit <= 15:
        raise DicomError(f"{name} has HighBit {high_bit} with BitsStored {bits}; expected {bits - 1} to 15.")
    # 3. Hounsfield units.
    slope = header_numbers(dataset, "RescaleSlope", name, 1)
    intercept = header_numbers(dataset, "RescaleIntercept", name, 1)
    if slope is None or intercept is None:
        raise DicomError(f"{name} has no rescale slope and intercept; its values cannot be turned into HU.")
    if abs(slope[0]) < 1e-3:  # 16 bits would span 65 HU
        raise DicomError(f"{name} has RescaleSlope {slope[0]:g}; every pixel would have nearly the same HU.")
    unit = str(header_value(dataset, "RescaleType", name) or "HU")
    if unit != "HU":
        raise DicomError(f"{name} has RescaleType {unit!r}; only Hounsfield units (HU) are supported.")
    # 4. Padding. Its type is that of the pixels, but files exist that write the cell -2000 as unsigned 63536.
    padding = header_numbers(dataset, "PixelPaddingValue", name, 1)
    cells = None
    if padding is not None:
        limit = header_numbers(dataset, "PixelPaddingRangeLimit", name, 1) or padding
        cells = tuple(sorted(_as_cell(int(number), signed) for number in (padding[0], limit[0])))
    return PixelFormat(slope[0], intercept[0], bits, signed, high_bit, cells)


def read_cells(dataset: Dataset, name: str) -> np.ndarray:
    """Decode the pixel data without interpreting it.

    Returns:
        (Rows, Columns) int16 or uint16 cells, decompressed where needed.

    Raises:
        DicomError: No pixel data, a missing decoder, or data that are truncated or damaged.
    """
    if "PixelData" not in dataset:
        raise DicomError(f"{name} has no pixel data; the file is truncated or holds only a header.")
    if dataset["PixelData"].VR not in PIXEL_VRS:  # where it begins depends on it
        raise DicomError(f"{name} is damaged: its pixel data have VR {dataset['PixelData'].VR!r}.")
    syntax = dataset.file_meta.TransferSyntaxUID
    compressed = syntax not in UNCOMPRESSED
    if compressed:
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError as error:
            raise DicomError(f"{name} is stored as {syntax.name}, which is not supported.") from error
        if not decoder.is_available:
            raise DicomError(
                f"{name} is compressed ({syntax.name}) and no decoder for it is installed. "
                'Install one: pip install ".[dicom]" in the folder of the source'
            )
    else:
        expected = 2 * int(dataset.Rows) * int(dataset.Columns)
        if len(dataset.PixelData) < expected:
            raise DicomError(f"{name} is truncated: {len(dataset.PixelData)} of {expected} bytes of pixel data.")
        excess = dataset.PixelData[expected:]
        if len(set(excess)) > 1:  # padding is the same byte over and over; else these are pixels
            raise DicomError(
                f"{name} has {len(dataset.PixelData)} bytes of pixel data; {dataset.Rows} x "
                f"{dataset.Columns} pixels take {expected}: its Rows or Columns are wrong."
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of excess padding, which old files have and readers ignore (PS3.5 8.1.1)
            cells = decode(dataset) if compressed else pixel_array(dataset, raw=True, correct_unused_bits=False)
    except ChildProcessError as error:
        raise DicomError(f"{name} is compressed ({syntax.name}), and {error}", SkippedKind.UNREADABLE) from error
    except MemoryError:
        raise
    except Exception as error:  # each decoder has its own exceptions
        reason = " ".join(str(error).split())
        raise DicomError(
            f"{name} has pixel data that no installed decoder reads: damaged, truncated or of a rare kind "
            f"of {syntax.name}. {reason}"
        ) from error
    if cells.shape != (int(dataset.Rows), int(dataset.Columns)):
        raise DicomError(f"{name} decodes to shape {cells.shape}, not to {(int(dataset.Rows), int(dataset.Columns))}.")
    if compressed:
        _require_fit(cells, dataset, name)
    return cells


def _require_fit(cells: np.ndarray, dataset: Dataset, name: str) -> None:
    """Refuse decoded values that BitsStored cannot hold: no encoder was given them.

    Cells of RLE may hold anything above BitsStored, and the declared padding may lie there; so may the sign.
    """
    pixels = pixel_format(dataset, name)
    if dataset.file_meta.TransferSyntaxUID == RLELossless or pixels.top_bit == 15:
        return
    above = cells.astype(np.int16) >> (pixels.top_bit + 1)
    beyond = (above != 0) & (above != -1)
    if pixels.padding_cells is not None:
        low, high = pixels.padding_cells
        beyond &= (cells < low) | (cells > high)
    if beyond.any():
        raise DicomError(
            f"{name} decodes to values beyond its {pixels.bits_stored} bits in {int(beyond.sum())} pixels: its "
            "pixel data are damaged, or its BitsStored is wrong."
        )


def cells_to_hu(cells: np.ndarray, pixels: PixelFormat) -> tuple[np.ndarray, np.ndarray]:
    """Convert cells to Hounsfield units.

    Returns:
        HU, float32, and the padding mask, bool, both of the shape of `cells`. Padding is what the header declares as
        such and whatever lies below `OUTSIDE_FIELD_OF_VIEW_HU`; its HU are computed like all others (-3024, say).
    """
    # 1. Cells -> stored values: push the most significant stored bit to the top, then back with or without the sign.
    cells = cells.astype(np.int16 if pixels.signed else np.uint16)
    stored = np.right_shift(np.left_shift(cells, 15 - pixels.top_bit), 16 - pixels.bits_stored)
    # 2. Stored values -> HU, in double precision: 16 bits times a slope such as 0.1 is not exact in single.
    hu = (stored.astype(np.float64) * pixels.slope + pixels.intercept).astype(np.float32)
    # 3. Padding. The value may use bits above BitsStored, therefore both readings of the cell are compared.
    padding = hu < OUTSIDE_FIELD_OF_VIEW_HU
    if pixels.padding_cells is not None:
        low, high = pixels.padding_cells
        padding |= ((cells >= low) & (cells <= high)) | ((stored >= low) & (stored <= high))
    return hu, padding


def hu_to_cells(
    hu: np.ndarray, pixels: PixelFormat, padding: np.ndarray | None = None, padding_cells: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Round Hounsfield units to what the format can hold; the inverse of `cells_to_hu`.

    Args:
        hu: (H, W) finite HU.
        pixels: The format to write.
        padding: (H, W) bool, pixels that hold no measurement; None for none. Their HU are not looked at.
        padding_cells: (H, W) cells to put where `padding` is True, usually those of the source, of which only the stored
            bits are kept: what lies above or below them, such as a name burned into an overlay, is no measurement.

    Returns:
        (H, W) cells of `pixels.dtype`, and how many pixels outside the padding lay beyond `pixels.hu_range` and were
        clipped. A measured pixel that would collide with the declared padding values takes the nearest other value.

    Raises:
        ValueError: `hu` is not finite outside the padding.
    """
    hu = np.asarray(hu, dtype=np.float64)
    measured = np.ones(hu.shape, dtype=bool) if padding is None else ~padding
    if not np.isfinite(hu[measured]).all():
        raise ValueError(f"hu has {int((~np.isfinite(hu[measured])).sum())} values that are NaN or infinite.")
    # 1. HU -> stored values, clipped to their range.
    low, high = pixels.stored_range
    exact = np.where(measured, (np.where(measured, hu, 0.0) - pixels.intercept) / pixels.slope, 0.0)
    stored = np.clip(np.rint(exact), low, high)
    clipped = int((measured & (np.rint(exact) != stored)).sum())
    # 2. A measured pixel must not read as padding.
    if pixels.padding_cells is not None:
        stored = _avoid(stored, exact, *pixels.padding_cells, low, high)
    cells = stored.astype(np.int64)
    cells = (cells << (pixels.top_bit + 1 - pixels.bits_stored)).astype(np.uint16).astype(pixels.dtype)
    # 3. Padding stays what it was.
    if padding is not None and padding.any():
        if padding_cells is None:
            raise ValueError("padding is given without padding_cells: say what to store there.")
        cells = np.where(padding, _bare(padding_cells, pixels), cells).astype(pixels.dtype)
    return cells, clipped


def _bare(cells: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Cells of padding without the bits that are not stored; where these say that it is padding, the declared value."""
    unused = 15 - pixels.top_bit, 16 - pixels.bits_stored
    cells = cells.astype(pixels.dtype)
    stored = np.right_shift(np.left_shift(cells, unused[0]), unused[1])
    bare = np.left_shift(stored, pixels.top_bit + 1 - pixels.bits_stored)
    if pixels.padding_cells is None:
        return bare
    low, high = pixels.padding_cells
    is_declared = (cells >= low) & (cells <= high)
    is_kept = ((bare >= low) & (bare <= high)) | ((stored >= low) & (stored <= high))
    return np.where(is_declared & ~is_kept, low, bare)


def _as_cell(number: int, signed: bool) -> int:
    """The number that 16 bits mean when read with the signedness of the pixels."""
    number &= 0xFFFF
    return number - 0x10000 if signed and number >= 0x8000 else number


def _avoid(stored: np.ndarray, exact: np.ndarray, first: int, last: int, low: int, high: int) -> np.ndarray:
    """Move values in [first, last] to the nearest legal value outside it, within [low, high]."""
    below, above = first - 1, last + 1
    if below < low and above > high:
        raise ValueError(f"padding values {first} to {last} leave no value for a measurement in {low} to {high}.")
    nearest = np.where((above > high) | ((below >= low) & (exact - below < above - exact)), below, above)
    return np.where((stored >= first) & (stored <= last), nearest, stored)
