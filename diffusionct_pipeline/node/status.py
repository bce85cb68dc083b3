"""The state of the series that the node has processed, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from .state import TO_BE_LOOKED_AT, SeriesState

COLUMNS = ("series", "slices", "state", "delivery", "tries", "reason")
ID_DIGITS = 13  # of Orthanc's ids, enough to distinguish series


def status_table(states: Mapping[str, SeriesState]) -> str:
    """Format one line per series, with those that need attention first."""
    ordered = sorted(states.items(), key=lambda item: (not needs_somebody(item[1]), item[1].state, item[0]))
    lines = [COLUMNS] + [
        (
            series[:ID_DIGITS],
            str(state.slices),
            state.state,
            state.delivery.state or "-",
            str(state.delivery.tries),
            "; ".join(filter(None, [state.reason, state.delivery.reason])),
        )
        for series, state in ordered
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip() for line in lines)


def needs_somebody(state: SeriesState) -> bool:
    """Return whether a series is refused, incomplete or undelivered."""
    return state.state in TO_BE_LOOKED_AT or state.delivery.state in TO_BE_LOOKED_AT
