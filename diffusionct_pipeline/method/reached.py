"""Measure whether results have the kernel that they are to be named after, as on any scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..estimation import KernelEstimate
from .step import MTF

TOLERANCE = 0.15  # of MTF50: results within it are named after their target
# Of the MTF over `BAND_LP_CM`: skin shows a tenth less than a sharp kernel's true peak, in simulations, too.
BAND_TOLERANCE = 0.25
BAND_LP_CM = (2.0, 6.0)
SOFTER = 0.95  # of the source's MTF50: a result below it became softer
LOWEST_MTF = 0.1  # of the target: lower values are useless for a comparison
UNCERTAIN = "uncertain"  # named in place of a kernel that results do not have, or do not show


@dataclass(frozen=True)
class Reached:
    """Hold what was measured on some results of a scan.

    Attributes:
        target: Name of the requested kernel.
        wanted_mtf50: MTF50 of that kernel in lp/cm; None where it is not known. Like all MTF50 here, it is limited to the
            Nyquist frequency of the pixels.
        mtf50: MTF50 at the skin before and after in lp/cm; None where too little bare skin is in view.
        mtf_ratio: Geometric mean over 2 to 6 lp/cm, as far as pixels reach, of the ratio of the results' MTF to the target's;
            None where either is not known.
        noise_hu: Noise in soft tissue before and after; None where there is too little of it.
    """

    target: str
    wanted_mtf50: float | None
    mtf50: tuple[float | None, float | None]
    mtf_ratio: float | None
    noise_hu: tuple[float | None, float | None]

    @property
    def is_reached(self) -> bool:
        """Return whether the results were measured to have the target's kernel."""
        after = self.mtf50[1]
        if after is None or self.wanted_mtf50 is None or self.mtf_ratio is None:
            return False
        return abs(after / self.wanted_mtf50 - 1) <= TOLERANCE and abs(self.mtf_ratio - 1) <= BAND_TOLERANCE

    @property
    def is_missed(self) -> bool:
        """Return whether the results were measured not to have the target's kernel."""
        return self.mtf50[1] is not None and self.wanted_mtf50 is not None and not self.is_reached

    @property
    def label(self) -> str:
        """Return the kernel that derived images name."""
        return self.target if self.is_reached else UNCERTAIN

    @property
    def remark(self) -> str:
        """Return one sentence for the user; "" where the target was reached."""
        before, after = self.mtf50
        if self.is_reached:
            return ""
        if after is None:
            return f"too little bare skin is in view to see whether the results have the kernel {self.target}"
        if self.wanted_mtf50 is None:
            return f"the kernel {self.target} is not known, so it cannot be checked whether the results have it"
        wanted = f"{self.target} has {self.wanted_mtf50:.1f}"
        if before is not None and after < SOFTER * before and after < self.wanted_mtf50:
            return f"became softer than it was: MTF50 {after:.1f} lp/cm, the source has {before:.1f}, {wanted}"
        ratio, compared = after / self.wanted_mtf50, ""
        if self.mtf_ratio is not None:
            ratio = ratio if abs(ratio - 1) > TOLERANCE else self.mtf_ratio
            compared = f"; MTF {self.mtf_ratio:.2f} times the target's"
        side = "softer" if ratio < 1 else "sharper"
        return f"stayed {side} than its target: MTF50 {after:.1f} lp/cm, {wanted}{compared}"

    def in_words(self) -> str:
        """Return the description for derived images, such as "MTF50 3.3 to 6.6 lp/cm, noise 17 to 92 HU"."""
        parts = [
            f"{name} {' to '.join('?' if value is None else f'{value:.{digits}f}' for value in values)} {unit}"
            for name, values, digits, unit in (("MTF50", self.mtf50, 1, "lp/cm"), ("noise", self.noise_hu, 0, "HU"))
        ]
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"mtf50": list(self.mtf50), "noise_hu": list(self.noise_hu)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Reached:
        """Read what `to_json` returned."""
        return cls(**{**values, "mtf50": tuple(values["mtf50"]), "noise_hu": tuple(values["noise_hu"])})


def check_results(
    target: str, wanted: MTF | None, source: KernelEstimate | None, result: KernelEstimate | None
) -> Reached:
    """Compare the kernel and the noise of a scan with those of its results.

    Args:
        target: Name of the requested kernel.
        wanted: Its MTF; None where it is not known.
        source, result: Estimates of the scan and of its results.
    """

    def mtf50(kernel: KernelEstimate | None) -> float | None:
        if kernel is None or "skin" not in kernel.witnesses:
            return None
        return round(min(last_above(kernel.mtf, 0.5), 5 / kernel.spacing_mm), 2)

    def noise(kernel: KernelEstimate | None) -> float | None:
        found = None if kernel is None else kernel.noise_hu.get("soft tissue")
        return None if found is None else round(float(found), 1)

    wanted_mtf50 = ratio = None
    if wanted is not None and result is not None:
        nyquist = 5 / result.spacing_mm
        wanted_mtf50 = round(min(last_above(wanted, 0.5), nyquist), 2)
        f = np.linspace(BAND_LP_CM[0], min(BAND_LP_CM[1], nyquist), 9)
        shown = wanted(f) > LOWEST_MTF
        if "skin" in result.witnesses and shown.any():
            ratio = round(float(np.exp(np.log(result.mtf(f[shown]) / wanted(f[shown])).mean())), 3)
    elif wanted is not None:
        wanted_mtf50 = round(last_above(wanted, 0.5), 2)
    return Reached(target, wanted_mtf50, (mtf50(source), mtf50(result)), ratio, (noise(source), noise(result)))


def last_above(mtf: MTF, level: float) -> float:
    """Find the frequency in lp/cm beyond which an MTF stays below a level."""
    f = np.arange(0.05, 40, 0.01)
    above = np.flatnonzero(mtf(f) >= level)
    return float(f[above[-1]]) if len(above) else 0.0
