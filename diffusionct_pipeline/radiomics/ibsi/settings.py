"""Declare the choices that IBSI leaves to its user."""

from __future__ import annotations

from dataclasses import dataclass

from .names import SPACES

MOST_LEVELS = 1024  # co-occurrence matrices grow with the square of the number of levels


@dataclass(frozen=True)
class IbsiSettings:
    """Declare how values become grey levels; exactly one of `bin_width_hu` and `bins` must be given.

    Attributes:
        bin_width_hu: Width of a grey level (fixed bin size). The first level begins at the lower end of `range_hu`;
            without that, at the region's minimum, and then the levels of two regions mean different HU.
        bins: Number of grey levels between the minimum and the maximum of each region (fixed bin number).
        range_hu: (low, high) HU; voxels outside count only for the shape of the region (re-segmentation).
        dimensions: Dimensions of textures: 3, or 2 for textures within slices, merged over the slices ("2.5D").
    """

    bin_width_hu: float | None = None
    bins: int | None = None
    range_hu: tuple[float, float] | None = None
    dimensions: int = 3

    def __post_init__(self) -> None:
        if (self.bin_width_hu is None) == (self.bins is None):
            raise ValueError(
                f"exactly one of `bin_width_hu` and `bins` must be given, got {self.bin_width_hu!r} and {self.bins!r}."
            )
        if self.bin_width_hu is not None and not (_is_number(self.bin_width_hu) and self.bin_width_hu > 0):
            raise ValueError(f"`bin_width_hu` must be a number of HU above 0, got {self.bin_width_hu!r}.")
        if self.bins is not None and not (type(self.bins) is int and 2 <= self.bins <= MOST_LEVELS):
            raise ValueError(f"`bins` must be an integer from 2 to {MOST_LEVELS}, got {self.bins!r}.")
        if self.range_hu is not None:
            both = self.range_hu
            if (
                not isinstance(both, (list, tuple))
                or len(both) != 2
                or not all(map(_is_number, both))
                or not both[0] < both[1]
            ):
                raise ValueError(f"`range_hu` must be two ascending numbers of HU, got {self.range_hu!r}.")
            object.__setattr__(self, "range_hu", tuple(map(float, both)))
            if self.bin_width_hu is not None and (both[1] - both[0]) / self.bin_width_hu > MOST_LEVELS:
                raise ValueError(
                    f"`bin_width_hu` must divide `range_hu`, {tuple(both)}, into at most {MOST_LEVELS} grey levels, "
                    f"got {self.bin_width_hu!r}."
                )
        if self.dimensions not in SPACES:
            raise ValueError(f"`dimensions` must be 2 or 3, got {self.dimensions!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
