import numpy as np
import pytest

from diffusionct_pipeline.metrics.combat import combat


def two_kernels(samples=20, features=30, seed=0):
    """Features of `samples` tumours in two batches: shifted and scaled, by amounts that vary over the features."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(50, 10, features) + rng.normal(0, 3, (samples, features))
    batch = np.arange(samples) % 2
    moved = (truth - 50) * rng.uniform(1.5, 2.5, features) + 50 + rng.normal(8, 1)
    return np.where(batch[:, None] == 1, moved, truth), batch


def test_batches_agree_in_mean_and_spread_afterwards():
    measured, batch = two_kernels()
    corrected = combat(measured, batch)

    def difference(x):
        return np.abs(x[batch == 1].mean(0) - x[batch == 0].mean(0)).mean()

    def ratio(x):
        return np.exp(np.abs(np.log(x[batch == 1].std(0) / x[batch == 0].std(0))).mean())

    assert difference(corrected) < 0.2 * difference(measured)
    assert ratio(measured) > 1.5 and ratio(corrected) < 1.3


def test_two_large_batches_are_standardized_completely():
    # with many samples the prior has no say: location and scale of each batch become those of all
    measured, batch = two_kernels(samples=4000, features=5)
    corrected = combat(measured, batch)
    for b in (0, 1):
        np.testing.assert_allclose(corrected[batch == b].mean(0), measured.mean(0), atol=0.05)
    np.testing.assert_allclose(corrected[batch == 1].std(0), corrected[batch == 0].std(0), rtol=0.02)


def test_posterior_solves_the_published_equations():
    """The shrunken location and scale, recovered from the output, are the fixed point of Johnson et al., Eq. 3.1."""
    measured, batch = two_kernels()
    corrected = combat(measured, batch)
    grand = np.mean([measured[batch == b].mean(0) for b in (0, 1)], axis=0)  # batches of one size
    residual = measured - np.stack([measured[batch == b].mean(0) for b in batch])
    scale = np.sqrt((residual**2).mean(0))
    z, out = (measured - grand) / scale, (corrected - grand) / scale
    for b in (0, 1):
        zb, ob = z[batch == b], out[batch == b]
        d = (zb.std(0) / ob.std(0)) ** 2  # out = (z - g) / sqrt(d)
        g = zb.mean(0) - np.sqrt(d) * ob.mean(0)
        gamma, delta2, n = zb.mean(0), zb.var(0, ddof=1), len(zb)
        tau2, m, s2 = gamma.var(ddof=1), delta2.mean(), delta2.var(ddof=1)
        shape, rate = m**2 / s2 + 2, m**3 / s2 + m  # mean m and variance s2 of the inverse gamma
        np.testing.assert_allclose(g, (n * tau2 * gamma + d * gamma.mean()) / (n * tau2 + d), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(d, (rate + ((zb - g) ** 2).sum(0) / 2) / (n / 2 + shape - 1), rtol=1e-5)


def test_a_covariate_keeps_its_effect():
    measured, batch = two_kernels()
    size = np.random.default_rng(1).normal(size=len(batch)) + batch  # larger tumours in one batch
    with_effect = measured + 6 * size[:, None]
    slope = [np.polyfit(size, c, 1)[0] for c in (combat(with_effect, batch, size)).T]
    blind = [np.polyfit(size, c, 1)[0] for c in (combat(with_effect, batch)).T]
    assert abs(np.mean(slope) - 6) < 1 < abs(np.mean(blind) - 6)


@pytest.mark.parametrize("with_covariate", [False, True])
def test_equals_neurocombat(with_covariate):
    neuro = pytest.importorskip("neuroCombat")
    import pandas

    measured, batch = two_kernels()
    size = np.random.default_rng(1).normal(size=len(batch))
    table = pandas.DataFrame({"batch": batch + 1, "size": size})
    continuous = ["size"] if with_covariate else []
    theirs = neuro.neuroCombat(dat=measured.T, covars=table, batch_col="batch", continuous_cols=continuous)["data"].T
    ours = combat(measured, batch, size if with_covariate else None)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # its iteration stops at 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(features=np.full((20, 30), np.nan)), "must be finite, got 30 columns"),
        (dict(features=np.ones((20, 30))), "got 30 constant columns, such as 0"),
        (dict(features=np.ones((20, 1))), "at least two features"),
        (dict(batch=np.zeros(20)), "at least 2 batches"),
        (dict(batch=np.arange(20)), "at least 2 batches"),
        (dict(batch=np.zeros(3)), "one label for each of the 20 samples"),
        (dict(covariates=np.arange(20) % 2), "linearly independent of the batches"),
    ],
)
def test_what_leaves_the_model_undefined_is_refused(change, message):
    measured, batch = two_kernels()
    with pytest.raises(ValueError, match=message):
        combat(**(dict(features=measured, batch=batch) | change))
