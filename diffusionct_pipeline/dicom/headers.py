"""Read values of attributes by keyword: None or empty where they are missing, never an invalid value."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .errors import DicomError

# Keyword -> lowest value, highest value, unit. No scanner exceeds them, so that a number beyond is damaged.
LEGAL_RANGES = {
    "PixelSpacing": (0.05, 5.0, "mm"),  # a 50 mm field of view on 1024 pixels; a 500 mm one on 100
    "RescaleIntercept": (-65536.0, 65536.0, "HU"),  # 16 bits may count from either end
    "RescaleSlope": (-100.0, 100.0, "HU"),  # 10 is enough for the densest metal
    "SliceThickness": (0.01, 1000.0, "mm"),  # 1000: a projection of the whole chest
}


def header_value(dataset: Dataset, keyword: str, name: str) -> Any:
    """Return the value of an attribute as pydicom reads it, or None where it is absent or empty.

    Args:
        dataset: The dataset to look in.
        keyword: DICOM keyword.
        name: Name of the file in messages.

    Raises:
        DicomError: if the bytes are not a value of the attribute's type.
    """
    try:
        value = dataset.get(keyword)
    except Exception as error:  # pydicom converts on access; the error for an invalid value depends on its type
        raise DicomError(f"{name} has an unreadable {keyword}: {error}") from error
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        return None
    return value


def header_numbers(dataset: Dataset, keyword: str, name: str, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers of an attribute, or None where it is absent or empty.

    Raises:
        DicomError: for another number of values, or one that is not finite, not a number or beyond `LEGAL_RANGES`.
    """
    value = header_value(dataset, keyword, name)
    if value is None:
        return None
    values = [value] if isinstance(value, (str, int, float)) or not hasattr(value, "__len__") else list(value)
    try:
        numbers = tuple(float(item) for item in values)
    except (TypeError, ValueError) as error:
        raise DicomError(f"{name} must have {count} numbers as {keyword}, got {value!r}.") from error
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise DicomError(f"{name} must have {count} finite numbers as {keyword}, got {value!r}.")
    low, high, unit = LEGAL_RANGES.get(keyword, (-math.inf, math.inf, ""))
    if not all(low <= number <= high for number in numbers):
        found = ", ".join(f"{number:g}" for number in numbers)
        raise DicomError(f"{name} must have a {keyword} {Tag(keyword)} of {low:g} to {high:g} {unit}, got {found}.")
    return numbers


def header_texts(dataset: Dataset, keyword: str, name: str) -> list[str]:
    """Return all values of a text attribute, [] where it is absent or empty.

    Raises:
        DicomError: if the bytes are not a value of the attribute's type.
    """
    value = header_value(dataset, keyword, name)
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(item) for item in value]


def kernel_name(dataset: Dataset, name: str) -> str:
    """Return the name of the reconstruction kernel, "" where it is unknown.

    Args:
        dataset: Header of a CT slice.
        name: Name of the file in messages.

    Raises:
        DicomError: if the header's value is unreadable.
    """
    kernels = header_texts(dataset, "ConvolutionKernel", name)
    return kernels[0] if kernels else ""  # some scanners write the kernel and a post-filter
