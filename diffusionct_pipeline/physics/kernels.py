"""Describe reconstruction kernels by modulation transfer functions (MTF).

A kernel is described by four numbers, all in line pairs per cm (lp/cm) except the boost. The table with its sources is
`data/kernels.json`; check the `confidence` of an entry before you rely on it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from types import MappingProxyType

import numpy as np
import torch


@dataclass(frozen=True)
class Kernel:
    """Describe the shape of one reconstruction kernel.

    Attributes:
        name: Name as in ConvolutionKernel (0018,1210).
        mtf50, mtf10: Frequencies in lp/cm at which the MTF falls to .5 and .1.
        boost: Relative height of the mid-frequency enhancement, 0 for none.
        boost_peak: Frequency in lp/cm at which the enhancement is highest.
        manufacturer: Vendor of the kernel.
        confidence: "measured", "interpolated" or "from memory, unverified".
        source: Source of the numbers.
    """

    name: str
    mtf50: float
    mtf10: float
    boost: float
    boost_peak: float
    manufacturer: str = "unknown"
    confidence: str = "from memory, unverified"
    source: str = "none"

    def __post_init__(self) -> None:
        if not 0 < self.mtf50 < self.mtf10:
            raise ValueError(
                f"kernel {self.name!r} must have 0 < mtf50 < mtf10, got mtf50={self.mtf50} and mtf10={self.mtf10} lp/cm"
            )
        if self.boost < 0 or self.boost_peak <= 0:
            raise ValueError(
                f"kernel {self.name!r} must have boost >= 0 and boost_peak > 0, "
                f"got boost={self.boost}, boost_peak={self.boost_peak}"
            )

    def enhancement(self, frequency_lp_cm: float) -> float:
        """Return 1 + boost * g(f): 1 at frequency 0, 1 + boost at `boost_peak`."""
        square = (frequency_lp_cm / self.boost_peak) ** 2
        return 1 + self.boost * square * math.exp(1 - square)

    def roll_off(self) -> tuple[float, float]:
        """Return f0 in lp/cm and p of exp(-(f / f0)^p), in closed form, so that mtf50 and mtf10 are met exactly."""
        decay50 = math.log(2 * self.enhancement(self.mtf50))
        decay10 = math.log(10 * self.enhancement(self.mtf10))
        power = math.log(decay10 / decay50) / math.log(self.mtf10 / self.mtf50)
        return self.mtf50 / decay50 ** (1 / power), power

    def jittered(self, fraction: float, generator: torch.Generator) -> Kernel:
        """Return a neighbour of this kernel: all frequencies scaled by one factor in [1 - fraction, 1 + fraction].

        It is one factor, as a vendor's kernel family is close to one curve at different scales.
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"`kernel_jitter` must be at least 0 and below 1, got {fraction}")
        factor = 1 + fraction * (2 * torch.rand(1, generator=generator).item() - 1)
        return replace(self, mtf50=self.mtf50 * factor, mtf10=self.mtf10 * factor, boost_peak=self.boost_peak * factor)


def _load_table() -> Mapping[str, Kernel]:
    table = json.loads(resources.files(__package__).joinpath("data/kernels.json").read_text(encoding="utf-8"))
    names = set(Kernel.__dataclass_fields__)
    return MappingProxyType({
        name: Kernel(name=name, **{key: value for key, value in entry.items() if key in names})
        for name, entry in table["kernels"].items()
    })  # fmt: skip


KERNELS = _load_table()
# Family and index of a Siemens kernel, without slice mode and iterative level.
SIEMENS_NAME = re.compile(r"([A-Z][a-z]?)(\d{2})[a-z]?(?:[_\\]\d)?")


