"""Correct batch effects of features by ComBat (empirical Bayes), the usual remedy where only features matter.

Johnson, Li, Rabinovic, "Adjusting batch effects in microarray expression data using empirical Bayes methods",
Biostatistics 8, 2007, parametric priors; for imaging, Fortin et al., NeuroImage 167, 2018. It corrects features, not
images, and needs several samples of every batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_TOLERANCE = 1e-8  # of the posterior iteration, in units of the scale; the authors stop at 1e-4
_STILL = 1e-12  # spread relative to the magnitude up to which it is rounding only
_MAX_ITERATIONS = 1000  # it converges in about ten


def combat(features: ArrayLike, batch: Sequence | np.ndarray, covariates: ArrayLike | None = None) -> np.ndarray:
    """Remove location and scale of each batch from every feature.

    Args:
        features: (samples, features), finite; at least two features, none constant. Columns share their prior, so
            leave out undefined features and duplicates.
        batch: One label per sample, e.g. the kernel; at least two batches of two samples.
        covariates: (samples,) or (samples, C) numbers whose effect is to be preserved, e.g. the tumour's volume.

    Returns:
        (samples, features), float64.

    Raises:
        ValueError: for features, batches or covariates that leave the model undefined.
    """
    y = np.asarray(features, float)
    design, of_batch = _design(y, batch, covariates)  # [N, batches + C], [batches, N] bool
    n_batches, samples = of_batch.shape

    # 1. Standardize: y = alpha + X beta + gamma_batch + delta_batch * noise.
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    grand_mean = of_batch.mean(1) @ beta[:n_batches]
    kept = grand_mean + design[:, n_batches:] @ beta[n_batches:]
    scale = np.sqrt(((y - design @ beta) ** 2).mean(0))
    still = np.flatnonzero(scale <= _STILL * np.abs(y).max(0))
    if len(still):
        raise ValueError(f"`features` must vary, got {len(still)} constant columns, such as {still[0]}; leave them out")
    z = (y - kept) / scale

    # 2. Shrink each batch's location and scale towards the distribution of its features.
    corrected = np.empty_like(z)
    for member in of_batch:
        g, d = _shrunk(z[member])
        # 3. Remove them.
        corrected[member] = (z[member] - g) / np.sqrt(d)
    return corrected * scale + kept


@dataclass(frozen=True, eq=False)
class ReferenceComBat:
    """Move one batch to a reference batch, which stays unchanged; also for samples that it was not fitted on.

    The reference batch of Stein et al., BMC Bioinformatics 16, 2015: location and scale are those of the reference.

    Attributes:
        mean, scale: (features,) of the reference.
        shift, variance: (features,) of the batch in units of `scale`, shrunk towards the distribution over its features.
    """

    mean: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    variance: np.ndarray

    @classmethod
    def fit(cls, batch: ArrayLike, reference: ArrayLike) -> ReferenceComBat:
        """Fit to (samples, features) of the batch and of the reference, which need not be of the same patients.

        Raises:
            ValueError: for fewer than two samples or features, or a feature that is undefined or constant in either.
        """
        batch, reference = np.asarray(batch, float), np.asarray(reference, float)
        for name, part in (("batch", batch), ("reference", reference)):
            if part.ndim != 2 or min(part.shape) < 2 or not np.isfinite(part).all():
                raise ValueError(
                    f"`{name}` must be finite, with at least two samples and two features, got shape {part.shape}"
                )
            if (part.std(0) <= _STILL * np.abs(part).max(0)).any():
                raise ValueError(f"`{name}` must not have constant features; leave them out")
        mean, scale = reference.mean(0), reference.std(0)
        return cls(mean, scale, *_shrunk((batch - mean) / scale))

    def transform(self, batch: ArrayLike) -> np.ndarray:
        """Move (samples, features) of the batch to the reference."""
        z = (np.asarray(batch, float) - self.mean) / self.scale
        return (z - self.shift) / np.sqrt(self.variance) * self.scale + self.mean


def _shrunk(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return location and variance of a standardized batch (samples, features), shrunk towards those of its features."""
    n = len(z)
    gamma, delta2 = z.mean(0), z.var(0, ddof=1)
    gamma_bar, tau2 = gamma.mean(), gamma.var(ddof=1)  # normal prior of the location
    m, s2 = delta2.mean(), delta2.var(ddof=1)
    if s2 == 0:
        raise ValueError("`features` must not all have the same spread within a batch, as copies of one feature have")
    shape, rate = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2  # inverse-gamma prior of the scale, by moments
    g, d = gamma, delta2
    for _ in range(_MAX_ITERATIONS):
        g_new = (n * tau2 * gamma + d * gamma_bar) / (n * tau2 + d)
        d_new = (rate + 0.5 * ((z - g_new) ** 2).sum(0)) / (n / 2 + shape - 1)
        change = max((np.abs(g_new - g) / np.sqrt(d)).max(), (np.abs(d_new - d) / d).max())
        g, d = g_new, d_new
        if change < _TOLERANCE:
            break
    return g, d


def _design(y: np.ndarray, batch: Sequence | np.ndarray, covariates: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the design matrix (batch indicators, then covariates) and the indicators as bool, after checking all three."""
    batch = np.asarray(batch)
    if y.ndim != 2 or y.shape[1] < 2:
        raise ValueError(f"`features` must be (samples, features) with at least two features, got shape {y.shape}")
    bad = np.flatnonzero(~np.isfinite(y).all(0))
    if len(bad):
        raise ValueError(
            f"`features` must be finite, got {len(bad)} columns that are not, such as {bad[0]}; leave them out"
        )
    if batch.shape != (len(y),):
        raise ValueError(f"`batch` must hold one label for each of the {len(y)} samples, got shape {batch.shape}")
    labels, counts = np.unique(batch, return_counts=True)
    if len(labels) < 2 or counts.min() < 2:
        found = dict(zip(labels.tolist(), counts.tolist()))
        raise ValueError(f"`batch` must hold at least 2 batches of at least 2 samples, got {found}")
    of_batch = labels[:, None] == batch
    columns = np.empty((len(y), 0)) if covariates is None else np.asarray(covariates, float).reshape(len(y), -1)
    design = np.column_stack([of_batch.T.astype(float), columns])
    if not np.isfinite(columns).all() or np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("`covariates` must be finite and linearly independent of the batches")
    return design, of_batch
