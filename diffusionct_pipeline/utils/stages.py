"""What a long call is doing now, for whoever watches it."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


def stage(text: str) -> None:
    """Say what begins now, such as "loading the checkpoint"; commands show it, and so does logging at INFO in Python."""
    logger.info("%s", text)
