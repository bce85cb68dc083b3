"""Delivery: Orthanc sends once; the node sends again, with growing pauses, until all is committed or it gives up."""

import json

import pytest

from diffusionct_pipeline.node import delivery as module
from diffusionct_pipeline.node.delivery import Receiver
from diffusionct_pipeline.node.orthanc import Refused
from diffusionct_pipeline.node.state import Delivery


class Fake:
    """An Orthanc whose jobs end as told."""

    def __init__(self, job="Success", commitment="Success"):
        self.job, self.commitment, self.orders = job, commitment, []

    def post(self, path, order):
        self.orders.append((path, order))
        return {"ID": f"job {len(self.orders)}"}

    def find(self, path):
        if self.job is None:
            return None
        if path.startswith("/storage-commitment/"):
            return json.dumps({"Status": self.commitment}).encode()
        content = {"StorageCommitmentTransactionUID": "2.25"}
        return json.dumps({"State": self.job, "ErrorDescription": "no route", "Content": content}).encode()


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


def advance(receiver, orthanc, delivery, steps):
    return [receiver.advance(orthanc, delivery, "abc") for _ in range(steps)]


def test_is_done_when_the_peer_has_committed(clock):
    orthanc, delivery = Fake(), Delivery()
    assert advance(Receiver("pacs"), orthanc, delivery, 4) == [True, True, True, False]
    assert (delivery.state, delivery.tries) == ("delivered", 1)
    assert orthanc.orders == [
        ("/modalities/pacs/store", {"Resources": ["abc"], "Synchronous": False, "StorageCommitment": True})
    ]


@pytest.mark.parametrize(
    "job, commitment",
    [("Failure", ""), (None, ""), ("Success", "Failure")],
    ids=["not sent", "forgotten", "not stored"],
)
def test_is_tried_again_with_growing_pauses_and_given_up_visibly(clock, job, commitment):
    orthanc, delivery, receiver, sent = Fake(job, commitment), Delivery(), Receiver("pacs", retries=3, pause=10), []
    while delivery.state != "undelivered":
        before = len(orthanc.orders)
        receiver.advance(orthanc, delivery, "abc")
        sent += [clock[0] - 1000] * (len(orthanc.orders) - before)
        clock[0] += 1
    assert len(sent) == 4 and delivery.reason
    pauses = [after - before for before, after in zip(sent, sent[1:])]
    assert all(wanted <= pause <= wanted + 4 for wanted, pause in zip((10, 20, 40), pauses))


def test_without_a_commitment_in_time_is_tried_again(clock):
    orthanc, delivery, receiver = Fake(commitment="Pending"), Delivery(), Receiver("pacs", commitment_seconds=100)
    advance(receiver, orthanc, delivery, 3)
    assert delivery.state == "sending"
    clock[0] += 101
    assert receiver.advance(orthanc, delivery, "abc") and delivery.state == "paused"
    assert delivery.reason == "no storage commitment within 100 s"


def test_to_a_name_that_orthanc_does_not_know_is_given_up_too(clock):
    orthanc, delivery, receiver = Fake(), Delivery(), Receiver("nobody", retries=0)

    def refuse(path, order):
        raise Refused("Orthanc refuses POST /modalities/nobody/store: 404 Unknown resource")

    orthanc.post = refuse
    receiver.advance(orthanc, delivery, "abc")
    assert delivery.state == "undelivered" and "nobody" in delivery.reason
