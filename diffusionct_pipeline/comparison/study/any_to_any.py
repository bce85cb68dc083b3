"""One checkpoint between any two of six kernels, with reference scans of other phantoms as the target."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ...metrics.texture import texture_agreement
from ...reporting.plots import plot_grids
from ...simulation.splits import IMAGE_PAIRS, TEST, take
from ..systems import DiffusionCT, FittingPair
from .options import StudyOptions
from .test_sets import Protocol, ScanStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIX_KERNELS = ("Br36", "B30f", "D45", "Bl57", "B70f", "GE_LUNG")  # from the simulator's table, soft to sharp
REFERENCES = 4  # scans of training phantoms, one slice each
# One dose, as a reference defines the noise together with the kernel.
ANY = Protocol("any to any", "slices of 1 mm at 60 mAs", 1.0, (60.0, 60.0), (0.55, 0.85))


def any_to_any(options: StudyOptions, store: ScanStore, tell: Callable[[], None]) -> dict[str, np.ndarray]:
    """Measure the mean concordance of ten texture figures over tumours, and the share within 15 %.

    Returns:
        "CCC" and "within", and those of the unchanged source, "CCC before" and "within before"; (source, target) each.
    """
    cases = [
        store.tumour(seed, index, SIX_KERNELS, ANY, 1, options.size)
        for index, seed in enumerate(take(TEST, options.any_to_any))
    ]
    known = [
        store.tumour(seed, index, SIX_KERNELS, ANY, 1, options.size)
        for index, seed in enumerate(take(IMAGE_PAIRS, REFERENCES))
    ]
    system = DiffusionCT(by_reference=True)
    found = {name: np.zeros((len(SIX_KERNELS),) * 2) for name in ("CCC", "within", "CCC before", "within before")}
    for j, target in enumerate(SIX_KERNELS):
        system.fit([FittingPair(hu[target][0], hu[target][0], spacing_mm) for hu, _, spacing_mm in known])
        for i, source in enumerate(SIX_KERNELS):
            images, before = [], []
            for hu, mask, spacing_mm in cases:
                goal = hu[target][0]
                output = system.standardize(hu[source][0], spacing_mm).round().clip(goal.min())
                images.append((output, goal, [mask[0]]))
                before.append((hu[source][0], goal, [mask[0]]))
            for of, suffix in ((images, ""), (before, " before")):
                agreement = texture_agreement(of)
                found[f"CCC{suffix}"][i, j], found[f"within{suffix}"][i, j] = agreement.mean_ccc, agreement.reproducible
            tell()
    return found


def plot_any_to_any(found: dict[str, np.ndarray]) -> Figure:
    """Plot the share of figures within 15 %, before and after, source by target."""
    panels = {"as scanned": found["within before"], "standardized to the column's kernel": found["within"]}
    return plot_grids(panels, SIX_KERNELS, "figures within 15 %")
