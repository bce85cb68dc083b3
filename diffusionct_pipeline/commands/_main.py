"""Run `diffusionct`: parse the arguments, run the command, show errors as one line, and return an exit code."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from .. import __version__, commands
from ..utils.files import full_disk
from ..utils.usage import UsageError
from ._shared import EXIT_FAILURE, silence_header_warnings

EXIT_USAGE = 2  # argparse's own
EXIT_INTERRUPTED = 130  # a shell's 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        Exit code: 0 done, 1 something failed, 2 a wrong path or value, 3 a target was missed, 130 interrupted. Arguments
        that argparse refuses raise SystemExit(2).
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if argv is None:  # in its own process: a batch system's SIGTERM ends it as cleanly as Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = build_parser().parse_args(argv)
    except KeyboardInterrupt:
        print("diffusionct: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    try:
        with silence_header_warnings():
            return options.run(options)
    except KeyboardInterrupt:
        print(f"diffusionct {options.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of the output, such as `| head`, has closed it; flush nothing at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except (ValueError, OSError, ImportError) as error:
        code = EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILURE
        print(f"diffusionct {options.command}: error: {describe(error)}", file=sys.stderr)
        return code
    except Exception as error:
        full = full_disk(error)  # libraries such as safetensors raise their own error for it
        if full is None:
            raise
        print(f"diffusionct {options.command}: error: {describe(full)}", file=sys.stderr)
        return EXIT_FAILURE


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands; each stores its function in `run`."""
    parser = argparse.ArgumentParser(
        prog="diffusionct",
        description="Standardize CT images between reconstruction kernels. Research use, not a medical device.",
        epilog="Each command has its own help: diffusionct standardize --help",
    )
    parser.add_argument("--version", action="version", version=f"diffusionct {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in commands.available().items():
        subparser = subparsers.add_parser(
            name,
            help=command.TEXT,
            description=command.TEXT[0].upper() + command.TEXT[1:] + ".",
            epilog=f"example:\n  {command.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def describe(error: Exception) -> str:
    """Return the message of an error for the screen."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f'"{error.filename}": {error.strerror}'
    return str(error) or type(error).__name__
