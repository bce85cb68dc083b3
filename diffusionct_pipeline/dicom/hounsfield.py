"""Convert between stored pixel cells and Hounsfield units (DICOM PS3.3 sections C.7.6.3.1, C.7.5.1.1.2 and C.11.1).

cell    content of the file: BitsAllocated (16) bits, of which BitsStored are used
stored  the number that those bits represent, signed or unsigned by PixelRepresentation
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

# Scanners that declare no PixelPaddingValue still fill the outside of the field of view with a constant (Canon: -2048 HU).
# Air is -1000 HU, and even the noise of a sharp kernel in air stays far above this value.
OUTSIDE_FIELD_OF_VIEW_HU = -1500.0


@dataclass(frozen=True)
class PixelFormat:
    """Describe how a CT image stores Hounsfield units.

    Attributes:
        slope, intercept: HU = stored * slope + intercept; both finite, slope not 0.
        bits_stored: Number of significant bits of the 16-bit cell, 1 to 16.
        signed: Whether stored values are two's complement.
        high_bit: Position of the most significant stored bit; None for bits_stored - 1, as in every file today.
        padding_cells: Lowest and highest 16-bit cell (as signed or unsigned number) that means "no measurement",
            inclusive; None where the image declares no padding value.
    """

    slope: float = 1.0
    intercept: float = -1024.0
    bits_stored: int = 16
    signed: bool = True
    high_bit: int | None = None
    padding_cells: tuple[int, int] | None = None

    @property
    def top_bit(self) -> int:
        """Return the position of the most significant stored bit, 0 to 15."""
        return self.bits_stored - 1 if self.high_bit is None else self.high_bit

    @property
    def stored_range(self) -> tuple[int, int]:
        """Return the lowest and highest stored value."""
        if self.signed:
            return -(1 << self.bits_stored - 1), (1 << self.bits_stored - 1) - 1
        return 0, (1 << self.bits_stored) - 1

    @property
    def hu_range(self) -> tuple[float, float]:
        """Return the lowest and highest HU that the format can hold."""
        ends = [stored * self.slope + self.intercept for stored in self.stored_range]
        return min(ends), max(ends)

    @property
    def dtype(self) -> np.dtype:
        """Return the little-endian type of a cell."""
        return np.dtype("<i2" if self.signed else "<u2")


def pixel_format(dataset: Dataset, name: str) -> PixelFormat:
    """Read from the header how the pixels are stored.

    Raises:
        DicomError: if there is no rescale to Hounsfield units, or for colour, inverted grey, or cells that are not 16 bits wide.
    """
    # 1. One grey channel, bright = dense.
    photometric = header_value(dataset, "PhotometricInterpretation", name)
    samples = header_numbers(dataset, "SamplesPerPixel", name, 1)
    if photometric is None and samples is None and "Rows" not in dataset:
        raise DicomError(f"{name} does not describe any pixels: its header is truncated, or it is not an image.")
    if photometric != "MONOCHROME2" or samples != (1.0,):
        raise DicomError(
            f"{name} must have the photometric interpretation MONOCHROME2 with 1 sample per pixel to be a CT slice, got "
            f"{photometric or 'none'} with {int(samples[0]) if samples else 'no'}."
        )
    # 2. 16-bit cells, of which BitsStored are used.
    layout = {}
    for keyword, allowed in {
        "Rows": range(1, 8193),  # four times the largest matrix of a scanner, which limits what decoding may take
        "Columns": range(1, 8193),
        "BitsAllocated": (16,),
        "BitsStored": range(1, 17),
        "PixelRepresentation": (0, 1),
    }.items():
        number = header_numbers(dataset, keyword, name, 1)
        if number is None or number[0] not in allowed:
            found = "no value" if number is None else f"{number[0]:g}"
            wanted = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 2 else " or ".join(map(str, allowed))
            raise DicomError(f"{name} must have a value of {wanted} for {keyword}, got {found}.")
        layout[keyword] = int(number[0])
    bits, signed = layout["BitsStored"], layout["PixelRepresentation"] == 1
    declared = header_numbers(dataset, "HighBit", name, 1)
    high_bit = bits - 1 if declared is None else int(declared[0])
    if not bits - 1 <= high_bit <= 15:
        raise DicomError(f"{name} must have a HighBit of {bits - 1} to 15 with BitsStored {bits}, got {high_bit}.")
    # 3. Hounsfield units.
    slope = header_numbers(dataset, "RescaleSlope", name, 1)
    intercept = header_numbers(dataset, "RescaleIntercept", name, 1)
    if slope is None or intercept is None:
        raise DicomError(f"{name} has no rescale slope and intercept; its values cannot be converted to HU.")
    if abs(slope[0]) < 1e-3:  # 16 bits would span 65 HU
        raise DicomError(f"{name} has RescaleSlope {slope[0]:g}; every pixel would have nearly the same HU.")
    unit = str(header_value(dataset, "RescaleType", name) or "HU")
    if unit != "HU":
        raise DicomError(f"{name} must have the RescaleType HU (Hounsfield units), got {unit!r}.")
    # 4. Padding. Its type is that of the pixels, but some files write the cell -2000 as unsigned 63536.
    padding = header_numbers(dataset, "PixelPaddingValue", name, 1)
    cells: tuple[int, int] | None = None
    if padding is not None:
        limit = header_numbers(dataset, "PixelPaddingRangeLimit", name, 1) or padding
        first, last = sorted(_as_cell(int(number), signed) for number in (padding[0], limit[0]))
        cells = (first, last)
    return PixelFormat(slope[0], intercept[0], bits, signed, high_bit, cells)


def read_cells(dataset: Dataset, name: str) -> np.ndarray:
    """Decode the pixel data without interpreting it.

    Returns:
        (Rows, Columns) int16 or uint16 cells, decompressed where needed.

    Raises:
        DicomError: if there are no pixel data, no decoder for them, or they are truncated or damaged.
    """
    if "PixelData" not in dataset:
        raise DicomError(f"{name} has no pixel data; the file is truncated or holds only a header.")
    if dataset["PixelData"].VR not in PIXEL_VRS:  # on which the start of the value depends
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
        if len(set(excess)) > 1:  # padding repeats one byte; anything else is pixels
            raise DicomError(
                f"{name} has {len(dataset.PixelData)} bytes of pixel data; {dataset.Rows} x "
                f"{dataset.Columns} pixels take {expected}: its Rows or Columns are wrong."
            )
    try:
        with warnings.catch_warnings():
            # About excess padding, which old files have and readers ignore (PS3.5 8.1.1).
            warnings.simplefilter("ignore")
            cells = decode(dataset) if compressed else pixel_array(dataset, raw=True, correct_unused_bits=False)
    except ChildProcessError as error:
        raise DicomError(f"{name} is compressed ({syntax.name}), and {error}", SkippedKind.UNREADABLE) from error
    except MemoryError:
        raise
    except Exception as error:  # each decoder has its own exceptions
        reason = " ".join(str(error).split())
        raise DicomError(
            f"{name} has pixel data that no installed decoder reads: they are damaged, truncated or of a rare kind "
            f"of {syntax.name}. {reason}"
        ) from error
    if cells.shape != (int(dataset.Rows), int(dataset.Columns)):
        shape = (int(dataset.Rows), int(dataset.Columns))
        raise DicomError(f"{name} must decode to shape {shape}, got {cells.shape}.")
    if compressed:
        _require_fit(cells, dataset, name)
    return cells


def _require_fit(cells: np.ndarray, dataset: Dataset, name: str) -> None:
    """Refuse decoded values that BitsStored cannot hold: they cannot be what was encoded.

    RLE may encode anything above BitsStored; so may the declared padding and the sign.
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
        such and everything below `OUTSIDE_FIELD_OF_VIEW_HU`; its HU are computed like all others (-3024, for example).
    """
    # 1. Cells -> stored values: shift the most significant stored bit to the top, then back with or without the sign.
    cells = cells.astype(np.int16 if pixels.signed else np.uint16)
    stored = np.right_shift(np.left_shift(cells, 15 - pixels.top_bit), 16 - pixels.bits_stored)
    # 2. Stored values -> HU, in double precision: 16 bits times a slope such as 0.1 is not exact in single precision.
    hu = (stored.astype(np.float64) * pixels.slope + pixels.intercept).astype(np.float32)
    # 3. Padding. The value may use bits above BitsStored, so both readings of the cell are compared.
    padding = hu < OUTSIDE_FIELD_OF_VIEW_HU
    if pixels.padding_cells is not None:
        low, high = pixels.padding_cells
        padding |= ((cells >= low) & (cells <= high)) | ((stored >= low) & (stored <= high))
    return hu, padding


def hu_to_cells(
    hu: np.ndarray, pixels: PixelFormat, padding: np.ndarray | None = None, padding_cells: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """Round Hounsfield units to the values of a format, the inverse of `cells_to_hu`.

    Args:
        hu: (H, W) finite HU.
        pixels: The format to write.
        padding: (H, W) bool, pixels that hold no measurement; None for none. Their HU are ignored.
        padding_cells: (H, W) cells to store where `padding` is True, usually those of the source, of which only the stored
            bits are kept: bits above or below, such as a name burned into an overlay, are not a measurement.

    Returns:
        (H, W) cells of `pixels.dtype`, and the number of pixels outside the padding that were beyond `pixels.hu_range` and
        were clipped. A measured pixel that would equal a declared padding value gets the nearest other value.

    Raises:
        ValueError: if `hu` is not finite outside the padding, or `padding` is given without `padding_cells`.
    """
    hu = np.asarray(hu, dtype=np.float64)
    measured = np.ones(hu.shape, dtype=bool) if padding is None else ~padding
    if not np.isfinite(hu[measured]).all():
        found = int((~np.isfinite(hu[measured])).sum())
        raise ValueError(f"`hu` must be finite outside the padding, got {found} values that are NaN or infinite.")
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
            raise ValueError("`padding_cells` must be given with `padding`, got None.")
        cells = np.where(padding, _bare(padding_cells, pixels), cells).astype(pixels.dtype)
    return cells, clipped


def _bare(cells: np.ndarray, pixels: PixelFormat) -> np.ndarray:
    """Return cells of padding without the bits that are not stored; the declared value where only those mark it as padding."""
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
    """Return the number that 16 bits represent when read with the signedness of the pixels."""
    number &= 0xFFFF
    return number - 0x10000 if signed and number >= 0x8000 else number


def _avoid(stored: np.ndarray, exact: np.ndarray, first: int, last: int, low: int, high: int) -> np.ndarray:
    """Move values in [first, last] to the nearest value outside it, within [low, high]."""
    below, above = first - 1, last + 1
    if below < low and above > high:
        raise ValueError(f"padding values {first} to {last} leave no value for a measurement in {low} to {high}.")
    nearest = np.where((above > high) | ((below >= low) & (exact - below < above - exact)), below, above)
    return np.where((stored >= first) & (stored <= last), nearest, stored)
