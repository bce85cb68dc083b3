"""Measure how well kernels can still be distinguished by the features: .5 of two means that they cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..utils.optional import import_optional

FEWEST = 3  # patients of each kind; with fewer, nothing can be learnt
RESAMPLES = 1000
_STILL = 1e-9  # spread of a feature, relative to its magnitude, up to which it counts as constant


@dataclass(frozen=True)
class Told:
    """Hold the balanced accuracy of classifying kinds of images, each patient by a model of the others.

    Attributes:
        accuracy: Mean over the kinds of the fraction of regions that are classified correctly, 0 to 1.
        interval: 95 % interval over resampled patients.
        kinds: Kind -> number of regions.
        features: Number of features that were defined and varied.
    """

    accuracy: float
    interval: tuple[float, float]
    kinds: dict[str, int]
    features: int


def tell_apart(values: np.ndarray, kinds: Sequence[str], patients: Sequence, seed: int = 0) -> Told:
    """Classify kinds by logistic regression on standardized features, leaving one patient out at a time.

    Args:
        values: (regions, F); features that are undefined anywhere, or do not vary, are left out.
        kinds: The kind of each region, such as its kernel; at least two, with `FEWEST` patients each.
        patients: The patient of each region.
        seed: Seed of the resampling.

    Raises:
        ValueError: There are too few kinds, patients or features.
        ImportError: scikit-learn is missing.
    """
    of_kind, of_patient = np.asarray(kinds, str), np.asarray(patients, str)
    counts = {kind: len(set(of_patient[of_kind == kind])) for kind in sorted(set(of_kind.tolist()))}
    if len(counts) < 2 or min(counts.values()) < FEWEST:
        raise ValueError(f"there must be at least 2 kinds with at least {FEWEST} patients each, got {counts}")
    usable = np.isfinite(values).all(0)
    usable &= np.ptp(np.where(usable, values, 0), axis=0) > _STILL * np.abs(np.where(usable, values, 0)).max(0)
    if not usable.any():
        raise ValueError("no feature is defined in all regions and varies between them")
    import_optional("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    told = cross_val_predict(model, values[:, usable], of_kind, groups=of_patient, cv=LeaveOneGroupOut())
    right = (told == of_kind).astype(float)
    names, index = np.unique(of_patient, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    drawn = np.concatenate([np.ones((1, len(names))), drawn])[:, index]  # the first row weighs every patient once
    with np.errstate(invalid="ignore"):
        by_kind = [drawn @ (right * (of_kind == kind)) / (drawn @ (of_kind == kind)) for kind in counts]
    accuracy = np.mean(by_kind, axis=0)
    low, high = np.nanquantile(accuracy[1:], [0.025, 0.975])
    regions = {kind: int((of_kind == kind).sum()) for kind in counts}
    return Told(float(accuracy[0]), (float(low), float(high)), regions, int(usable.sum()))
