"""A headless Chromium that counts what a page asks of the network, or a skipped test where it is not installed."""

import contextlib
import shutil

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 120_000  # the machine may be busy


@contextlib.contextmanager
def chromium():
    """Start the browser; the test is skipped by name where Playwright or a Chromium is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=PATIENCE_MS)
        yield browser
        browser.close()


def new_page(browser, width=1200, height=800, **options):
    """A page with nothing behind it; `page.asked` gathers the addresses that it asks for, `page.errors` what goes wrong."""
    page = browser.new_context(viewport={"width": width, "height": height}, **options).new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    return page


def has_overflow(page):
    """Whether the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth > innerWidth")


def until(page, expression):
    """Wait until an expression of the page is true; asked from here, as pages that forbid `eval` cannot wait themselves."""
    for _ in range(PATIENCE_MS // 100):
        if found := page.evaluate(f"() => {expression}"):
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {expression}")
