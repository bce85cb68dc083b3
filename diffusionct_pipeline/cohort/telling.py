"""How well the kernel can still be told from the features: .5 is a cohort in which it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..utils.optional import import_optional

FEWEST = 3  # patients of each kind, below which nothing is learnt
RESAMPLES = 1000
_STILL = 1e-9  # spread relative to the magnitude below which a feature says nothing


@dataclass(frozen=True)
class Told:
    """Balanced accuracy of telling kinds of images apart, each patient by what the others teach.

    Attributes:
        accuracy: Mean over the kinds of the share of regions that are told right, 0 to 1.
        interval: 95 %, over resampled patients.
        kinds: Kind -> number of regions.
        features: That were defined and varied.
    """

    accuracy: float
    interval: tuple[float, float]
    kinds: dict[str, int]
    features: int


def tell_apart(values: np.ndarray, kinds: Sequence[str], patients: Sequence, seed: int = 0) -> Told:
    """Tell kinds by logistic regression on standardized features, leaving one patient out at a time.

    Args:
        values: (regions, F); features that are undefined anywhere, or do not vary, are left out.
        kinds: Of each region, its kernel say; two at least, of `FEWEST` patients each.
        patients: Whom each region is of.
        seed: Of the resampling.

    Raises:
        ValueError: too few kinds, patients or features.
        ImportError: scikit-learn is missing.
    """
    kinds, patients = np.asarray(kinds, str), np.asarray(patients, str)
    counts = {kind: len(set(patients[kinds == kind])) for kind in sorted(set(kinds.tolist()))}
    if len(counts) < 2 or min(counts.values()) < FEWEST:
        raise ValueError(f"patients of each kind are {counts}; must be {FEWEST} or more of two kinds")
    usable = np.isfinite(values).all(0)
    usable &= np.ptp(np.where(usable, values, 0), axis=0) > _STILL * np.abs(np.where(usable, values, 0)).max(0)
    if not usable.any():
        raise ValueError("no feature is defined in all regions and varies")
    import_optional("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    told = cross_val_predict(model, values[:, usable], kinds, groups=patients, cv=LeaveOneGroupOut())
    right = (told == kinds).astype(float)
    names, index = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    drawn = np.concatenate([np.ones((1, len(names))), drawn])[:, index]  # the first row weighs every patient once
    with np.errstate(invalid="ignore"):
        of_kind = [drawn @ (right * (kinds == kind)) / (drawn @ (kinds == kind)) for kind in counts]
    accuracy = np.mean(of_kind, axis=0)
    low, high = np.nanquantile(accuracy[1:], [0.025, 0.975])
    kinds_of = {kind: int((kinds == kind).sum()) for kind in counts}
    return Told(float(accuracy[0]), (float(low), float(high)), kinds_of, int(usable.sum()))
