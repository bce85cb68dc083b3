"""Access control of the app: only its own pages, in a browser that was given the code. See SECURITY.md."""

from __future__ import annotations

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from ..utils.optional import import_optional

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = ("/", "/enter", "/viewer.css", "/viewer.js", "/app.css", "/app.js")  # files that contain no scan data
MOST_TRIES = 10  # of a code of 8 digits, until the app is restarted
HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Door:
    """The code that the terminal shows, and the cookie that a browser gets in exchange for it.

    Other users of this machine can reach the port, and so can pages of other sites through the browser. The code is typed
    in, so that it appears in no URL, history or process list.

    Attributes:
        code: 8 digits.
    """

    def __init__(self, port: int) -> None:
        self.code = f"{secrets.randbelow(10**8):08d}"
        self.cookie, self.key, self.tries = f"diffusionct_{port}", secrets.token_urlsafe(32), 0
        names = (f"127.0.0.1:{port}", f"localhost:{port}")
        self.hosts = {name.encode() for name in names}
        self.origins = {f"http://{name}".encode() for name in names}

    def enter(self, code: str) -> str | None:
        """Return the `Set-Cookie` header for the right code; None for a wrong one or after too many attempts."""
        if self.tries >= MOST_TRIES:
            return None
        if not hmac.compare_digest("".join(filter(str.isdigit, code)), self.code):
            self.tries += 1
            return None
        self.tries = 0
        return f"{self.cookie}={self.key}; HttpOnly; SameSite=Strict; Path=/"

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the HTTP status and the reason if a request is refused; None if it may pass."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            found.setdefault(name.lower(), []).append(value)
        # 1. Another host name may have been made to point here by an attacker's page (DNS rebinding).
        hosts = found.get(b"host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return 403, "unknown host"
        # 2. A page of another site.
        origins = found.get(b"origin", [])
        if any(origin.lower() not in self.origins for origin in origins):
            return 403, "another origin"
        if scope["method"] not in ("GET", "HEAD") and not origins:
            return 403, "no origin"
        if any(site not in (b"same-origin", b"none") for site in found.get(b"sec-fetch-site", [])):
            return 403, "another site"
        # 3. A browser without the code.
        if scope["path"] not in OPEN and not self.knows(found.get(b"cookie", [])):
            return 401, "enter the code that the terminal shows"
        return None

    def knows(self, cookies: list[bytes]) -> bool:
        """Return whether one of the `Cookie` headers holds the key."""
        for header in cookies:
            try:
                morsel = SimpleCookie(header.decode("latin-1")).get(self.cookie)
            except CookieError:
                continue
            if morsel is not None and hmac.compare_digest(morsel.value.encode(), self.key.encode()):
                return True
        return False


class Guard:
    """ASGI middleware that refuses requests by `Door` and adds security headers to answers.

    Args:
        app: The application behind it.
        door: Decides which requests pass.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self.app, self.door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def strictly(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        refused = self.door.refusal(scope)
        if refused is None:
            await self.app(scope, receive, strictly)
            return
        answer = import_optional("starlette.responses").JSONResponse({"error": refused[1]}, refused[0])
        await answer(scope, receive, strictly)
