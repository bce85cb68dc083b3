"""The log of the node: a line of JSON for each event. Orthanc's ids stand for series; no value of a header is in it."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def event(name: str, **values: Any) -> None:
    """Write a line to stderr."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(json.dumps({"time": when, "event": name, **values}), file=sys.stderr, flush=True)
