"""What lies beyond the border of an image."""

import pytest
import torch
from diffusionct_pipeline.padding import continued


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
