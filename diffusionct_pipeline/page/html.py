"""Write a series before and after as one HTML file."""

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
    """Return a page that contains its slices, its style and its program, and that browsers allow to load nothing else.

    The same input gives the same text.

    Args:
        view: View of the series.
        pairs: HU (H, W) before and after of each shown slice; they are rounded.
        number: Number of the series in its run, from 1.
        model_id: Identifier of the model that standardized it.
    """
    script = (HERE / "viewer.js").read_text() + (HERE / "page.js").read_text()
    style = (HERE / "viewer.css").read_text()
    series = view.to_json() | {"packed": [[packed(hu) for hu in pair] for pair in pairs]}
    warning = "This series missed its target: it was measured not to have the requested kernel."
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
        "SERIES": json.dumps(series).replace("<", "\\u003c"),  # so that no text of a header ends the element
    }
    text = (HERE / "page.html").read_text()
    before, *rest = text.split("@")  # names alternate with the text between them
    return before + "".join(parts[name] + after for name, after in zip(rest[::2], rest[1::2]))


def packed(hu: np.ndarray) -> str:
    """Pack HU (H, W) as base64 of gzip of the int16 differences along its rows, a third smaller than of the values."""
    # Differences may overflow, which the sum in the browser undoes.
    steps = np.diff(whole_hu(hu), axis=1, prepend=np.int16(0)).astype("<i2")
    return base64.b64encode(gzip.compress(steps.tobytes(), GZIP_LEVEL, mtime=0)).decode()


def digest(text: str) -> str:
    """Return the name of an inline script or style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
