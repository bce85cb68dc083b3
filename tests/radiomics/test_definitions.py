"""NID, GOH and ID features against their definitions, written out voxel by voxel on a small region."""

import math

import numpy as np
import pytest

from diffusionct_pipeline.radiomics import RadiomicSettings, extract

LEVELS, LOW, HIGH = 8, 0.0, 1400.0
SETTINGS = RadiomicSettings(levels=LEVELS, grey_limits=(LOW, HIGH))


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(7).integers(-900, 300, (4, 9, 9)).astype(float)


@pytest.fixture(scope="module")
def mask():
    mask = np.zeros((4, 9, 9), bool)
    mask[:, 2:7, 1:7] = True
    mask[1, 2, 1] = False
    return mask


@pytest.mark.parametrize(
    ("family", "spacing", "reach"),
    [("NID25", None, 0), ("NID3", None, 1), ("NID3", (1, 1, 1), 1), ("NID3", (3, 1, 1), 0)],
)
def test_nid(image, mask, family, spacing, reach):
    """Only voxels with a whole neighbourhood in the region, which is as long across slices as within them."""
    ct = image + 1000
    n, S = np.zeros(LEVELS), np.zeros(LEVELS)
    for z, y, x in np.argwhere(mask):
        box = np.s_[max(z - reach, 0) : z + reach + 1, y - 1 : y + 2, x - 1 : x + 2]
        cube = ct[box]
        if cube.shape[0] < 2 * reach + 1 or not mask[box].all():
            continue
        level = math.floor((ct[z, y, x] - LOW) * (LEVELS - 1) / (HIGH - LOW) + 0.5)
        n[level] += 1
        S[level] += abs(ct[z, y, x] - (cube.sum() - ct[z, y, x]) / (cube.size - 1))
    b = LOW + np.arange(LEVELS) * (HIGH - LOW) / (LEVELS - 1)
    N, total, present = n.sum(), S.sum(), np.flatnonzero(n)
    p = n / N
    pairs = [(k, m) for k in present for m in present]
    expected = {
        "Coarseness": 1 / (total / N),
        "Contrast": total / N * sum((b[k] - b[m]) ** 2 * p[k] * p[m] for k, m in pairs) / len(pairs),
        "Busyness": total / N / sum(abs(b[k] * p[k] - b[m] * p[m]) for k, m in pairs),
        "Complexity": sum(abs(b[k] - b[m]) / (n[k] + n[m]) * (p[k] * S[k] + p[m] * S[m]) for k, m in pairs),
        "TextureStrength": sum((p[k] + p[m]) * (b[k] - b[m]) ** 2 for k, m in pairs) / total,
    }
    found = extract(image, mask, spacing, SETTINGS)
    for feature, value in expected.items():
        assert found[f"{family}/{feature}/nhood=3/bins={LEVELS}"] == pytest.approx(value, rel=1e-6), feature


def test_goh(image, mask):
    angles = []
    for z, y, x in np.argwhere(mask):
        rows = (image[z, y + 1, x] - image[z, y - 1, x]) / 2
        columns = (image[z, y, x + 1] - image[z, y, x - 1]) / 2
        angle = math.degrees(math.atan(rows / columns)) if columns else 90.0
        angles.append(angle + 180 if angle < 0 else angle)
    angles = np.array(angles)
    found = extract(image, mask)
    assert found["GOH/Range"] == pytest.approx(np.ptp(angles))
    assert found["GOH/MeanAbsoluteDeviation"] == pytest.approx(np.abs(angles - angles.mean()).mean())
    assert found["GOH/Percentile/p=35"] == pytest.approx(np.percentile(angles, 35, method="hazen"))
    # the area: cumulated from the first of 64 bins over 360 degrees, linear between bin centres
    area = [100 * (angles < 360 / 64 * (i + 1)).mean() for i in range(64)]
    i = next(i for i, a in enumerate(area) if a >= 55)
    share = (55 - area[i - 1]) / (area[i] - area[i - 1])
    assert found["GOH/PercentileArea/p=55"] == pytest.approx(360 / 64 * (i - 0.5 + share))


def test_local_statistics(image, mask):
    windows = [image[z, y - 1 : y + 2, x - 1 : x + 2] for z, y, x in np.argwhere(mask)]
    maps = {
        "Range": np.array([w.max() - w.min() for w in windows]),
        "Std": np.array([w.std(ddof=1) for w in windows]),
    }
    found = extract(image, mask)
    for name, m in maps.items():
        expected = {"Max": m.max(), "Min": m.min(), "Mean": m.mean(), "Median": np.median(m), "Std": m.std(ddof=1)}
        for statistic, value in expected.items():
            assert found[f"ID/Local{name}{statistic}"] == pytest.approx(value), (name, statistic)


def test_values_outside_the_limits_fall_into_the_end_levels(mask):
    hu = np.where(np.indices(mask.shape)[2] % 2, -1200.0, 2000.0)  # below air, and bone
    found = extract(hu, mask)
    assert found["ID/GlobalMin"] == 0 and found["ID/GlobalMax"] == 3000  # CT number: max(HU + 1000, 0)
    assert found["GLCM25/Contrast/d=1/dir=0/bins=64"] == 63**2  # neighbours in a row: level 1 beside level 64
    assert found["ID/GlobalEntropy"] == pytest.approx(
        -sum(p * np.log2(p) for p in ((hu[mask] > 0).mean(), (hu[mask] < 0).mean()))
    )
