"""Check whether an image is what it claims to be: a transverse CT slice of a patient in Hounsfield units.

Nothing here changes pixels. Certain problems are refused with a reason; likely ones become a remark.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .errors import SkippedKind

AIR_HU = -900.0  # a slice beyond the patient holds only noise above it
LEAST_SPAN_HU = 100.0  # any CT of a patient spans more (air, fat, water), unlike images scaled to 0..1
MOST_LABELS = 256  # an image with at most this many distinct whole values, none negative, is a mask or a picture
CONTAINS_AIR_HU = -300.0  # lung and the air around a patient are below; fat (-120) is above
LEAST_AIR = 1e-3  # share of the pixels: noise alone does not bring this much fat below -300 HU
SMALLEST_FIELD_OF_VIEW_MM = 60.0  # a lung nodule or a single vertebra; the networks were trained on whole chests
LEAST_TRANSVERSE = 0.82  # cosine of 35 degrees: gantries tilt by up to 30

# Words that vendors use in ImageType, besides LOCALIZER. Siemens writes "CT_SOM5 MIP", GE "SCREEN SAVE".
PROJECTIONS = frozenset({"MIP", "MINIP", "MAXIP", "MIPS", "PROJECTION", "RAYSUM", "DRR"})
PICTURES = frozenset({"VRT", "SSD", "RENDERED", "RENDERING", "SCREENSAVE", "SCREENSHOT", "SCREEN", "SNAPSHOT",
                      "CAPTURE", "PROT", "PROTOCOL", "REPORT", "GRAPHICS"})  # fmt: skip
SCOUTS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "TOP", "SURVIEW", "SCANOGRAM", "SCANOSCOPE", "SCANO"})
SCOUT_DESCRIPTION = re.compile(r"\b(scout|topogram|topo|locali[sz]er|surview|scanogram|scanoscope|scano)\b", re.I)
SPECTRAL = {
    "VNC": "virtual non-contrast", "VNCA": "virtual non-calcium", "VUE": "virtual unenhanced", "MONO": "monoenergetic",
    "MONOE": "monoenergetic", "MONOENERGETIC": "monoenergetic", "VMI": "monoenergetic", "KEV": "monoenergetic",
    "GSI": "GSI", "SPECIAL": "spectral", "SPECTRAL": "spectral", "IODINE": "iodine", "ZEFF": "effective Z",
}  # fmt: skip
SPECTRAL_DESCRIPTION = re.compile(
    r"\b(vnca?|virtual (?:non|un)\w*|mono ?e\w*|mono\+|mono[ -]energetic|vmi|\d{2,3} ?kev|gsi|spectral|iodine|z[ -]?eff)",
    re.I,
)


def not_hounsfield(low: float, high: float, is_whole: bool) -> tuple[str, SkippedKind] | None:
    """Return why values from `low` to `high` are not Hounsfield units of a patient, as a clause, and what they are instead.

    Args:
        low, high: Lowest and highest measured value.
        is_whole: Whether all values are whole numbers.

    Returns:
        None where they may be Hounsfield units.
    """
    if low > high:  # nothing was measured
        return None
    if low >= 0 and high < MOST_LABELS and is_whole:
        return "all of them whole: it is a mask or a picture, not CT in Hounsfield units", SkippedKind.NOT_CT
    if low >= 0:
        reason = ("none below 0: these are not Hounsfield units, in which air is -1000 and fat -100. It is not CT, or its "
                  "rescale intercept (often -1024) was lost")  # fmt: skip
        return reason, SkippedKind.UNUSABLE
    if high - low < LEAST_SPAN_HU and low > AIR_HU:
        reason = (f"which are not Hounsfield units: those of a CT scan span more than {LEAST_SPAN_HU:g}. Undo the scaling "
                  "first")  # fmt: skip
        return reason, SkippedKind.UNUSABLE
    return None


@dataclass
class ValueRange:
    """Collect the lowest and highest measured value of several slices: a single one may show only bone."""

    low: float = math.inf
    high: float = -math.inf
    is_whole: bool = True

    def add(self, hu: np.ndarray, padding: np.ndarray) -> None:
        """Add a slice."""
        measured = hu[~padding]
        if measured.size:
            self.low, self.high = min(self.low, float(measured.min())), max(self.high, float(measured.max()))
            self.is_whole = self.is_whole and self.low >= 0 and bool((measured == np.rint(measured)).all())

    @property
    def problem(self) -> str:
        """Return why these are not Hounsfield units, as the rest of a sentence; "" where they may be."""
        found = not_hounsfield(self.low, self.high, self.is_whole)
        return f"holds values from {self.low:g} to {self.high:g}, {found[0]}." if found else ""


def lacks_air(hu: np.ndarray, padding: np.ndarray) -> bool:
    """Return whether hardly any measured pixel has the density of lung or air."""
    measured = hu.size - int(padding.sum())
    return measured > 0 and int(((hu < CONTAINS_AIR_HU) & ~padding).sum()) < LEAST_AIR * measured


def lacks_air_remark(name: str) -> str:
    """Return the remark on an image or a series that `lacks_air` throughout."""
    return (f"{name} holds hardly any values below {CONTAINS_AIR_HU:g} HU, unlike lung and the air around a patient. "
            "Are these Hounsfield units of a chest? Its rescale intercept may be lost.")  # fmt: skip


def narrow_remark(name: str, side_mm: float) -> str:
    """Return the remark on a field of view that is too small, "" for others."""
    if side_mm >= SMALLEST_FIELD_OF_VIEW_MM:
        return ""
    return (f"{name} has a field of view of {side_mm:.0f} mm; below {SMALLEST_FIELD_OF_VIEW_MM:g} mm results are not "
            "reliable, as the networks were trained on whole chests. Is the pixel spacing right?")  # fmt: skip


def is_transverse(orientation: Sequence[float] | np.ndarray) -> bool:
    """Return whether direction cosines are those of a transverse slice, including one of a tilted gantry."""
    return abs(float(np.cross(orientation[:3], orientation[3:])[2])) >= LEAST_TRANSVERSE


def not_a_slice(
    image_type: Sequence[str], description: str, is_placed: bool, is_marked: bool
) -> tuple[str, SkippedKind] | None:
    """Return what a CT image that is not a slice is by its header, as a clause; None for a slice.

    Args:
        image_type: Values of ImageType.
        description: SeriesDescription.
        is_placed: Whether the header has the position or the orientation of the image.
        is_marked: Whether the header declares a captured or annotated picture (ConversionType, BurnedInAnnotation).
    """
    words = _words(image_type)
    scout = SCOUT_DESCRIPTION.search(description)
    if words & SCOUTS or (scout and (scout.start() == 0 or "AXIAL" not in words)):
        return "is a localizer (scout view), not a slice", SkippedKind.LOCALIZER
    if words & PROJECTIONS or {("MIN", "IP"), ("MAX", "IP")} & _pairs(image_type):
        return "is a projection through many slices (MIP or the like), not a slice", SkippedKind.PICTURE
    if words & PICTURES:
        return "is a picture (a rendering, a screenshot or a report) in CT storage, not a slice", SkippedKind.PICTURE
    is_other = "SECONDARY" in words or (len(image_type) > 2 and "AXIAL" not in words)
    if not is_placed and (is_other or is_marked):
        return "is a picture in CT storage, not a slice: it has no position in the patient", SkippedKind.PICTURE
    return None


def spectral_remark(name: str, image_type: Sequence[str], description: str) -> str:
    """Return the remark on an image that was computed from several energies, "" for others."""
    found = sorted({SPECTRAL[word] for word in _words(image_type) if word in SPECTRAL})
    found += ["monoenergetic"] * any(re.fullmatch(r"\d+KEV", word) for word in _words(image_type))
    described = SPECTRAL_DESCRIPTION.search(description.replace("_", " "))
    if found:
        kind = found[0]
    elif described is not None:
        kind = described[1].lower()
    else:
        return ""
    return (f"{name} is a spectral image ({kind}): its HU and its noise are not those of any kernel that the networks "
            "were trained on.")  # fmt: skip


def _words(values: Iterable[str]) -> set[str]:
    """Return the words of all values: "CT_SOM5 MIP" -> {"CT", "SOM5", "MIP"}."""
    return {word for value in values for word in re.split(r"[^A-Z0-9]+", value.upper()) if word}


def _pairs(values: Iterable[str]) -> set[tuple[str, str]]:
    """Return the pairs of neighbouring words of each value."""
    split = [re.split(r"[^A-Z0-9]+", value.upper()) for value in values]
    return {pair for words in split for pair in zip(words, words[1:])}
