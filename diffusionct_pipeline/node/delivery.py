"""Delivery of results to the next node, as jobs of Orthanc with storage commitment, retried with growing pauses.

Orthanc itself sends once: what is sent while a peer is away would be lost unnoticed.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass

from .orthanc import Orthanc, Refused
from .state import DELIVERED, PAUSED, SENDING, UNDELIVERED, Delivery

COMMITMENT_SECONDS = 600.0  # within which the peer must confirm that it has stored everything
LONGEST_PAUSE = 3600.0  # s


@dataclass(frozen=True)
class Receiver:
    """Node that receives results.

    Attributes:
        name: Its name in `DicomModalities` of Orthanc.
        retries: How often a failed delivery is retried.
        pause: Seconds before the first retry; doubled each time, up to an hour.
        commitment_seconds: Time limit for the storage commitment.
    """

    name: str
    retries: int = 10
    pause: float = 60.0
    commitment_seconds: float = COMMITMENT_SECONDS

    def advance(self, orthanc: Orthanc, delivery: Delivery, result: str) -> bool:
        """Take the next step of a delivery; return whether there was one.

        Args:
            orthanc: Server that holds the results.
            delivery: Their delivery; it is updated.
            result: Orthanc's id of their series.
        """
        before = delivery.state, delivery.tries, delivery.commitment
        if delivery.state == "" or (delivery.state == PAUSED and time.time() >= delivery.since + self._pause(delivery)):
            self._submit(orthanc, delivery, result)
        elif delivery.state == SENDING and not delivery.commitment:
            self._look_at_job(orthanc, delivery)
        elif delivery.state == SENDING:
            self._look_at_commitment(orthanc, delivery)
        return before != (delivery.state, delivery.tries, delivery.commitment)

    def _pause(self, delivery: Delivery) -> float:
        return min(self.pause * 2 ** (delivery.tries - 1), LONGEST_PAUSE)

    def _submit(self, orthanc: Orthanc, delivery: Delivery, result: str) -> None:
        order = {"Resources": [result], "Synchronous": False, "StorageCommitment": True}
        delivery.tries, delivery.since, delivery.commitment = delivery.tries + 1, time.time(), ""
        try:
            delivery.job, delivery.state = orthanc.post(f"/modalities/{self.name}/store", order)["ID"], SENDING
        except Refused as error:
            self._failed(delivery, str(error))

    def _look_at_job(self, orthanc: Orthanc, delivery: Delivery) -> None:
        data = orthanc.find(f"/jobs/{delivery.job}")
        job = json.loads(data or '{"State": "Failure", "ErrorDescription": "Orthanc forgot the job"}')
        if job["State"] == "Success":
            delivery.commitment, delivery.since = job["Content"]["StorageCommitmentTransactionUID"], time.time()
        elif job["State"] in ("Failure", "Paused"):
            self._failed(delivery, f"not sent: {job.get('ErrorDescription', job['State'])}")

    def _look_at_commitment(self, orthanc: Orthanc, delivery: Delivery) -> None:
        data = orthanc.find(f"/storage-commitment/{delivery.commitment}")
        status = json.loads(data or '{"Status": "Pending"}')["Status"]
        if status == "Success":
            delivery.state, delivery.reason = DELIVERED, ""
        elif status == "Failure":
            self._failed(delivery, "the peer did not commit to storing everything")
        elif time.time() > delivery.since + self.commitment_seconds:
            self._failed(delivery, f"no storage commitment within {self.commitment_seconds:g} s")

    def _failed(self, delivery: Delivery, reason: str) -> None:
        delivery.state = UNDELIVERED if delivery.tries > self.retries else PAUSED
        delivery.reason, delivery.since = reason, time.time()