def find_kernel(name: str) -> Kernel | None:
    """Look up a kernel by its name in the table or as scanners write it.

    Siemens names consist of family, index and suffixes ("Br40d", "Br40f_3", "B31f"): suffixes are ignored, and an index between
    two of the family's in the table is interpolated. GE's names lack the table's prefix ("STANDARD").

    Args:
        name: Any text, such as the value of ConvolutionKernel (0018,1210).

    Returns:
        The kernel, or None if the table does not cover it.
    """
    name = name.strip()
    for known in (name, f"GE_{name.upper()}"):
        if known in KERNELS:
            return KERNELS[known]
    parts = SIEMENS_NAME.fullmatch(name)
    if parts is None:
        return None
    others = (SIEMENS_NAME.fullmatch(other) for other in KERNELS)
    family = {int(other[2]): KERNELS[other[0]] for other in others if other is not None and other[1] == parts[1]}
    index = int(parts[2])
    if index in family:
        return replace(family[index], name=name)
    lower, upper = ([i for i in family if i < index], [i for i in family if i > index])
    if not lower or not upper:
        return None
    below, above = family[max(lower)], family[min(upper)]
    share = (index - max(lower)) / (min(upper) - max(lower))

    def between(low: float, high: float) -> float:
        return (1 - share) * low + share * high

    return Kernel(
        name,
        mtf50=between(below.mtf50, above.mtf50),
        mtf10=between(below.mtf10, above.mtf10),
        boost=between(below.boost, above.boost),
        boost_peak=between(below.boost_peak, above.boost_peak),
        manufacturer=below.manufacturer,
        confidence="interpolated",
        source=f"between {below.name} and {above.name}",
    )


def get_kernel(kernel: Kernel | str) -> Kernel:
    """Return a `Kernel` for a name, see `find_kernel`; a `Kernel` is returned as it is.

    Raises:
        ValueError: for a name that the table does not cover; the message lists the known ones.
    """
    if isinstance(kernel, Kernel):
        return kernel
    found = find_kernel(kernel)
    if found is None:
        raise ValueError(f"`kernel` must be a Kernel or one of {', '.join(KERNELS)}, got {kernel!r}")
    return found


def mtf(frequency_lp_cm: torch.Tensor | list[float], kernel: Kernel | str) -> torch.Tensor:
    """Evaluate the modulation transfer function of a kernel.

    Args:
        frequency_lp_cm: Non-negative frequencies in lp/cm, tensor of any shape or array-like.
        kernel: Name from `KERNELS` or a `Kernel`.

    Returns:
        Tensor of the same shape, 1 at frequency 0; may exceed 1 for a boosted kernel.
    """
    kernel = get_kernel(kernel)
    frequency = torch.as_tensor(frequency_lp_cm)
    if not frequency.is_floating_point():
        frequency = frequency.float()
    return transfer(frequency, *kernel.roll_off(), kernel.boost, kernel.boost_peak)


def transfer(
    frequency_lp_cm: torch.Tensor,
    f0: torch.Tensor | float,
    power: torch.Tensor | float,
    boost: torch.Tensor | float,
    boost_peak: torch.Tensor | float,
) -> torch.Tensor:
    """Evaluate the law of all kernels, (1 + boost g(f)) exp(-(f / f0)^power) with g(f) = s exp(1 - s), s = (f / boost_peak)^2.

    Args:
        frequency_lp_cm: Frequencies, of any shape that the others broadcast with.
        f0, power: Roll-off, see `Kernel.roll_off`; f0 in lp/cm.
        boost, boost_peak: Enhancement, see `Kernel`; the peak in lp/cm.
    """
    square = (frequency_lp_cm / boost_peak) ** 2
    enhancement = 1 + boost * square * torch.exp(1 - square)
    return enhancement * torch.exp(-((frequency_lp_cm / f0) ** power))


def kernel_mtf(kernel: Kernel) -> Callable[[np.ndarray], np.ndarray]:
    """Return the MTF of a kernel as a function of frequencies in lp/cm."""
    return lambda lp_cm: mtf(torch.from_numpy(np.asarray(lp_cm, float)), kernel).numpy()
