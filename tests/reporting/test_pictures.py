"""Pictures of slices: what the closer look shows, and that a warning can be read."""

import io
import json

import numpy as np
import pytest
from helpers.dicom import make_slice, ramp, save
from PIL import Image

from diffusionct_pipeline.comparison.systems import load_as_pipeline
from diffusionct_pipeline.reporting.crops import CROP_KINDS, CROP_PIXELS, find_crops
from diffusionct_pipeline.reporting.pictures import CROP_SCALE, panels, preview_png
from diffusionct_pipeline.standardize import previews as folder_previews
from diffusionct_pipeline.standardize.folder import standardize_folder

LUNG, SOFT_TISSUE = np.s_[10:110, 20:120], np.s_[120:220, 110:210]
LONG_WARNING = "warning: " + "its noise was smoothed, which hides the dose; " * 8


@pytest.fixture
def before_hu():
    """A slice of air with a square of lung and one of soft tissue, each a little larger than a crop."""
    rng = np.random.default_rng(0)
    hu = np.full((230, 240), -1000.0)
    hu[LUNG] = rng.normal(-800, 30, (100, 100))
    hu[SOFT_TISSUE] = rng.normal(60, 15, (100, 100))
    return hu


def decoded(picture):
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L"))


def shows(picture, hu, window_hu):
    """Whether an image stands in a picture, each pixel of it as `CROP_SCALE` x `CROP_SCALE` equal ones."""
    low, high = window_hu
    grey = pytest.importorskip("matplotlib").colormaps["gray"]((hu - low) / (high - low), bytes=True)[..., 0]
    grey = grey.repeat(CROP_SCALE, 0).repeat(CROP_SCALE, 1)
    height, width = grey.shape
    for top, row in enumerate(picture):
        left = row.tobytes().find(grey[0].tobytes())
        if left >= 0 and np.array_equal(picture[top : top + height, left : left + width], grey):
            return True
    return False


class TestFindCrops:
    def test_crops_lie_where_the_tissue_is(self, before_hu):
        (lung, lung_place), (soft, soft_place) = find_crops(before_hu)
        assert (lung.name, soft.name) == ("lung", "soft tissue")
        for (top, left), (rows, columns) in ((lung_place, LUNG), (soft_place, SOFT_TISSUE)):
            assert rows.start <= top <= rows.stop - CROP_PIXELS
            assert columns.start <= left <= columns.stop - CROP_PIXELS

    def test_the_first_of_equals_is_taken(self):
        assert [place for _, place in find_crops(np.full((130, 140), 50.0))] == [(0, 0)]

    def test_tissue_that_is_not_in_view_is_left_out(self, before_hu):
        before_hu[LUNG] = -1000
        before_hu[10:30, 20:40] = -800  # too little to look at
        assert [kind.name for kind, _ in find_crops(before_hu)] == ["soft tissue"]

    def test_noisy_air_is_no_lung(self):
        noise = np.random.default_rng(0).normal(-1000, 50, (150, 150))
        assert find_crops(noise) == []

    @pytest.mark.parametrize("shape", [(CROP_PIXELS - 1, 200), (200, CROP_PIXELS - 1)])
    def test_a_slice_smaller_than_a_crop_has_none(self, shape):
        assert find_crops(np.full(shape, 50.0)) == []

    def test_a_slice_as_large_as_a_crop_has_one(self):
        assert len(find_crops(np.full((CROP_PIXELS, CROP_PIXELS), 50.0))) == 1


class TestPicture:
    def test_crops_show_the_pixels_of_both_images(self, before_hu):
        pytest.importorskip("matplotlib")
        after_hu = before_hu + np.random.default_rng(1).normal(0, 20, before_hu.shape)
        for warning in ("", LONG_WARNING):  # which makes the picture higher
            picture = decoded(preview_png(before_hu, after_hu, 0.7, "title", None, warning))
            for kind, (top, left) in find_crops(before_hu):
                for hu in (before_hu, after_hu):
                    crop = hu[top : top + CROP_PIXELS, left : left + CROP_PIXELS]
                    assert shows(picture, crop, kind.window_hu)
                    assert not shows(picture, crop + 60, kind.window_hu)

    def test_windows_are_the_usual_ones(self):
        assert [(kind.name, *kind.window_hu) for kind in CROP_KINDS] == [
            ("lung", -1350, 150),
            ("soft tissue", -160, 240),
        ]

    def test_is_the_same_each_time_and_small(self, before_hu):
        pytest.importorskip("matplotlib")
        after_hu = before_hu + np.random.default_rng(1).normal(0, 80, before_hu.shape)
        first, second = (preview_png(before_hu, after_hu, 0.7, "title", None, LONG_WARNING) for _ in range(2))
        assert first == second and len(first) < 1_000_000

    @pytest.mark.parametrize("columns", [3, 4])
    def test_a_warning_is_wrapped_and_not_cut(self, columns):
        pytest.importorskip("matplotlib")
        figure, _ = panels(1, columns, title="title", warning=LONG_WARNING)
        title, *lines = figure.get_suptitle().split("\n")
        assert title == "title" and " ".join(lines) == LONG_WARNING.strip() and len(lines) > 1
        figure.draw_without_rendering()
        box = figure._suptitle.get_window_extent()
        assert box.x0 > 0 and box.x1 < figure.bbox.x1 and box.y0 > 0 and box.y1 <= figure.bbox.y1


class TestWarning:
    @pytest.fixture
    def pictures(self, monkeypatch):
        """Arguments of each picture that is drawn."""
        pytest.importorskip("matplotlib")
        drawn = []
        monkeypatch.setattr(folder_previews, "preview_png", lambda *arguments: drawn.append(arguments) or b"")
        return drawn

    def test_what_was_not_reached_first_is_said(self, tmp_path, model, pictures):
        (tmp_path / "in").mkdir()
        save(make_slice(ramp(48, 64)), tmp_path / "in/1.dcm")
        for _ in range(2):  # made, and found finished
            standardize_folder(tmp_path / "in", tmp_path / "out", model=model, preview=True)
            (entry,) = json.loads((tmp_path / "out/run_report.json").read_text())["series"]
            assert pictures.pop()[5] == f"warning: {entry['remarks'][0]}"
        assert "too little bare skin" in entry["remarks"][0]

    def test_a_system_that_has_no_target_is_not_warned_of(self, tmp_path, pictures):
        (tmp_path / "in").mkdir()
        save(make_slice(ramp(48, 64)), tmp_path / "in/1.dcm")
        standardize_folder(tmp_path / "in", tmp_path / "out", pipe=load_as_pipeline("input"), preview=True)
        assert pictures.pop()[5] == ""
