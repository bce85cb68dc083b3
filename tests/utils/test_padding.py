"""What lies beyond the border of an image."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from diffusionct_pipeline.utils.padding import beyond_circle, extend_into_padding, pad_odd_reflect


def test_slopes_go_on():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    plane = (2 * x - 3 * y)[None, None]
    wide = pad_odd_reflect(plane, 3, 1, 2, 4)
    y, x = torch.meshgrid(torch.arange(-2.0, 9), torch.arange(-3.0, 8), indexing="ij")
    torch.testing.assert_close(wide, (2 * x - 3 * y)[None, None])


def test_what_was_there_stays():
    image = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pad_odd_reflect(image, 2, 3, 1, 0)[..., 1:5, 2:8], image)


@pytest.mark.parametrize("margin", [0, 1, 5, 20])
def test_small_images_are_continued_as_often_as_it_takes(margin):
    image = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    wide = pad_odd_reflect(image, margin, margin, margin, margin)
    assert wide.shape == (1, 1, 2 + 2 * margin, 3 + 2 * margin) and wide.isfinite().all()


class TestIntoPadding:
    AIR = -1024.0

    @pytest.fixture
    def circle(self):
        """True outside a field of view."""
        y, x = np.indices((160, 160)) - 79.5
        return np.hypot(y, x) > 60

    def test_what_was_measured_stays(self, circle):
        hu = np.random.default_rng(0).normal(0, 30, circle.shape).astype(np.float32)
        filled = extend_into_padding(hu, circle, self.AIR)
        np.testing.assert_array_equal(filled[~circle], hu[~circle])
        assert filled.dtype == np.float32

    def test_tissue_goes_on_and_fades_into_air(self, circle):
        filled = extend_into_padding(np.where(circle, -2048, 40), circle, self.AIR)
        row = filled[80, 140:]
        assert abs(row[0] - 40) < 20, "no step at the rim"
        assert (np.diff(row) <= 1e-3).all() and np.diff(row).min() > -150 and filled[0, 0] < self.AIR + 30
        assert filled.min() >= self.AIR and filled.max() <= 40

    def test_noise_makes_no_pattern(self, circle):
        """What is fine fades fast: a sharpening filter would enlarge it."""
        hu = np.random.default_rng(0).normal(0, 30, circle.shape)
        filled = extend_into_padding(np.where(circle, -2048, hu), circle, self.AIR)
        y, x = np.indices(circle.shape) - 79.5
        radius = np.hypot(y, x)
        fine = filled - gaussian_filter(filled, 1.5)
        assert fine[(radius > 63) & (radius < 68)].std() < 0.25 * fine[radius < 50].std()

    def test_where_the_rim_is_air_air_goes_on(self, circle):
        hu = np.full(circle.shape, -1000.0)
        hu[60:100, 60:100] = 40
        filled = extend_into_padding(np.where(circle, -2048, hu), circle, self.AIR)
        assert (filled[circle] == self.AIR).all()

    @pytest.mark.parametrize("everywhere", (True, False))
    def test_all_or_nothing_of_it(self, everywhere):
        filled = extend_into_padding(np.full((8, 8), 7.0), np.full((8, 8), everywhere), self.AIR)
        assert (filled == (self.AIR if everywhere else 7.0)).all()


class TestBeyondCircle:
    """Files of some vendors hold air where nothing was reconstructed."""

    def slice_hu(self, side=96, table=True):
        hu = np.random.default_rng(0).normal(-1000, 10, (side, side)).round()
        if table:
            hu[side - 20 : side - 15] = 100
        y, x = np.indices(hu.shape) - (side - 1) / 2
        outside = np.hypot(y, x) > side / 2
        return np.where(outside, -1024, hu), outside

    def test_it_is_found_where_a_table_reaches_the_rim(self):
        hu, outside = self.slice_hu()
        np.testing.assert_array_equal(beyond_circle(hu, -900.0), outside)

    @pytest.mark.parametrize("change", ["no table", "one other pixel", "not square", "not air"])
    def test_it_is_no_circle_otherwise(self, change):
        hu, outside = self.slice_hu(table=change != "no table")
        if change == "one other pixel":
            hu[0, 40] = -1000
        elif change == "not square":
            hu = hu[1:]
        elif change == "not air":
            hu[outside] = 0
        assert not beyond_circle(hu, -900.0).any()
