"""The page in a headless Chromium: what a person does with it, and that it asks nothing of the network."""

import numpy as np
import pytest
from helpers.browser import chromium, has_overflow, new_page, until

from diffusionct_pipeline.page.html import page_html
from diffusionct_pipeline.page.view import View

ROWS, COLUMNS, COUNT = 64, 80, 3
LUNG_HU, CHANGE_HU = -600, 25


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page whose HU say where they are: before -600 + 10 slice + column, after 25 more."""
    pairs = []
    for index in range(COUNT):
        before = np.tile(LUNG_HU + 10.0 * index + np.arange(COLUMNS), (ROWS, 1))
        pairs.append((before, before + CHANGE_HU))
    view = View(
        30, [0, 15, 29], (ROWS, COLUMNS), 0.7, ("B70f", "Bl64 synthetic"), ["B70f to Bl64", "3 of 30 slices"], False
    )
    path = tmp_path_factory.mktemp("page") / "page_01.html"
    path.write_text(page_html(view, pairs, 1, "tiny"))
    return path.as_uri()


def opened(browser, address, **options):
    page = new_page(browser, **options)
    page.goto(address)
    until(page, "viewer.loaded")
    return page


@pytest.fixture
def page(browser, address):
    page = opened(browser, address)
    yield page
    page.context.close()


def grey_in_the_middle(page, panel):
    """Red of the pixel in the middle of a panel."""
    return page.evaluate(
        "i => { const c = viewer.canvases[i]; return c.getContext('2d').getImageData(c.width / 2 | 0, c.height / 2 | 0, 1, 1).data[0]; }",
        panel,
    )


def slice_shown(page):
    return page.locator(".slice").inner_text()


class TestPage:
    def test_asks_for_nothing_and_says_nothing_wrong(self, page, address):
        page.keyboard.press("ArrowUp")
        assert page.asked == [address] and page.errors == []

    def test_may_load_nothing_even_if_it_wanted_to(self, page):
        refused = page.evaluate("fetch('http://127.0.0.1:9/').then(() => false, () => true)")
        assert refused and any("Content Security Policy" in error for error in page.errors)

    def test_slices_by_keyboard_wheel_and_slider(self, page):
        assert slice_shown(page) == "16 of 30"
        page.keyboard.press("ArrowUp")
        assert slice_shown(page) == "30 of 30"
        page.keyboard.press("Home")
        assert slice_shown(page) == "1 of 30"
        page.locator("canvas").nth(1).hover()
        page.mouse.wheel(0, 100)
        until(page, "viewer.index === 1")
        page.locator("input[type=range]").focus()
        page.keyboard.press("End")
        until(page, "viewer.index === 2")

    def test_hu_under_the_pointer_in_any_panel(self, page):
        for panel in range(4):
            box = page.locator("canvas").nth(panel).bounding_box()
            page.mouse.move(box["x"] + box["width"] * 20.5 / COLUMNS, box["y"] + box["height"] * 10.5 / ROWS)
            until(page, "viewer.pointer")
            said = page.locator(".reading").inner_text()
            assert said == "at column 20, row 10: −570 → −545 HU (+25)"

    def test_hu_without_a_mouse_are_those_of_the_middle(self, page):
        assert page.locator(".reading").inner_text().startswith("in the middle, at column 40, row 32: −550")
        page.keyboard.press("+")
        page.keyboard.press("Shift+ArrowRight")
        assert "column 43, row 32: −547" in page.locator(".reading").inner_text()

    def test_windows(self, page):
        assert grey_in_the_middle(page, 0) == pytest.approx(127.5 + 50 * 255 / 1500, abs=1)
        page.get_by_role("button", name="soft tissue").click()
        assert grey_in_the_middle(page, 0) == 0
        page.keyboard.press("b")
        assert page.get_by_role("button", name="bone").get_attribute("aria-pressed") == "true"
        page.get_by_label("level in HU").fill("-550")
        page.get_by_label("level in HU").press("Enter")
        assert grey_in_the_middle(page, 0) == pytest.approx(127.5, abs=1)

    def test_the_difference_is_coloured_by_its_sign(self, page):
        assert grey_in_the_middle(page, 2) == int(255 * CHANGE_HU / 300)

    def test_the_swipe_line_parts_before_from_after(self, page):
        before, after = grey_in_the_middle(page, 0), grey_in_the_middle(page, 1)
        assert before < after
        page.evaluate("viewer.setSwipe(1)")
        assert grey_in_the_middle(page, 3) == before
        page.evaluate("viewer.setSwipe(0)")
        assert grey_in_the_middle(page, 3) == after
        box = page.locator("figure.swipe canvas").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 5)
        page.mouse.up()
        assert page.evaluate("viewer.swipe") == pytest.approx(0.75, abs=0.02)

    def test_zoom_and_move_are_linked(self, page):
        for _ in range(4):
            page.keyboard.press("+")
        left = page.evaluate("viewer.seen()[0]")
        page.locator("figure.before canvas").hover()
        page.mouse.down()
        page.mouse.move(*[page.locator("figure.before canvas").bounding_box()[key] + 10 for key in ("x", "y")])
        page.mouse.up()
        assert page.evaluate("viewer.seen()[0]") > left, (
            "the image follows the mouse to the left, so that more of its right is seen"
        )
        before, after = grey_in_the_middle(page, 0), grey_in_the_middle(page, 1)
        assert after - before == pytest.approx(CHANGE_HU * 255 / 1500, abs=1)
        page.keyboard.press("0")
        assert page.evaluate("viewer.seen()") == [0, 0, COLUMNS, ROWS]

    def test_one_panel_alone(self, page):
        page.keyboard.press("4")
        assert [page.locator(f"figure.{name}").is_visible() for name in ("before", "swipe")] == [False, True]
        page.keyboard.press("a")
        assert page.locator("figure.before").is_visible()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_fits_420_pixels_in_light_and_dark(self, browser, address, scheme):
        page = opened(browser, address, width=420, color_scheme=scheme)
        assert not has_overflow(page)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (max(paper) < 60) == (scheme == "dark")
        assert page.locator("figure.swipe").is_visible()
        page.context.close()
