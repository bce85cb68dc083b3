"""Which target suits a cohort: from the kernels of its series to names of the table, and to the noise that all can have.

Two targets are offered. Just below the softest series every other one is smoothed, which invents nothing. The commonest kernel
changes the fewest series, and sharpens the softer ones. Where doses differ, each keeps its own noise under either of them, unless
one level is asked for: noise can be added to all up to the noisiest, and not be taken from it.
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

UNSURE = 1.25  # how far the 90 % interval of MTF50 may reach, as a ratio; what a header alone tells reaches 1.31
AS_SOFT = (
    1.02  # ratio up to which a kernel is not above a series: no slice tells two MTF50 that near to each other apart
)
ALIKE = 1.1  # ratio of MTF50 up to which two series count as of one kernel; the next of a family has 1.15 to 1.3
MIXED = 1.2  # ratio of noise under one target from which on doses differ: 1.4 times the dose
OTHER_PARTS = ("H", "U")  # Siemens: kernels for the head, and for the inner ear and joints
# Kernels whose numbers are only remembered are no targets: derived images are named after them.
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
        series: Whose kernel it was chosen by, numbers from 0.
        mtf50: What these have, median, lp/cm.
        noise_hu: Lowest and highest noise in soft tissue that the series would have under it, each with its own dose; None
            where no series tells.
    """

    kernel: Kernel
    series: tuple[int, ...]
    mtf50: float
    noise_hu: tuple[float, float] | None = None

    @property
    def common_noise_hu(self) -> int | None:
        """Whole HU of noise that all series can have, None where they hardly differ: noise is added, never removed."""
        if self.noise_hu is None or self.noise_hu[1] <= MIXED * self.noise_hu[0]:
            return None
        return math.ceil(self.noise_hu[1])


@dataclass(frozen=True)
class Advice:
    """What to standardize a cohort to; series by their numbers, from 0.

    Attributes:
        softest: The softest target that loses nothing; None where no kernel is sure.
        commonest: The commonest kernel; None likewise.
        unsure: Series that were left out of the choice, because their kernel is unsure.
        missed: Series whose trial missed the checkpoint's own standard.
        unseen: Series that do not show whether they reach it.
        smoothed: Series whose noise was surely smoothed by more than a kernel: their dose is not known.
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
        pipe: A checkpoint with `has_texture_latent`, by which the series were tried.
        measured: All series.

    Returns:
        None where the MTF of the checkpoint's standard is not known: then it takes no target by name.
    """
    if pipe.resolve_target().texture_mtf is None:
        return None
    mtf50 = [item.mtf50 if is_sure(item.kernel) else None for item in measured]
    softest, commonest = softest_target(mtf50), commonest_target(mtf50, [item.protocol.kernel for item in measured])
    trials = {i: item.trial for i, item in enumerate(measured) if item.trial is not None}

    def with_noise(choice: Choice | None) -> Choice | None:
        if choice is None:
            return None
        target = pipe.resolve_target(choice.kernel.name)
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
    """Whether a kernel is known well enough to choose a target by it."""
    return kernel is not None and kernel.mtf50_interval()[1] <= UNSURE * kernel.mtf50


def softest_target(mtf50: Sequence[float | None]) -> Choice | None:
    """Choose the kernel just below the softest series, so that every series can reach it without being sharpened.

    Args:
        mtf50: Of each series in lp/cm, None where it is unsure.

    Returns:
        The softest kernel of the table for a series that is softer than all of them; None without any sure series.
    """
    known = {i: value for i, value in enumerate(mtf50) if value is not None}
    if not known:
        return None
    series = min(known, key=known.__getitem__)
    below = [kernel for kernel in SUGGESTED if kernel.mtf50 <= AS_SOFT * known[series]]
    return Choice(max(below, key=lambda kernel: kernel.mtf50, default=SUGGESTED[0]), (series,), known[series])


