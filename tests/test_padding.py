"""What lies beyond the border of an image."""

import numpy as np
import pytest
import torch

from diffusionct_pipeline.padding import REACH, continued, continued_into_padding


def test_slopes_go_on():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    plane = (2 * x - 3 * y)[None, None]
    wide = continued(plane, 3, 1, 2, 4)
    y, x = torch.meshgrid(torch.arange(-2.0, 9), torch.arange(-3.0, 8), indexing="ij")
    torch.testing.assert_close(wide, (2 * x - 3 * y)[None, None])


def test_what_was_there_stays():
    image = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(continued(image, 2, 3, 1, 0)[..., 1:5, 2:8], image)


@pytest.mark.parametrize("margin", [0, 1, 5, 20])
def test_small_images_are_continued_as_often_as_it_takes(margin):
    image = torch.randn(1, 1, 2, 3, generator=torch.Generator().manual_seed(0))
    wide = continued(image, margin, margin, margin, margin)
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
        filled = continued_into_padding(hu, circle, self.AIR)
        np.testing.assert_array_equal(filled[~circle], hu[~circle])
        assert filled.dtype == np.float32

    def test_tissue_goes_on_and_fades_into_air(self, circle):
        filled = continued_into_padding(np.where(circle, -2048, 40), circle, self.AIR)
        row = filled[80]
        assert abs(row[141] - 40) < 10, "no step at the rim"
        assert (np.diff(row[140:]) <= 1e-3).all() and filled[0, 0] < self.AIR + 300 and REACH < 60
        assert filled.min() >= self.AIR and filled.max() <= 40

    def test_texture_goes_on(self, circle):
        hu = np.random.default_rng(0).normal(0, 30, circle.shape)
        filled = continued_into_padding(np.where(circle, -2048, hu), circle, self.AIR)
        y, x = np.indices(circle.shape) - 79.5
        ring = (np.hypot(y, x) > 61) & (np.hypot(y, x) < 65)
        assert 20 < filled[ring].std() < 45

    @pytest.mark.parametrize("everywhere", (True, False))
    def test_all_or_nothing_of_it(self, everywhere):
        filled = continued_into_padding(np.full((8, 8), 7.0), np.full((8, 8), everywhere), self.AIR)
        assert (filled == (self.AIR if everywhere else 7.0)).all()
