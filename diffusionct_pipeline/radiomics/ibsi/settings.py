"""What IBSI leaves to its user."""

from __future__ import annotations

from dataclasses import dataclass

from .names import SPACES

MOST_LEVELS = 1024  # co-occurrence matrices grow with their square


@dataclass(frozen=True)
class IbsiSettings:
    """How values become grey levels; exactly one of `bin_width_hu` and `bins` is given.

    Attributes:
        bin_width_hu: Width of a grey level (fixed bin size). The first level begins at the lower end of `range_hu`, or
            without one at the region's least value, and then levels of two regions mean different HU.
        bins: Number of grey levels between the least and the largest value of each region (fixed bin number).
        range_hu: (low, high) HU; voxels beyond are left out of the region for all but its shape (re-segmentation).
        dimensions: Of textures: 3, or 2 for those in slices, merged over these ("2.5D").
    """

    bin_width_hu: float | None = None
    bins: int | None = None
    range_hu: tuple[float, float] | None = None
    dimensions: int = 3

    def __post_init__(self) -> None:
        if (self.bin_width_hu is None) == (self.bins is None):
            raise ValueError(
                f"bin_width_hu is {self.bin_width_hu!r} and bins is {self.bins!r}; exactly one of both must be given"
            )
        if self.bin_width_hu is not None and not (_is_number(self.bin_width_hu) and self.bin_width_hu > 0):
            raise ValueError(f"bin_width_hu is {self.bin_width_hu!r}; must be a number of HU above 0")
        if self.bins is not None and not (type(self.bins) is int and 2 <= self.bins <= MOST_LEVELS):
            raise ValueError(f"bins is {self.bins!r}; must be an integer from 2 to {MOST_LEVELS}")
        if self.range_hu is not None:
            both = self.range_hu
            if (
                not isinstance(both, (list, tuple))
                or len(both) != 2
                or not all(map(_is_number, both))
                or not both[0] < both[1]
            ):
                raise ValueError(
                    f"range_hu is {self.range_hu!r}; must be two numbers of HU, the first below the second"
                )
            object.__setattr__(self, "range_hu", tuple(map(float, both)))
            if self.bin_width_hu is not None and (both[1] - both[0]) / self.bin_width_hu > MOST_LEVELS:
                raise ValueError(
                    f"bin_width_hu is {self.bin_width_hu!r}, which makes more than {MOST_LEVELS} grey levels of range_hu "
                    f"{tuple(both)}; must be larger"
                )
        if self.dimensions not in SPACES:
            raise ValueError(f"dimensions is {self.dimensions!r}; must be 2 or 3")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
