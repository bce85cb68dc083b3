"""The log of the node: one line of JSON per event. Series are named by Orthanc's ids, and no header values are logged."""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def event(name: str, **values: Any) -> None:
    """Write an event to stderr."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(json.dumps({"time": when, "event": name, **values}), file=sys.stderr, flush=True)
