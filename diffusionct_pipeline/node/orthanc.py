"""The few calls of Orthanc's REST API that the node needs, see https://orthanc.uclouvain.be/api/."""

from __future__ import annotations

import re
from typing import Any

import requests
from requests.utils import get_netrc_auth

SECONDS = 120.0  # for an answer; Orthanc writes a slice to disk within


ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")  # as Orthanc makes them, from SHA-1


class Unavailable(OSError):
    """Orthanc does not answer, or cannot do now what it could do later: no room on its disk, say."""


class Refused(ValueError):
    """Orthanc will not do what was asked, however often it is asked."""


class Orthanc:
    """An Orthanc server.

    Args:
        url: Of its REST API, such as "http://127.0.0.1:8042". Name and password are taken from ~/.netrc, so that neither the
            command line nor the log shows them.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False  # images of patients go through no proxy
        self.session.auth = get_netrc_auth(self.url)

    def get(self, path: str) -> Any:
        """Answer of a GET, from JSON."""
        return self._call("GET", path).json()

    def bytes(self, path: str) -> bytes:
        """Answer of a GET as it is."""
        return self._call("GET", path).content

    def find(self, path: str) -> bytes | None:
        """Answer of a GET as it is; None where there is nothing."""
        answer = self._call("GET", path, absent=True)
        return None if answer.status_code == 404 else answer.content

    def post(self, path: str, value: Any) -> Any:
        """Answer of a POST of JSON, from JSON."""
        return self._call("POST", path, json=value).json()

    def store(self, dicom: bytes) -> dict[str, Any]:
        """Add an image, or find that it is there; "Status" and "ParentSeries" are in the answer."""
        return self._call("POST", "/instances", data=dicom).json()

    def put(self, path: str, data: bytes) -> None:
        """Write metadata or an attachment."""
        self._call("PUT", path, data=data)

    def _call(self, method: str, path: str, absent: bool = False, **content: Any) -> requests.Response:
        """Ask.

        Raises:
            Unavailable: no answer, or one of the kind 5xx. Refused: one of the kind 4xx; 404 only where not `absent`.
        """
        try:
            answer = self.session.request(method, self.url + path, timeout=SECONDS, **content)
        except requests.RequestException as error:
            raise Unavailable(f"Orthanc does not answer at {self.url}: {type(error).__name__}") from error
        if answer.status_code >= 500:
            raise Unavailable(f"Orthanc cannot do {method} {path} now: {said(answer)}")
        if answer.status_code >= 400 and not (absent and answer.status_code == 404):
            raise Refused(f"Orthanc refuses {method} {path}: {said(answer)}")
        return answer


def require_id(text: str) -> str:
    """An id, which is going to name a file.

    Raises:
        Refused: it is none.
    """
    if not ID.fullmatch(text):
        raise Refused(f"Orthanc names an image or a series {text!r}, which is none of its ids.")
    return text


def said(answer: requests.Response) -> str:
    """What Orthanc says of an error, without values of headers, which it puts into "Details"."""
    try:
        return f"{answer.status_code} {answer.json()['Message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason}"
