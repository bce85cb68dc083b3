"""The routes of the app, and its server on 127.0.0.1."""

from __future__ import annotations

import functools
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .. import page
from ..utils.files import private_folder
from ..utils.optional import import_optional
from .desk import PLACES, Desk
from .guard import Door, Guard
from .uploads import Limits, RefusedError, is_zip

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

HERE, VIEWER = Path(__file__).parent, Path(page.__file__).parent
STATIC = {"/": HERE / "app.html", "/app.css": HERE / "app.css", "/app.js": HERE / "app.js", "/viewer.css": VIEWER / "viewer.css",
          "/viewer.js": VIEWER / "viewer.js"}  # fmt: skip
HOST = "127.0.0.1"  # never another: the app is for the user of this machine only
MOST_JSON = 1 << 20  # bytes of a request that is not an upload
MOST_AT_ONCE = 64  # connections


def serve(
    offered: Path | None = None,
    model: str | None = None,
    port: int = 0,
    limits: Limits | None = None,
    told: Callable[[str, str], None] = print,
) -> None:
    """Serve the app until it is interrupted; then all uploads and results are removed.

    Args:
        offered: Folder of scans to start with; only read.
        model: Checkpoint; None for the embedded one.
        port: Port of 127.0.0.1; 0 takes a free one.
        limits: Limits of uploads.
        told: Called with the address and the code when the app can be reached.

    Raises:
        OSError: if the port is taken.
        ImportError: if Starlette or uvicorn is not installed.
    """
    uvicorn = import_optional("uvicorn")
    import_optional("starlette")
    with socket.socket() as listener, private_folder("diffusionct_app") as folder:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise OSError(
                f"port {port} of {HOST} cannot be used: {error.strerror}; choose another with --port"
            ) from error
        listener.listen()
        door = Door(listener.getsockname()[1])
        desk = Desk(folder, offered, model, limits)
        config = uvicorn.Config(
            Guard(make_app(desk, door), door), log_level="warning", access_log=False, server_header=False, lifespan="off",
            limit_concurrency=MOST_AT_ONCE, timeout_graceful_shutdown=5,
        )  # fmt: skip
        told(f"http://{HOST}:{listener.getsockname()[1]}", door.code)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            desk.close()


def make_app(desk: Desk, door: Door) -> Starlette:
    """Build the routes, which `Guard` protects."""
    responses, routing = import_optional("starlette.responses"), import_optional("starlette.routing")
    requests, threads = import_optional("starlette.requests"), import_optional("starlette.concurrency")
    background = import_optional("starlette.background")
    answer, in_thread = responses.JSONResponse, threads.run_in_threadpool

    def route(path: str, method: str = "POST") -> Callable[[Callable[[Request], Awaitable[Response]]], None]:
        """Register a handler for requests to a path; refusals and errors become answers as well."""

        def register(respond: Callable[[Request], Awaitable[Response]]) -> None:
            @functools.wraps(respond)
            async def safely(request: Request) -> Response:
                try:
                    return await respond(request)
                except RefusedError as error:
                    return answer({"error": desk.plain(str(error))}, error.status)
                except (ValueError, ImportError) as error:
                    return answer({"error": desk.plain(str(error))}, 400)
                except OSError as error:
                    return answer({"error": desk.plain(str(error))}, 500)
                except requests.ClientDisconnect:
                    return answer({"error": "the upload was interrupted"}, 400)

            routes.append(routing.Route(path, safely, methods=[method]))

        return register

    routes: list[Any] = []
    for path, file in STATIC.items():
        routes.append(routing.Route(path, functools.partial(_file, responses.FileResponse, file), methods=["GET"]))

    @route("/enter")
    async def enter(request: Request) -> Response:
        cookie = door.enter(str((await _json(request)).get("code", "")))
        if cookie is None:
            return answer({"error": "wrong code; after ten wrong codes the app must be restarted"}, 403)
        return answer({}, headers={"set-cookie": cookie})

    @route("/enter", "GET")
    async def entered(request: Request) -> Response:
        return answer({"entered": door.knows([request.headers.get("cookie", "").encode("latin-1")])})

    @route("/api/state", "GET")
    async def state(request: Request) -> Response:
        return answer(desk.state())

    @route("/api/files/{place}")
    async def receive(request: Request) -> Response:
        inbox = desk.inboxes[_place(request)]
        desk.require_idle()
        announced = request.headers.get("content-length")
        name = unquote(request.headers.get("x-file-name", ""))
        path = await inbox.receive(name, request.stream(), None if announced is None else int(announced))
        if is_zip(path) and not path.name.endswith(".npz"):
            await in_thread(inbox.unpack, path)
        return answer({"files": inbox.files})

    @route("/api/clear/{place}")
    async def clear(request: Request) -> Response:
        desk.clear(_place(request))
        return answer(desk.state())

    @route("/api/characterise")
    async def characterise(request: Request) -> Response:
        desk.start("characterise", desk.characterise)
        return answer(desk.state())

    @route("/api/standardize")
    async def standardize(request: Request) -> Response:
        choice = desk.require_choice(await _json(request))
        desk.start("standardize", functools.partial(desk.standardize, *choice))
        return answer(desk.state())

    @route("/api/stop")
    async def stop(request: Request) -> Response:
        desk.stop()
        return answer(desk.state())

    @route("/api/slice/{series:int}/{index:int}", "GET")
    async def pixels(request: Request) -> Response:
        shown = desk.require_result().series_of(request.path_params["series"])
        data = await in_thread(shown.pixels, request.path_params["index"])
        return responses.Response(data, media_type="application/octet-stream")

    @route("/api/region")
    async def region(request: Request) -> Response:
        given = await _json(request)
        number, index = given.get("series"), given.get("slice")
        if type(number) is not int:
            raise RefusedError(f"`series` must be a number from 0, got {number!r}")
        if given.get("points") is None:
            return answer(await in_thread(desk.measure_file, number, given.get("name")))
        if type(index) is not int:
            raise RefusedError(f"`slice` must be a number from 0, got {index!r}")
        return answer(await in_thread(desk.measure_drawn, number, index, given["points"]))

    @route("/api/features.csv", "GET")
    async def features(request: Request) -> Response:
        if desk.measured is None:
            raise RefusedError("no region has been measured yet", 404)
        headers = {"content-disposition": 'attachment; filename="features.csv"'}
        return responses.Response(desk.measured.to_csv(), media_type="text/csv", headers=headers)

    @route("/api/results.zip", "GET")
    async def download(request: Request) -> Response:
        desk.require_idle()
        path = await in_thread(desk.require_result().write_zip, desk.folder / "results.zip")
        return responses.FileResponse(
            path, filename="standardized.zip", background=background.BackgroundTask(path.unlink, True)
        )

    return import_optional("starlette.applications").Starlette(routes=routes)


async def _file(response: type[Response], file: Path, request: Request) -> Response:
    """Answer with a file of the app itself."""
    return response(file)


def _place(request: Request) -> str:
    """Return the place that a request names; raise RefusedError for an unknown one."""
    place = request.path_params["place"]
    if place not in PLACES:
        raise RefusedError(f"`place` must be one of {', '.join(PLACES)}, got {place!r}", 404)
    return place


async def _json(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object; raise RefusedError if it is not one, or too large."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_JSON:
            raise RefusedError(f"a request must not exceed {MOST_JSON} bytes", 413)
    try:
        value = json.loads(body or b"{}")
    except ValueError as error:
        raise RefusedError("a request must be JSON") from error
    if not isinstance(value, dict):
        raise RefusedError("a request must be a JSON object")
    return value
