"""State of a series in the node. It is stored with the series in Orthanc, so that nothing is lost if the node is killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .orthanc import Orthanc, Refused

# Orthanc's numbers for user-defined data start at 1024.
STATE_METADATA = 5301
RECORD_ATTACHMENT = 5301

DONE, INCOMPLETE, LEFT_ALONE, REFUSED, WAITING = "done", "incomplete", "left alone", "refused", "waiting"
SENDING, PAUSED, DELIVERED, UNDELIVERED = "sending", "paused", "delivered", "undelivered"
TO_BE_LOOKED_AT = (INCOMPLETE, REFUSED, UNDELIVERED)


@dataclass
class Delivery:
    """Delivery of results to the next node.

    Attributes:
        state: "" where nothing is delivered, otherwise one of those above.
        job: Orthanc's id of the job.
        commitment: Transaction of the storage commitment, once the images are sent.
        tries: Number of attempts.
        since: Unix time when the present state began.
        reason: Why the last attempt failed.
    """

    state: str = ""
    job: str = ""
    commitment: str = ""
    tries: int = 0
    since: float = 0.0
    reason: str = ""


@dataclass
class SeriesState:
    """State of a series.

    Attributes:
        key: Hash of its instances and of the settings, see `key_of`.
        state: One of those above; "" for a series that was not processed.
        reason: Why it is not done, without names.
        slices: Number of its slices.
        result: Orthanc's id of the series with its results.
        delivery: Delivery of the results.
    """

    key: str = ""
    state: str = ""
    reason: str = ""
    slices: int = 0
    result: str = ""
    delivery: Delivery = field(default_factory=Delivery)

    @classmethod
    def of(cls, orthanc: Orthanc, series: str) -> SeriesState:
        """Read the state of a series; without one, it is that of a series that was not processed."""
        data = orthanc.find(f"/series/{series}/metadata/{STATE_METADATA}")
        if data is None:
            return cls()
        try:
            values = json.loads(data)
            return cls(**{**values, "delivery": Delivery(**values["delivery"])})
        except (ValueError, TypeError, KeyError):  # of another version: the series is processed again
            return cls()

    def save(self, orthanc: Orthanc, series: str) -> None:
        """Write the state."""
        orthanc.put(f"/series/{series}/metadata/{STATE_METADATA}", json.dumps(asdict(self)).encode())


@dataclass
class Record:
    """Data for later slices of a series: its estimate, and the slices that are done.

    Attributes:
        settings: Settings of the run, see `settings_of`.
        instances: Orthanc's ids of slices whose results are stored.
        report: Report of the run that estimated the series.
    """

    settings: str
    instances: list[str]
    report: dict[str, Any]

    @classmethod
    def of(cls, orthanc: Orthanc, series: str) -> Record | None:
        """Read the record of a series; None where there is none."""
        data = orthanc.find(f"/series/{series}/attachments/{RECORD_ATTACHMENT}/data")
        try:
            return None if data is None else cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    def save(self, orthanc: Orthanc, series: str) -> None:
        """Write the record.

        Raises:
            Refused, Unavailable: as `Orthanc`.
        """
        orthanc.put(f"/series/{series}/attachments/{RECORD_ATTACHMENT}", json.dumps(asdict(self)).encode())


def key_of(instances: Iterable[str], settings: str) -> str:
    """Hash the instances of a series and the settings."""
    return hashlib.sha256(" ".join([settings, *sorted(instances)]).encode()).hexdigest()[:16]


def all_states(orthanc: Orthanc) -> dict[str, SeriesState]:
    """Return the state of every series that was processed, by Orthanc's id."""
    states = {}
    for series in orthanc.get("/series"):
        try:
            state = SeriesState.of(orthanc, series)
        except Refused:  # deleted meanwhile
            continue
        if state.state:
            states[series] = state
    return states
