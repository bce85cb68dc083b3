"""Declare every choice that IBEX leaves to its user, in one place."""

from __future__ import annotations

from dataclasses import dataclass, fields

HISTOGRAM_READINGS = ("heights", "values")
CT_NUMBER_OF_WATER = 1000.0  # IBEX works on CT number = max(HU + 1000, 0), air 0, water 1000


@dataclass(frozen=True)
class RadiomicSettings:
    """Declare the choices of the feature extraction. Source and target must use the same ones.

    Attributes:
        grey_limits: (low, high) in CT numbers (HU + 1000) that the grey levels and histograms span; values outside
            fall into the end levels. None adapts the limits to the minimum and maximum of each region: source and
            target are then on different scales, which is IBEX's default and rarely what a comparison needs.
        levels: Grey levels of GLCM, GLRLM and NID; part of those features' names. The first lies on the lower limit and
            the last on the upper one, and a value goes to the nearest: IBEX's NumLevels, and NBins + 1 of its NID.
        histogram_bins: Bins of the histogram behind IH, GlobalEntropy and GlobalUniformity, placed like the levels:
            IBEX's NBins + 1.
        histogram_of: What 21 of the 31 IH features describe: the "heights" of the histogram's bins, as in IBEX's
            documentation and its own example, or the "values" of the voxels, as in later sources of IBEX; then they
            repeat ID.
        orientation_bins: Bins over 0 to 360 degrees of the gradient orientation histogram. Orientations end at 180, so
            half of the bins stay empty, as in IBEX.
        entropy_window: Side in pixels of the in-plane neighbourhood of LocalEntropy; odd (9 is MATLAB's default).
        range_window: The same for LocalRange (3 is MATLAB's default).
        std_window: The same for LocalStd (3 is MATLAB's default).
        nid_window: Side in voxels of the NID neighbourhood; odd; part of those features' names. Across slices it is as
            long in mm if the spacing is given, else as many voxels.
    """

    grey_limits: tuple[float, float] | None = (0.0, 1400.0)  # HU -1000..400: lung and soft tissue, not bone
    levels: int = 64
    histogram_bins: int = 256
    histogram_of: str = "heights"
    orientation_bins: int = 64
    entropy_window: int = 9
    range_window: int = 3
    std_window: int = 3
    nid_window: int = 3

    def __post_init__(self) -> None:
        if self.grey_limits is not None:
            low, high = self.grey_limits
            if not low < high:
                raise ValueError(f"`grey_limits` must be two ascending CT numbers, got {self.grey_limits!r}.")
            object.__setattr__(self, "grey_limits", (float(low), float(high)))  # a list becomes hashable
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_window") and (value < 3 or value % 2 == 0):
                raise ValueError(f"`{field.name}` must be an odd number of pixels, at least 3, got {value!r}.")
            if field.name == "histogram_of" and value not in HISTOGRAM_READINGS:
                raise ValueError(f"`histogram_of` must be one of {HISTOGRAM_READINGS}, got {value!r}.")
            if field.name in ("levels", "histogram_bins", "orientation_bins") and value < 2:
                raise ValueError(f"`{field.name}` must be at least 2, got {value!r}.")

    @property
    def margin(self) -> int:
        """Return the in-plane margin around a region, in pixels, that its features depend on."""
        return max(self.entropy_window, self.range_window, self.std_window) // 2


DEFAULT_SETTINGS = RadiomicSettings()
