"""Reconstruction kernels as modulation transfer functions.

A kernel is described by four numbers, all in line pairs per cm (lp/cm) but the boost. The table with its
sources is `data/kernels.json`; read the `confidence` of an entry before you lean on it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from types import MappingProxyType

import torch


@dataclass(frozen=True)
class Kernel:
    """Shape of one reconstruction kernel.

    Attributes:
        name: Name as in ConvolutionKernel (0018,1210).
        mtf50, mtf10: Frequencies in lp/cm at which the MTF falls to .5 and .1.
        boost: Relative height of the mid-frequency enhancement, 0 for none.
        boost_peak: Frequency in lp/cm at which the enhancement is highest.
        manufacturer: Vendor of the kernel this one stands for.
        confidence: "measured", "weak", "interpolated", "extrapolated" or "from memory, unverified".
        source: Where the numbers come from.
    """

    name: str
    mtf50: float
    mtf10: float
    boost: float
    boost_peak: float
    manufacturer: str = "unknown"
    confidence: str = "from memory, unverified"
    source: str = "none"

    def __post_init__(self):
        if not 0 < self.mtf50 < self.mtf10:
            raise ValueError(
                f"kernel {self.name!r} has mtf50={self.mtf50} and mtf10={self.mtf10} lp/cm; legal is 0 < mtf50 < mtf10"
            )
        if self.boost < 0 or self.boost_peak <= 0:
            raise ValueError(
                f"kernel {self.name!r} has boost={self.boost}, boost_peak={self.boost_peak}; "
                "legal is boost >= 0, boost_peak > 0"
            )

    def enhancement(self, frequency_lp_cm):
        """1 + boost * g(f): unity at zero frequency, 1 + boost at `boost_peak`. Same shape as the input."""
        square = (frequency_lp_cm / self.boost_peak) ** 2
        exp = torch.exp if torch.is_tensor(square) else math.exp
        return 1 + self.boost * square * exp(1 - square)

    def roll_off(self):
        """(f0 in lp/cm, p) of exp(-(f / f0)^p), closed form, so that mtf50 and mtf10 are hit exactly."""
        decay50 = math.log(2 * self.enhancement(self.mtf50))
        decay10 = math.log(10 * self.enhancement(self.mtf10))
        power = math.log(decay10 / decay50) / math.log(self.mtf10 / self.mtf50)
        return self.mtf50 / decay50 ** (1 / power), power

    def jittered(self, fraction, generator):
        """A neighbour of this kernel: both frequencies scaled by one factor in [1 - fraction, 1 + fraction].

        One factor, because a vendor's kernel family is close to one curve at different scales.
        """
        if not 0 <= fraction < 1:
            raise ValueError(f"kernel_jitter is {fraction}; legal is 0 <= kernel_jitter < 1")
        factor = 1 + fraction * (2 * torch.rand(1, generator=generator).item() - 1)
        return replace(
            self, mtf50=self.mtf50 * factor, mtf10=self.mtf10 * factor, boost_peak=self.boost_peak * factor
        )


def _load_table() -> Mapping[str, Kernel]:
    table = json.loads(resources.files(__package__).joinpath("data/kernels.json").read_text(encoding="utf-8"))
    return MappingProxyType({name: Kernel(name=name, **entry) for name, entry in table["kernels"].items()})


KERNELS = _load_table()


def get_kernel(kernel) -> Kernel:
    """A `Kernel` from a table name; a `Kernel` passes through.

    Raises:
        ValueError: for a name that is not in the table; the message lists the legal ones.
    """
    if isinstance(kernel, Kernel):
        return kernel
    if kernel not in KERNELS:
        raise ValueError(f"kernel is {kernel!r}; legal is a Kernel or one of {', '.join(KERNELS)}")
    return KERNELS[kernel]


def mtf(frequency_lp_cm, kernel):
    """Modulation transfer of a kernel.

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
    f0, power = kernel.roll_off()
    return kernel.enhancement(frequency) * torch.exp(-((frequency / f0) ** power))
