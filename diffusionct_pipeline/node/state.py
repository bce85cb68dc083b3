"""What the node knows of a series, kept with the series in Orthanc: so a kill loses nothing, wherever it strikes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .orthanc import Orthanc, Refused

# User-defined numbers of Orthanc, which begin at 1024.
STATE_METADATA = 5301
RECORD_ATTACHMENT = 5301

DONE, INCOMPLETE, LEFT_ALONE, REFUSED, WAITING = "done", "incomplete", "left alone", "refused", "waiting"
SENDING, PAUSED, DELIVERED, UNDELIVERED = "sending", "paused", "delivered", "undelivered"
TO_BE_LOOKED_AT = (INCOMPLETE, REFUSED, UNDELIVERED)


@dataclass
class Delivery:
    """How far results have come on their way to the next node.

    Attributes:
        state: "" where there is no such way, else one of those above.
        job: Of Orthanc.
        commitment: Transaction of the storage commitment, once the images are sent.
        tries: How often they were sent.
        since: Unix time when the present state began.
        reason: Why the last try failed.
    """

    state: str = ""
    job: str = ""
    commitment: str = ""
    tries: int = 0
    since: float = 0.0
    reason: str = ""


@dataclass
class SeriesState:
    """What became of a series.

    Attributes:
        key: Hash of its instances and of the settings, see `key_of`.
        state: One of those above; "" for a series that was not looked at.
        reason: Why it is not done, without names.
        slices: How many it had.
        result: Orthanc's id of the series with its results.
        delivery: Of these.
    """

    key: str = ""
    state: str = ""
    reason: str = ""
    slices: int = 0
    result: str = ""
    delivery: Delivery = field(default_factory=Delivery)

    @classmethod
    def of(cls, orthanc: Orthanc, series: str) -> SeriesState:
        """Read it; that of a series that was not looked at where there is none."""
        data = orthanc.find(f"/series/{series}/metadata/{STATE_METADATA}")
        if data is None:
            return cls()
        try:
            values = json.loads(data)
            return cls(**{**values, "delivery": Delivery(**values["delivery"])})
        except (ValueError, TypeError, KeyError):  # of another version: it is looked at again
            return cls()

    def save(self, orthanc: Orthanc, series: str) -> None:
        """Write it."""
        orthanc.put(f"/series/{series}/metadata/{STATE_METADATA}", json.dumps(asdict(self)).encode())


@dataclass
class Record:
    """What later slices of a series need: its estimate, and which slices are done.

    Attributes:
        settings: What they were done with, see `settings_of`.
        instances: Orthanc's ids of those whose results are there.
        report: Of the run that estimated the series.
    """

    settings: str
    instances: list[str]
    report: dict[str, Any]

    @classmethod
    def of(cls, orthanc: Orthanc, series: str) -> Record | None:
        """Read it; None where there is none."""
        data = orthanc.find(f"/series/{series}/attachments/{RECORD_ATTACHMENT}/data")
        try:
            return None if data is None else cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def save(self, orthanc: Orthanc, series: str) -> None:
        """Write it.

        Raises:
            Refused, Unavailable: as of `Orthanc`.
        """
        orthanc.put(f"/series/{series}/attachments/{RECORD_ATTACHMENT}", json.dumps(asdict(self)).encode())


def key_of(instances: Iterable[str], settings: str) -> str:
    """Hash of the instances of a series and of what is to be done with them."""
    return hashlib.sha256(" ".join([settings, *sorted(instances)]).encode()).hexdigest()[:16]


def all_states(orthanc: Orthanc) -> dict[str, SeriesState]:
    """Orthanc's id -> state of every series that was looked at."""
    states = {}
    for series in orthanc.get("/series"):
        try:
            state = SeriesState.of(orthanc, series)
        except Refused:  # deleted meanwhile
            continue
        if state.state:
            states[series] = state
    return states
