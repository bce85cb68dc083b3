"""The worker: polls Orthanc for new series. Its progress is stored in Orthanc, see `state.py`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..method.provenance import model_id
from ..pipeline import DiffusionCTPipeline
from ..standardize.loading import load_pipeline
from ..utils.devices import one_thread
from ..utils.files import locked_folder, write_whole
from ..utils.usage import about_arguments
from .delivery import Receiver
from .log import event
from .orthanc import Orthanc, Refused, Unavailable, require_id
from .rules import Rule, first_rule
from .standardizing import made_here, settings_of, standardize_series
from .state import (
    DELIVERED,
    DONE,
    INCOMPLETE,
    LEFT_ALONE,
    REFUSED,
    SENDING,
    UNDELIVERED,
    WAITING,
    Delivery,
    SeriesState,
    all_states,
    key_of,
)

CHANGES_AT_ONCE = 1000
LONGEST_PAUSE = 300.0  # s, between retries after temporary failures
PLACE_FILE = "changes.txt"


def serve(
    url: str,
    rules: Sequence[Rule],
    work: str | os.PathLike,
    *,
    receiver: Receiver | None = None,
    model: str | os.PathLike | None = None,
    device: str | None = None,
    poll: float = 2.0,
    once: bool = False,
    resend: bool = False,
) -> None:
    """Standardize what is in Orthanc and what arrives there, until the process is ended.

    Args:
        url: Address of Orthanc's REST API.
        rules: What is done with which series.
        work: Folder for slices in progress, used by one worker only.
        receiver: Node that results are sent to; None: they stay in Orthanc.
        model, device: As in `standardize_folder`.
        poll: Seconds between two polls of Orthanc.
        once: Whether to return when nothing is left to do.
        resend: Whether undelivered results are sent again.

    Raises:
        ValueError: if a rule's target or the model is unknown.
        BlockingIOError: if another worker uses `work`.
    """
    with one_thread(), locked_folder(work):
        pipe = load_pipeline(model, device)
        with about_arguments():
            for target in {rule.target for rule in rules if rule.target is not None}:
                pipe.resolve_target(target)
        worker = Worker(Orthanc(url), rules, pipe, Path(work), receiver)
        event("started", orthanc=url, rules=len(rules), model=worker.model_id)
        if resend:
            worker.resend()
        while True:
            is_idle = worker.look()
            if once and is_idle and not worker.waiting:
                return
            if is_idle:
                time.sleep(poll)


class Worker:
    """Worker for one Orthanc.

    Attributes:
        waiting: Orthanc's id of an unfinished series -> number of the first change that announced it. After a kill, changes
            are read again from there on.
    """

    def __init__(
        self, orthanc: Orthanc, rules: Sequence[Rule], pipe: DiffusionCTPipeline, work: Path, receiver: Receiver | None
    ) -> None:
        self.orthanc, self.rules, self.pipe, self.work, self.receiver = orthanc, rules, pipe, work, receiver
        self.model_id = model_id(pipe.components)
        self.settings = hashlib.sha256(
            json.dumps([self.model_id, [asdict(rule) for rule in rules], receiver and receiver.name]).encode()
        ).hexdigest()
        self.waiting: dict[str, int] = {}
        self._later: dict[str, tuple[float, float]] = {}  # series -> time of the next attempt, and the pause before it
        self._place = work / PLACE_FILE
        self._seen = 0
        with contextlib.suppress(OSError, ValueError):
            self._seen = int(self._place.read_text())
        self._safe = self._seen
        self._answers = True

    def look(self) -> bool:
        """Poll Orthanc once; return whether there is nothing to do but wait."""
        try:
            is_last = self._changes()
            self._said(True)
            acted = False
            for series in list(self.waiting):
                acted |= self._try(series)
            self._remember()
            return is_last and not acted
        except Unavailable as error:
            self._said(False, str(error))
            return True

    def resend(self) -> None:
        """Send undelivered results again."""
        for series, state in all_states(self.orthanc).items():
            if state.delivery.state == UNDELIVERED:
                state.delivery = Delivery()
                state.save(self.orthanc, series)
                self.waiting.setdefault(series, self._seen)

    def _changes(self) -> bool:
        """Collect series that have changed; return whether these were the last changes."""
        page = self.orthanc.get(f"/changes?since={self._seen}&limit={CHANGES_AT_ONCE}")
        for change in page["Changes"]:
            # StableSeries is not reliable: it never comes if Orthanc dies before.
            series = ""
            if change["ChangeType"] == "NewSeries":
                series = require_id(change["ID"])
            elif change["ChangeType"] == "NewInstance":
                with contextlib.suppress(Refused):  # deleted meanwhile
                    series = require_id(self.orthanc.get(f"/instances/{change['ID']}")["ParentSeries"])
            if series:
                self.waiting.setdefault(series, change["Seq"])
        if page["Changes"]:
            self._seen = page["Last"]
        return page["Done"]

    def _try(self, series: str) -> bool:
        """Process a waiting series as far as possible; return whether anything was done."""
        when, pause = self._later.get(series, (0.0, 1.0))
        if time.monotonic() < when:
            return False
        try:
            acted, is_finished = self._attend(series)
        except (OSError, Refused) as error:
            if isinstance(error, Refused) and self.orthanc.find(f"/series/{series}") is None:
                event("gone", series=series)
                del self.waiting[series]
                return True
            reason = reason_of(error)
            event("waiting", series=series, reason=reason, seconds=pause)
            self._later[series] = time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE)
            with contextlib.suppress(OSError, Refused):
                before = SeriesState.of(self.orthanc, series)
                SeriesState(state=WAITING, reason=reason, result=before.result).save(self.orthanc, series)
            return False
        self._later.pop(series, None)
        if is_finished:
            del self.waiting[series]
            shutil.rmtree(self.work / series, ignore_errors=True)
        return acted

    def _attend(self, series: str) -> tuple[bool, bool]:
        """Take the next step with a series.

        Returns:
            Whether there was one, and whether it was the last.
        """
        found = self.orthanc.get(f"/series/{series}")
        if not found["IsStable"]:
            return False, False
        state = SeriesState.of(self.orthanc, series)
        key, acted = key_of(found["Instances"], self.settings), False
        if state.key != key:
            state, acted = self._standardize(series, found["Instances"], state.result), True
            state.key = key
            state.save(self.orthanc, series)
            event(state.state, series=series, slices=state.slices, reason=state.reason, result=state.result)
        if self.receiver is None or not state.result or state.state not in (DONE, INCOMPLETE):
            return acted, True
        if state.delivery.state not in (DELIVERED, UNDELIVERED) and self.receiver.advance(
            self.orthanc, state.delivery, state.result
        ):
            acted = True
            state.save(self.orthanc, series)
            if not (state.delivery.state == SENDING and state.delivery.commitment):
                event(state.delivery.state, series=series, tries=state.delivery.tries, reason=state.delivery.reason)
        return acted, state.delivery.state in (DELIVERED, UNDELIVERED)

    def _standardize(self, series: str, instances: list[str], result: str) -> SeriesState:
        """Standardize a series if a rule applies; errors are those of `standardize_series`."""
        folder, first = self.work / series, sorted(instances)[0]
        header = self.orthanc.get(f"/instances/{first}/simplified-tags")
        caller = self.orthanc.find(f"/instances/{first}/metadata/RemoteAET")
        rule = first_rule(self.rules, {**header, "calling AE": (caller or b"").decode(errors="replace")})
        state = SeriesState(state=LEFT_ALONE, slices=len(instances))
        if rule is None or rule.skip:
            state.reason = "no rule applies" if rule is None else f"skipped by rule: {rule.name}"
            return state
        if made_here(self.orthanc, first, folder / "in"):
            state.reason = "it was made by DiffusionCT"
            return state
        event("begun", series=series, slices=len(instances), rule=rule.name)
        try:
            return standardize_series(
                self.orthanc, series, instances, rule, settings_of(rule, self.model_id), self.pipe, folder, result
            )
        except OSError:
            raise
        except Refused as error:
            if self.orthanc.find(f"/series/{series}") is None:
                raise
            state.state, state.reason = REFUSED, str(error)
            return state
        except Exception as error:  # a defective series must not stop the others
            state.state, state.reason = REFUSED, f"{type(error).__name__} during standardization"
            return state

    def _remember(self) -> None:
        """Save the number of the last change before which nothing is left to do."""
        safe = min(self.waiting.values()) - 1 if self.waiting else self._seen
        if safe != self._safe:
            with contextlib.suppress(OSError):  # it only saves time after a restart
                write_whole(self._place, str(safe))
                self._safe = safe

    def _said(self, answers: bool, reason: str = "") -> None:
        if answers != self._answers:
            event("Orthanc answers again" if answers else "Orthanc does not answer", reason=reason)
        self._answers = answers


def reason_of(error: OSError | Refused) -> str:
    """Return the reason of an error, without paths."""
    return getattr(error, "strerror", None) or str(error)
