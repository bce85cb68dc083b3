"""Run `diffusionct app`: standardize and view scans on a page in the browser of this machine."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path

from ..utils.arguments import MODEL_HELP, number_of
from ..utils.usage import UsageError, require_model, require_paths
from ._shared import EXIT_OK

TEXT = "standardize and view scans in the browser, on this machine only"
EXAMPLE = "diffusionct app scans/patient_01"

PORT, HIGHEST_PORT = 8765, 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add(
        "input",
        nargs="?",
        metavar="IN",
        help="folder of scans to start with, only read; without it, drop scans onto the page",
    )
    add("--model", metavar="M", help=MODEL_HELP)
    add(
        "--port",
        type=port,
        default=PORT,
        metavar="P",
        help="port on 127.0.0.1; 0 picks a free one (default: %(default)s)",
    )
    add("--most-gb", type=number_of("GB"), default=4.0, metavar="GB", help="maximum size of uploads, unpacked "
        "(default: %(default)g)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Serve until interrupted."""
    require_paths(IN=options.input)
    if options.input is not None and not Path(options.input).is_dir():
        raise UsageError(f'IN must be a folder, got the file "{options.input}"; you can drop the file onto the page.')
    require_model(options.model)
    from ..app.server import serve
    from ..app.uploads import Limits

    offered = None if options.input is None else Path(options.input)
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        serve(offered, options.model, options.port, Limits(bytes=int(options.most_gb * 1e9)), tell)
    print("ended; uploads and results have been removed")
    return EXIT_OK


def tell(address: str, code: str) -> None:
    """Print the address of the app and the code that opens it."""
    print(f"open {address} and enter the code {code[:4]} {code[4:]}; Ctrl-C ends it", flush=True)


def port(text: str) -> int:
    """Parse "8765".

    Raises:
        ArgumentTypeError: It is not an integer from 0 to 65535.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) > HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to {HIGHEST_PORT}, got {text!r}")
    return int(text)
