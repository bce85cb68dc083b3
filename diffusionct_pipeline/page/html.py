"""A series before and after -> one HTML file."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..utils.version import __version__
from .view import View, whole_hu

HERE = Path(__file__).parent
GZIP_LEVEL = 6


def page_html(view: View, pairs: Sequence[tuple[np.ndarray, np.ndarray]], number: int, model_id: str) -> str:
    """Make a page that holds its slices, its style and its program, and that a browser lets load nothing else.

    The same input gives the same text.

    Args:
        view: Of the series.
        pairs: For each slice that is shown, HU (H, W) before and after; they are rounded.
        number: Of the series in its run, from 1.
        model_id: What standardized it.
    """
    script = (HERE / "viewer.js").read_text() + (HERE / "page.js").read_text()
    style = (HERE / "viewer.css").read_text()
    series = view.to_json() | {"packed": [[packed(hu) for hu in pair] for pair in pairs]}
    warning = "This series missed its target: it was measured not to have the kernel that was asked for."
    parts = {
        "POLICY": f"default-src 'none'; script-src '{digest(script)}'; style-src '{digest(style)}'",
        "STYLE": style,
        "SCRIPT": script,
        "TITLE": f"Series {number}: {html.escape(view.kernels[0])} to {html.escape(view.kernels[1])}",
        "FACTS": html.escape(" · ".join(view.facts[1:])),
        "WARNING": f'<p class="warning">{warning}</p>' if view.missed else "",
        "FOOTER": html.escape(
            f"{model_id}, version {__version__}. Research use only, not a medical device; not for diagnosis. "
            "Texture that a soft kernel removed is synthesized, not recovered. HU are rounded to whole numbers."
        ),
        "SERIES": json.dumps(series).replace("<", "\\u003c"),  # no text of a header ends the element
    }
    text = (HERE / "page.html").read_text()
    before, *rest = text.split("@")  # names and what is between them, in turn
    return before + "".join(parts[name] + after for name, after in zip(rest[::2], rest[1::2]))


def packed(hu: np.ndarray) -> str:
    """HU (H, W) -> base64 of gzip of the differences along its rows, int16: a third smaller than of the values."""
    steps = np.diff(whole_hu(hu), axis=1, prepend=np.int16(0)).astype(
        "<i2"
    )  # they wrap around, and back in the browser
    return base64.b64encode(gzip.compress(steps.tobytes(), GZIP_LEVEL, mtime=0)).decode()


def digest(text: str) -> str:
    """Name of an inline script or style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
