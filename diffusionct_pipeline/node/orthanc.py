"""The calls of Orthanc's REST API that the node needs, see https://orthanc.uclouvain.be/api/."""

from __future__ import annotations

import re
from typing import Any

import requests
from requests.utils import get_netrc_auth

SECONDS = 120.0  # timeout of a request


ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")  # as Orthanc derives them by SHA-1


class Unavailable(OSError):
    """Orthanc does not answer, or fails temporarily, such as for a full disk."""


class Refused(ValueError):
    """Orthanc rejects a request permanently."""


class Orthanc:
    """An Orthanc server.

    Args:
        url: Address of its REST API, such as "http://127.0.0.1:8042". Name and password are read from ~/.netrc, so that they
            appear neither on the command line nor in the log.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.trust_env = False  # images of patients must not pass a proxy
        self.session.auth = get_netrc_auth(self.url)

    def get(self, path: str) -> Any:
        """GET a path; return the parsed JSON."""
        return self._call("GET", path).json()

    def download(self, path: str) -> bytes:
        """GET a path; return the content."""
        return self._call("GET", path).content

    def find(self, path: str) -> bytes | None:
        """GET a path; return the content, or None where there is nothing."""
        answer = self._call("GET", path, absent=True)
        return None if answer.status_code == 404 else answer.content

    def post(self, path: str, value: Any) -> Any:
        """POST JSON to a path; return the parsed JSON of the answer."""
        return self._call("POST", path, json=value).json()

    def store(self, dicom: bytes) -> dict[str, Any]:
        """Add an image unless it is there; return an answer with "Status" and "ParentSeries"."""
        return self._call("POST", "/instances", data=dicom).json()

    def put(self, path: str, data: bytes) -> None:
        """Write metadata or an attachment."""
        self._call("PUT", path, data=data)

    def _call(self, method: str, path: str, absent: bool = False, **content: Any) -> requests.Response:
        """Send a request.

        Raises:
            Unavailable: without an answer, or for a status of 5xx.
            Refused: for a status of 4xx, except 404 with `absent`.
        """
        try:
            answer = self.session.request(method, self.url + path, timeout=SECONDS, **content)
        except requests.RequestException as error:
            raise Unavailable(f"Orthanc does not answer at {self.url}: {type(error).__name__}") from error
        if answer.status_code >= 500:
            raise Unavailable(f"Orthanc failed at {method} {path}: {said(answer)}")
        if answer.status_code >= 400 and not (absent and answer.status_code == 404):
            raise Refused(f"Orthanc refused {method} {path}: {said(answer)}")
        return answer


def require_id(text: str) -> str:
    """Return an id that is going to name a file.

    Raises:
        Refused: if it is not one of Orthanc's.
    """
    if not ID.fullmatch(text):
        raise Refused(f"Orthanc named an image or a series {text!r}, which is not a valid id.")
    return text


def said(answer: requests.Response) -> str:
    """Return Orthanc's message for an error, without "Details", which contain header values."""
    try:
        return f"{answer.status_code} {answer.json()['Message']}"
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason}"