def commonest_target(mtf50: Sequence[float | None], names: Sequence[str]) -> Choice | None:
    """Choose the kernel that most series have, whatever their dose; of two as common the softer one.

    Args:
        mtf50: Of each series in lp/cm, None where it is unsure.
        names: Kernel in the header of each: the commonest among these series is taken where the measurement bears it out,
            else the nearest kernel of the table.

    Returns:
        None without any sure series.
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
    """The advice in short, a line for each target."""
    lines = []
    for name, choice in (("softest target that loses nothing", advice.softest), ("commonest kernel", advice.commonest)):
        if choice is None:
            lines.append(f"{name}: the kernel of no series is sure enough")
            continue
        level = "target" if advice.smoothed else choice.common_noise_hu
        lines.append(f"{name}: {COMMAND.format(choice.kernel.name)}" + (f" --noise {level}" if level else ""))
    return lines


def advice_text(advice: Advice, count: int, standard_name: str) -> list[str]:
    """The advice as paragraphs of Markdown.

    Args:
        advice: What to say.
        count: Number of series.
        standard_name: Kernel of the checkpoint's standard.
    """
    if advice.softest is None:
        text = ["The kernel of no series is sure enough to choose a target by it.\n"]
    else:
        text = _softest_text(advice.softest) + _commonest_text(advice.commonest, advice.softest, count)
    missed = (
        f"{len(advice.missed) or 'None'} of {count} series would miss the checkpoint's own standard, {standard_name}"
    )
    text.append(f"{missed}{_numbers(advice.missed)}.\n")
    if advice.smoothed:
        text.append(
            f"Noise was smoothed, as iterative reconstruction and denoising do, in {len(advice.smoothed)} series"
            f"{_numbers(advice.smoothed)}: their dose cannot be told. To compare them with the others, give all of them "
            "`--noise target`.\n"
        )
    if advice.unseen:
        text.append(f"Series that do not show whether they reach it: {len(advice.unseen)}{_numbers(advice.unseen)}.\n")
    if advice.unsure:
        text.append(f"Kernel unsure, left out of the choice: {len(advice.unsure)} series{_numbers(advice.unsure)}.\n")
    return text


def _softest_text(choice: Choice) -> list[str]:
    kernel, softest = (
        choice.kernel,
        f"the softest series, {choice.series[0] + 1}, has an MTF50 of {choice.mtf50:.1f} lp/cm",
    )
    if kernel.mtf50 <= AS_SOFT * choice.mtf50:
        said = f"Softest target that loses nothing: {kernel.name} ({kernel.mtf50:.1f} lp/cm), which every series reaches by "
        return [f"{said}smoothing alone: {softest}.\n", *_command(choice)]
    said = f"Softest target: {kernel.name} ({kernel.mtf50:.1f} lp/cm), the softest kernel of the table; "
    return [f"{said}{softest} and would be sharpened.\n", *_command(choice)]


def _commonest_text(choice: Choice, softest: Choice, count: int) -> list[str]:
    kernel, share = choice.kernel, f"found in {len(choice.series)} of {count} series, at about {choice.mtf50:.1f} lp/cm"
    if kernel.name == softest.kernel.name:
        return [f"It is the commonest kernel as well, {share}.\n"]
    said = f"Commonest kernel: {kernel.name} ({kernel.mtf50:.1f} lp/cm), {share}. Softer series would be sharpened.\n"
    return [said, *_command(choice)]


def _command(choice: Choice) -> list[str]:
    """The command to run, and what it takes for one noise level."""
    lines = [f"    {COMMAND.format(choice.kernel.name)}\n"]
    if choice.common_noise_hu is not None:
        low, high = choice.noise_hu
        lines.append(f"Doses differ: noise in soft tissue would be {low:.0f} to {high:.0f} HU under {choice.kernel.name}. For "
                     f"one noise level, add `--noise {choice.common_noise_hu}`, the lowest that all series can reach, or "
                     "`--noise target`, the level of the checkpoint's standard.\n")  # fmt: skip
    return lines


def _numbers(series: Sequence[int]) -> str:
    """ " (1, 4)", or "" for none."""
    return f" ({', '.join(str(i + 1) for i in series)})" if series else ""
