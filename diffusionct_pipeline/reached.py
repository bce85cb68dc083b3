"""Whether results have the kernel that they are to be named after: measured on them, as on any scan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .estimation import KernelEstimate
from .step import MTF

TOLERANCE = 0.15  # of MTF50: results within it are named after their target
SOFTER = 0.95  # of the source's MTF50: below, a result became softer than it was
UNCERTAIN = "uncertain"  # named in place of a kernel that results do not have, or that they do not show


@dataclass(frozen=True)
class Reached:
    """What some results of a scan show.

    Attributes:
        target: Kernel that was asked for.
        wanted_mtf50: Of it, lp/cm; None where it is not known.
        mtf50: At the skin before and after, lp/cm; None where too little bare skin is in view.
        noise_hu: In soft tissue before and after; None where there is too little of it.
    """

    target: str
    wanted_mtf50: float | None
    mtf50: tuple[float | None, float | None]
    noise_hu: tuple[float | None, float | None]

    @property
    def is_reached(self) -> bool:
        """Whether the results were measured to have the target's kernel."""
        after = self.mtf50[1]
        if after is None or self.wanted_mtf50 is None:
            return False
        return abs(after / self.wanted_mtf50 - 1) <= TOLERANCE

    @property
    def is_missed(self) -> bool:
        """Whether the results were measured not to have it."""
        return self.mtf50[1] is not None and self.wanted_mtf50 is not None and not self.is_reached

    @property
    def label(self) -> str:
        """The kernel that derived images name."""
        return self.target if self.is_reached else UNCERTAIN

    @property
    def remark(self) -> str:
        """One sentence for the user; "" where the target was reached."""
        before, after = self.mtf50
        if self.is_reached:
            return ""
        if after is None:
            return f"too little bare skin is in view to see whether the results have the kernel {self.target}"
        if self.wanted_mtf50 is None:
            return f"the kernel {self.target} is not known, so that nothing tells whether the results have it"
        wanted = f"{self.target} has {self.wanted_mtf50:.1f}"
        if before is not None and after < SOFTER * before and after < self.wanted_mtf50:
            return f"became softer than it was: MTF50 {after:.1f} lp/cm, the source has {before:.1f}, {wanted}"
        side = "softer" if after < self.wanted_mtf50 else "sharper"
        return f"stayed {side} than its target: MTF50 {after:.1f} lp/cm, {wanted}"

    def in_words(self) -> str:
        """What derived images say, for example "MTF50 3.3 to 6.6 lp/cm, noise 17 to 92 HU"."""
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
        return cls(values["target"], values["wanted_mtf50"], tuple(values["mtf50"]), tuple(values["noise_hu"]))


def check_results(
    target: str, wanted: MTF | None, source: KernelEstimate | None, result: KernelEstimate | None
) -> Reached:
    """Compare what a scan and its results show.

    Args:
        target: Name of the kernel that was asked for.
        wanted: Its MTF.
        source, result: Estimates of the scan and of its results.
    """

    def mtf50(kernel: KernelEstimate | None) -> float | None:
        return None if kernel is None or "skin" not in kernel.witnesses else round(float(kernel.mtf50), 2)

    def noise(kernel: KernelEstimate | None) -> float | None:
        found = None if kernel is None else kernel.noise_hu.get("soft tissue")
        return None if found is None else round(float(found), 1)

    wanted_mtf50 = None if wanted is None else round(last_above(wanted, 0.5), 2)
    return Reached(target, wanted_mtf50, (mtf50(source), mtf50(result)), (noise(source), noise(result)))


def last_above(mtf: MTF, level: float) -> float:
    """Find the frequency in lp/cm beyond which an MTF stays below a level."""
    f = np.arange(0.05, 40, 0.01)
    above = np.flatnonzero(mtf(f) >= level)
    return float(f[above[-1]]) if len(above) else 0.0
