"""Targets for a cohort: kernels of the table, chosen by the kernels of its series, and a noise level that all can have.

Two targets are offered. With a target just below the softest series, all series are smoothed and no texture is invented. The most
common kernel changes the fewest series, and sharpens the softer ones. Where doses differ, each series keeps its own noise, unless
one level is requested: noise can be added up to the level of the noisiest series, but not removed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..estimation import KernelEstimate
from ..method.reached import TOLERANCE
from ..method.step import SURELY_SMOOTHED
from ..physics.kernels import KERNELS, Kernel, find_kernel
from ..pipeline import DiffusionCTPipeline

if TYPE_CHECKING:
    from .measure import MeasuredSeries

UNSURE = 1.25  # largest ratio of the upper end of the 90 % interval to MTF50; 1.31 where only the header is known
AS_SOFT = 1.02  # ratio of MTF50 up to which a kernel is not sharper than a series: slices do not resolve less
ALIKE = 1.1  # ratio of MTF50 up to which two series count as one kernel; neighbours in a family differ by 1.15 to 1.3
MIXED = 1.2  # ratio of noise under one target above which doses differ: 1.4 times the dose
OTHER_PARTS = ("H", "U")  # Siemens kernels for the head, and for the inner ear and joints
# Kernels with uncertain numbers are not suggested, as derived images are named after their target.
SUGGESTED = sorted(
    (
        k
        for k in KERNELS.values()
        if k.confidence in ("measured", "interpolated") and not k.name.startswith(OTHER_PARTS)
    ),
    key=lambda kernel: kernel.mtf50,
)
COMMAND = "diffusionct standardize IN OUT --target {}"


@dataclass(frozen=True)
class Choice:
    """One target for all series.

    Attributes:
        kernel: The target.
        series: Indices of the series that it was chosen by, from 0.
        mtf50: Their median MTF50 in lp/cm.
        noise_hu: Lowest and highest noise in soft tissue of the series under this target, each at its own dose; None where
            it is unknown.
    """

    kernel: Kernel
    series: tuple[int, ...]
    mtf50: float
    noise_hu: tuple[float, float] | None = None

    @property
    def common_noise_hu(self) -> int | None:
        """Noise level in whole HU that all series can have, as noise is only added; None where they hardly differ."""
        if self.noise_hu is None or self.noise_hu[1] <= MIXED * self.noise_hu[0]:
            return None
        return math.ceil(self.noise_hu[1])


@dataclass(frozen=True)
class Advice:
    """Targets for a cohort. Series are given by their indices, from 0.

    Attributes:
        softest: The softest target that loses nothing; None where no kernel is certain.
        commonest: The most common kernel; None likewise.
        unsure: Series left out of the choice, because their kernel is uncertain.
        missed: Series whose trial missed the checkpoint's own standard.
        unseen: Series that do not show whether they reach it.
        smoothed: Series whose noise was certainly smoothed beyond their kernel, so that their dose is unknown.
    """

    softest: Choice | None
    commonest: Choice | None
    unsure: list[int]
    missed: list[int]
    unseen: list[int]
    smoothed: list[int]


def advise(pipe: DiffusionCTPipeline, measured: Sequence[MeasuredSeries]) -> Advice | None:
    """Choose targets for a cohort.

    Args:
        pipe: A checkpoint with `has_texture_latent`, with which the series were tried.
        measured: All series.

    Returns:
        None where the checkpoint takes no target by name, as the MTF of its standard is not known.
    """
    standard = pipe.resolve_target()
    if standard is None or standard.texture_mtf is None:
        return None
    mtf50 = [item.mtf50 if is_sure(item.kernel) else None for item in measured]
    softest, commonest = softest_target(mtf50), commonest_target(mtf50, [item.protocol.kernel for item in measured])
    trials = {i: item.trial for i, item in enumerate(measured) if item.trial is not None}

    def with_noise(choice: Choice | None) -> Choice | None:
        if choice is None:
            return None
        target = pipe.resolve_target(choice.kernel.name)
        assert target is not None  # the checkpoint takes targets
        steps = [pipe.step(trial.source, target) for trial in trials.values()]
        levels = [step.noise_hu[1] for step in steps if step.noise == "keep" and step.noise_hu is not None]
        return Choice(choice.kernel, choice.series, choice.mtf50, (min(levels), max(levels)) if levels else None)

    return Advice(
        softest=with_noise(softest),
        commonest=with_noise(commonest),
        unsure=[i for i, value in enumerate(mtf50) if value is None],
        missed=[i for i, trial in trials.items() if trial.reached.is_missed],
        unseen=[i for i, trial in trials.items() if not (trial.reached.is_reached or trial.reached.is_missed)],
        smoothed=[i for i, trial in trials.items() if trial.source.smoothed > SURELY_SMOOTHED],
    )


def is_sure(kernel: KernelEstimate | None) -> bool:
    """Return whether a kernel is known well enough to choose a target by it."""
    return kernel is not None and kernel.mtf50_interval()[1] <= UNSURE * kernel.mtf50


def softest_target(mtf50: Sequence[float | None]) -> Choice | None:
    """Choose the kernel just below the softest series, so that every series can reach it without being sharpened.

    Args:
        mtf50: Of each series in lp/cm; None where it is uncertain.

    Returns:
        The softest kernel of the table if a series is softer than all of them; None if no series is certain.
    """
    known = {i: value for i, value in enumerate(mtf50) if value is not None}
    if not known:
        return None
    series = min(known, key=known.__getitem__)
    below = [kernel for kernel in SUGGESTED if kernel.mtf50 <= AS_SOFT * known[series]]
    return Choice(max(below, key=lambda kernel: kernel.mtf50, default=SUGGESTED[0]), (series,), known[series])


def commonest_target(mtf50: Sequence[float | None], names: Sequence[str]) -> Choice | None:
    """Choose the kernel that most series have, whatever their dose; of equally common ones the softer.

    Args:
        mtf50: Of each series in lp/cm; None where it is uncertain.
        names: Kernel in the header of each. The most common one among these series is chosen if the measurement confirms it,
            otherwise the nearest kernel of the table.

    Returns:
        None if no series is certain.
    """
    known = {i: value for i, value in enumerate(mtf50) if value is not None}
    if not known:
        return None
    alike = [[j for j in known if 1 / ALIKE <= known[j] / centre <= ALIKE] for centre in sorted(known.values())]
    series = max(alike, key=len)
    middle = float(np.median([known[i] for i in series]))
    for name, _ in Counter(names[i] for i in series).most_common():
        kernel = find_kernel(name)
        if kernel is not None and abs(middle / kernel.mtf50 - 1) <= TOLERANCE:
            return Choice(kernel, tuple(series), middle)
    return Choice(min(SUGGESTED, key=lambda kernel: abs(math.log(kernel.mtf50 / middle))), tuple(series), middle)


def advice_lines(advice: Advice) -> list[str]:
    """Return the advice in short, a line for each target."""
    lines = []
    for name, choice in (
        ("softest target that loses nothing", advice.softest),
        ("most common kernel", advice.commonest),
    ):
        if choice is None:
            lines.append(f"{name}: no series has a certain kernel")
            continue
        level = "target" if advice.smoothed else choice.common_noise_hu
        lines.append(f"{name}: {COMMAND.format(choice.kernel.name)}" + (f" --noise {level}" if level else ""))
    return lines


def advice_text(advice: Advice, count: int, standard_name: str) -> list[str]:
    """Return the advice as paragraphs of Markdown.

    Args:
        advice: The advice.
        count: Number of series.
        standard_name: Kernel of the checkpoint's standard.
    """
    if advice.softest is None or advice.commonest is None:
        text = ["No series has a kernel that is certain enough to choose a target by it.\n"]
    else:
        text = _softest_text(advice.softest) + _commonest_text(advice.commonest, advice.softest, count)
    missed = (
        f"{len(advice.missed) or 'None'} of {count} series would miss the checkpoint's own standard, {standard_name}"
    )
    text.append(f"{missed}{_numbers(advice.missed)}.\n")
    if advice.smoothed:
        text.append(
            f"The noise of {len(advice.smoothed)} series{_numbers(advice.smoothed)} was smoothed, as by iterative "
            "reconstruction or denoising, which hides their dose. To compare them with the others, standardize all of them with "
            "`--noise target`.\n"
        )
    if advice.unseen:
        text.append(f"Series that do not show whether they reach it: {len(advice.unseen)}{_numbers(advice.unseen)}.\n")
    if advice.unsure:
        text.append(
            f"Kernel uncertain, left out of the choice: {len(advice.unsure)} series{_numbers(advice.unsure)}.\n"
        )
    return text


def _softest_text(choice: Choice) -> list[str]:
    kernel = choice.kernel
    softest = f"the softest series, {choice.series[0] + 1}, has an MTF50 of {choice.mtf50:.1f} lp/cm"
    if kernel.mtf50 <= AS_SOFT * choice.mtf50:
        said = f"Softest target that loses nothing: {kernel.name} ({kernel.mtf50:.1f} lp/cm), which every series reaches by "
        return [f"{said}smoothing alone: {softest}.\n", *_command(choice)]
    said = f"Softest target: {kernel.name} ({kernel.mtf50:.1f} lp/cm), the softest kernel of the table; "
    return [f"{said}{softest} and would be sharpened.\n", *_command(choice)]


def _commonest_text(choice: Choice, softest: Choice, count: int) -> list[str]:
    kernel, share = choice.kernel, f"found in {len(choice.series)} of {count} series, at about {choice.mtf50:.1f} lp/cm"
    if kernel.name == softest.kernel.name:
        return [f"It is also the most common kernel, {share}.\n"]
    said = f"Most common kernel: {kernel.name} ({kernel.mtf50:.1f} lp/cm), {share}. Softer series would be sharpened.\n"
    return [said, *_command(choice)]


def _command(choice: Choice) -> list[str]:
    """Return the command to run, and the option for one noise level."""
    lines = [f"    {COMMAND.format(choice.kernel.name)}\n"]
    if choice.noise_hu is not None and choice.common_noise_hu is not None:
        low, high = choice.noise_hu
        lines.append(f"Doses differ: noise in soft tissue would be {low:.0f} to {high:.0f} HU under {choice.kernel.name}. For "
                     f"one noise level, add `--noise {choice.common_noise_hu}`, the lowest that all series can reach, or "
                     "`--noise target`, the level of the checkpoint's standard.\n")  # fmt: skip
    return lines


def _numbers(series: Sequence[int]) -> str:
    """Return series numbers as " (1, 4)", or "" for none."""
    return f" ({', '.join(str(i + 1) for i in series)})" if series else ""
