"""Run `diffusionct serve`: a worker next to Orthanc."""

from __future__ import annotations

import argparse

from ..utils.arguments import MODEL_HELP, number_of
from ..utils.usage import UsageError, require_folder, require_model, require_paths
from ._shared import EXIT_FAILURE, EXIT_OK

TEXT = "standardize what arrives at an Orthanc server, add the results to its studies, and send them on"
EXAMPLE = "diffusionct serve --orthanc http://127.0.0.1:8042 --rules rules.toml --work /var/lib/diffusionct"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--orthanc", required=True, metavar="URL", help="Orthanc's REST API; name and password are taken from ~/.netrc")
    add(
        "--rules",
        metavar="TOML",
        help="which series are standardized, and to what; the first rule that matches applies",
    )
    add("--work", metavar="DIR", help="folder for slices in progress")
    add("--send-to", metavar="NAME", help="where results are sent on: a name in Orthanc's DicomModalities, which must support "
        "storage commitment")  # fmt: skip
    add(
        "--retries",
        type=whole,
        default=10,
        metavar="N",
        help="how often a failed delivery is tried again (default: %(default)s)",
    )
    add("--pause", type=number_of("seconds"), default=60.0, metavar="S",
        help="seconds before the first retry, doubled each time, up to an "
        "hour (default: %(default)g)")  # fmt: skip
    add(
        "--poll",
        type=number_of("seconds"),
        default=2.0,
        metavar="S",
        help="seconds between two checks of Orthanc (default: %(default)g)",
    )
    add("--model", metavar="M", help=MODEL_HELP)
    add("--device", metavar="D", help='"cpu", "cuda", "cuda:1"; default: the first GPU, else the CPU')
    add("--once", action="store_true", help="end when nothing is left to do")
    add("--resend", action="store_true", help="send undelivered results once more")
    add("--status", action="store_true", help="print the state of the series, and exit with 1 if any is refused, incomplete or "
        "undelivered")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Serve, or print the table."""
    if options.status:
        from ..node.orthanc import Orthanc
        from ..node.state import all_states
        from ..node.status import needs_somebody, status_table

        states = all_states(Orthanc(options.orthanc))
        print(status_table(states))
        return EXIT_FAILURE if any(map(needs_somebody, states.values())) else EXIT_OK
    if options.rules is None or options.work is None:
        raise UsageError("--rules and --work are required, except with --status.")
    require_paths(**{"--rules": options.rules})
    require_folder("--work", options.work)
    require_model(options.model)
    from ..node.delivery import Receiver
    from ..node.rules import read_rules
    from ..node.worker import serve

    receiver = None
    if options.send_to is not None:
        receiver = Receiver(options.send_to, options.retries, options.pause)
    serve(
        options.orthanc,
        read_rules(options.rules),
        options.work,
        receiver=receiver,
        model=options.model,
        device=options.device,
        poll=options.poll,
        once=options.once,
        resend=options.resend,
    )
    return EXIT_OK


def whole(text: str) -> int:
    """Parse "10".

    Raises:
        ArgumentTypeError: It is not an integer of at least 0.
    """
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be an integer of at least 0, got {text!r}")
    return int(text)
