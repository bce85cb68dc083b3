"""Minimize least squares from several starts, with bounds, for models that evaluate many sets of parameters at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.optimize import OptimizeResult, least_squares

FIRST_STEPS, MOST_STEPS = 6, 60  # evaluations of every start, and of those that are then followed
FOLLOWED_COST = 12.0  # starts are followed if their cost is within this of the best
LEAST_WEIGHT = 0.05  # ends less probable than this, relative to the best, are dropped
MOST_STRETCHED = 4.0  # largest factor by which the distance between two ends is stretched or shortened
SAME_MODE = 0.05  # ends whose first parameter differs less, in log, are one mode

Parameter: TypeAlias = tuple[float, float, float, "float | None", "float | None"]
Values: TypeAlias = Mapping[str, np.ndarray]  # name -> (sets, 1)


@dataclass(frozen=True, eq=False)
class Fit:
    """Hold the result of a fit.

    Attributes:
        values: Name -> value of every parameter.
        covariance: Covariance of all parameters, in the order of `values`; Gauss-Newton.
        cost: Half the sum of the squared residuals.
    """

    values: dict[str, float]
    covariance: np.ndarray
    cost: float

    def covariance_of(self, names: Sequence[str]) -> np.ndarray:
        """Return the covariance of some parameters."""
        places = [list(self.values).index(name) for name in names]
        return self.covariance[np.ix_(places, places)]


def minimize(
    parameters: Mapping[str, Parameter],
    terms: Sequence[Callable[[Values], np.ndarray]],
    starts: Sequence[Mapping[str, float]],
    level: Callable[[Values], np.ndarray],
) -> Fit:
    """Minimize the sum of squares of all terms and of the parameters' deviations from their expected values.

    Args:
        parameters: Name -> (lowest, start, highest, expected, deviation from it), the last two None without a prior.
        terms: Functions that return (sets, residuals) for values of (sets, 1).
        starts: Values of some parameters to start from.
        level: Function that returns the quantity (sets,) whose uncertainty matters most.
    """
    names, rows = list(parameters), list(parameters.values())
    low, start, high = (np.array([row[i] for row in rows]) for i in range(3))
    expected = np.array([0.0 if row[3] is None else row[3] for row in rows])
    weight = np.array([0.0 if row[4] is None else 1 / row[4] for row in rows])
    steps = 1e-5 * (high - low)

    def evaluate(sets: np.ndarray) -> np.ndarray:
        """Return the residuals (sets, residuals) of (sets, parameters)."""
        values = {name: sets[:, i, None] for i, name in enumerate(names)}
        known = weight > 0
        return np.concatenate([((sets - expected) * weight)[:, known], *(term(values) for term in terms)], axis=1)

    def jacobian(at: np.ndarray) -> np.ndarray:
        step = np.where(at + steps > high, -steps, steps)
        found = evaluate(np.vstack([at, at + np.diag(step)]))
        return (found[1:] - found[0]).T / step

    def follow(at: np.ndarray, most: int) -> OptimizeResult:
        return least_squares(lambda x: evaluate(x[None])[0], at.clip(low + 1e-6, high - 1e-6), jacobian,
                             bounds=(low, high), x_scale=(high - low) / 10, max_nfev=most, ftol=1e-6, xtol=1e-6)  # fmt: skip

    begun = []
    for values in starts:
        first = start.copy()
        first[[names.index(name) for name in values]] = list(values.values())
        begun.append(follow(first, FIRST_STEPS))
    least = min(found.cost for found in begun)
    ends = [follow(found.x, MOST_STEPS) for found in begun if found.cost < least + FOLLOWED_COST]
    return _joined(names, sorted(ends, key=lambda found: found.cost), level)


def _joined(names: Sequence[str], ends: Sequence[OptimizeResult], level: Callable[[Values], np.ndarray]) -> Fit:
    """Return the best end, with the second moments of all ends about it, weighted by Laplace's approximation.

    With coarse pixels and noise alone there may be two: a soft kernel, and a sharp one that is aliased.
    """

    def level_at(at: np.ndarray) -> float:
        return float(level({name: np.array([[value]]) for name, value in zip(names, at)})[0])

    modes: list[OptimizeResult] = []
    for end in ends:
        if all(abs(np.log(end.x[0] / mode.x[0])) > SAME_MODE for mode in modes):
            modes.append(end)
    best, moments, log_weight = modes[0], [], []
    for mode in modes:
        covariance = np.linalg.pinv(mode.jac.T @ mode.jac)
        log_weight.append(np.linalg.slogdet(covariance)[1] / 2 - mode.cost)
        away = mode.x - best.x
        # Scaled so that the level's slope at the best end gives its true change.
        linear, true = (level_at(best.x + 1e-3 * away) - level_at(best.x)) / 1e-3, level_at(mode.x) - level_at(best.x)
        away = away * np.clip(abs(true) / max(abs(linear), 1e-9), 1 / MOST_STRETCHED, MOST_STRETCHED)
        moments.append(covariance + np.outer(away, away))
    weight = np.exp(np.array(log_weight) - max(log_weight))
    weight = np.where(weight < LEAST_WEIGHT, 0, weight)
    covariance = np.tensordot(weight / weight.sum(), moments, 1)
    return Fit(dict(zip(names, best.x.tolist())), covariance, float(best.cost))
