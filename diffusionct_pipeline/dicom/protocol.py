"""Read from headers how a series was acquired and reconstructed; nothing that identifies a patient, a place or a time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from .errors import DicomError
from .headers import header_numbers, header_texts, kernel_name

UNNAMED = "this file"  # in errors that are not shown
WORD = re.compile(r"[\w .,%/+\-]{1,32}")  # of a setting; other texts may contain anything
GE_LEVEL = (0x0053, "GEHC_CT_ADVAPP_001", 0x43)  # ASiR, in percent
PHILIPS_LEVEL = (0x01F7, "ELSCINT1", 0x9B)  # iDose
SIEMENS_ITERATIVE = re.compile(r"[IJQ][a-z]?\d\d[a-z]?")  # SAFIRE names its kernels I30f, J30f; B30f is not iterative
LOSSY_SYNTAXES = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-lossless",
}
NO_AGENT = re.compile(r"(no|none|without|w/?o|n/?a|non|nil|0)\b", re.IGNORECASE)
CHEST = ("CHEST", "THORAX", "LUNG", "TH CT", "MEDIASTINUM", "HEART", "CARDIAC", "BREAST", "CAP", "BODY")
ELSEWHERE = (
    "HEAD", "BRAIN", "SKULL", "NECK", "ABD", "PELVIS", "LIVER", "KIDNEY", "COLON", "SPINE", "HIP", "KNEE", "LEG", "ARM",
    "HAND", "FOOT", "ANKLE", "SHOULDER", "ELBOW", "WRIST", "EXTREMITY", "SINUS", "EAR", "JAW", "BLADDER", "PROSTATE",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """Hold one row of the protocol table; "" or None where headers have no value.

    Attributes:
        vendor, model: Manufacturer and ManufacturerModelName.
        kernel: ConvolutionKernel.
        iterative: Level of iterative or learnt reconstruction.
        thickness_mm, increment_mm, spacing_mm: Slice thickness, distance between slices, side of a pixel.
        kvp: Peak tube voltage in kV.
        exposure_mas: Exposure in mAs, the median over the slices read.
        current_ma: Tube current in mA, likewise.
    """

    vendor: str
    model: str
    kernel: str
    iterative: str
    thickness_mm: float | None
    increment_mm: float | None
    spacing_mm: float
    kvp: float | None
    exposure_mas: float | None
    current_ma: float | None


def read_protocol(
    headers: Sequence[Dataset], thickness_mm: float | None, increment_mm: float | None, spacing_mm: float
) -> Protocol:
    """Read the protocol of a series.

    Args:
        headers: Headers of some of its slices, at least one.
        thickness_mm, increment_mm, spacing_mm: Values of the whole series.
    """
    first = headers[0]
    return Protocol(
        vendor=text(first, "Manufacturer"),
        model=text(first, "ManufacturerModelName"),
        kernel=readable_kernel(first),
        iterative=iterative_level(first),
        thickness_mm=thickness_mm,
        increment_mm=increment_mm,
        spacing_mm=spacing_mm,
        kvp=number(first, "KVP"),
        exposure_mas=_median(headers, "Exposure"),
        current_ma=_median(headers, "XRayTubeCurrent"),
    )


def text(header: Dataset, keyword: str) -> str:
    """Return the first value of an attribute if it looks like a setting, "" otherwise."""
    try:
        values = header_texts(header, keyword, UNNAMED)
    except DicomError:
        return ""
    value = values[0].strip() if values else ""
    return value if WORD.fullmatch(value) else ""


def number(header: Dataset, keyword: str) -> float | None:
    """Return the number of an attribute, None where it is absent or unreadable."""
    try:
        found = header_numbers(header, keyword, UNNAMED, 1)
    except DicomError:
        return None
    return None if found is None else found[0]


def readable_kernel(header: Dataset) -> str:
    """Return the name of the kernel, "" where it is missing or unreadable."""
    try:
        kernel = kernel_name(header, UNNAMED).strip()
    except DicomError:
        return ""
    return kernel if WORD.fullmatch(kernel) else ""


def iterative_level(header: Dataset) -> str:
    """Return the level of iterative or learnt reconstruction, "" where the header has none.

    Siemens: the second value of the kernel (SAFIRE and ADMIRE strength); GE and Philips: private attributes;
    any: ReconstructionAlgorithm (0018,9315).
    """
    try:
        kernels = header_texts(header, "ConvolutionKernel", UNNAMED)
    except DicomError:
        kernels = []
    if len(kernels) > 1 and kernels[1].strip().isdecimal() and kernels[1].strip() != "0":
        return f"strength {kernels[1].strip()}"
    for group, creator, element in (GE_LEVEL, PHILIPS_LEVEL):
        try:
            value = str(header.private_block(group, creator)[element].value).strip()
        except (KeyError, ValueError, TypeError, AttributeError):
            continue
        if value and value != "0" and WORD.fullmatch(value):
            return value
    if kernels and SIEMENS_ITERATIVE.fullmatch(kernels[0].strip()):
        return "iterative kernel"
    algorithm = text(header, "ReconstructionAlgorithm")
    return "" if algorithm.upper() in ("", "FILTER_BACK_PROJ") else algorithm.lower()


def has_contrast_agent(header: Dataset) -> bool:
    """Return whether ContrastBolusAgent (0018,0010) names an agent."""
    try:
        agents = header_texts(header, "ContrastBolusAgent", UNNAMED)
    except DicomError:
        return False
    named = " ".join(agents).strip()
    return bool(named) and not NO_AGENT.match(named)


def is_elsewhere(header: Dataset) -> bool:
    """Return whether BodyPartExamined (0018,0015) names a part of the body other than the chest, and not the chest, too."""
    try:
        part = " ".join(header_texts(header, "BodyPartExamined", UNNAMED)).upper()
    except DicomError:
        return False
    return any(name in part for name in ELSEWHERE) and not any(name in part for name in CHEST)


def lossy_compression(header: Dataset) -> str:
    """Return how the pixels were lossily compressed, now or earlier; "" if the header does not say that they were."""
    syntax = str(getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", ""))
    if syntax in LOSSY_SYNTAXES:
        return LOSSY_SYNTAXES[syntax]
    return "LossyImageCompression is 01" if text(header, "LossyImageCompression") == "01" else ""


def _median(headers: Sequence[Dataset], keyword: str) -> float | None:
    found = [value for header in headers if (value := number(header, keyword)) is not None]
    return float(np.median(found)) if found else None
