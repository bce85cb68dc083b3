"""`diffusionct mercure`: a processing module of mercure, the DICOM orchestrator: folders and settings as it gives them.

Mercure starts a container with MERCURE_IN_DIR and MERCURE_OUT_DIR set, and task.json in the first of them, whose
"process" > "settings" hold what the site configured (docs.mercure-imaging.org, module development).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from ..utils.usage import UsageError
from . import standardize
from ._shared import EXIT_MISSED, EXIT_OK

TEXT = "standardize as a processing module of mercure, with folders and settings from it"
EXAMPLE = "diffusionct mercure"

TASK_FILE = "task.json"
FOLDERS = ("MERCURE_IN_DIR", "MERCURE_OUT_DIR")
VALUES = ("target", "noise", "steps", "seed", "device", "batch_size")  # options of `standardize` with a value
SWITCHES = ("again", "fast", "page", "preview")  # and without one
FAIL_IF_MISSED = "fail_if_missed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: there are none, mercure gives none."""


def run(options: argparse.Namespace) -> int:
    """Standardize, and print what `diffusionct standardize` does.

    Results that miss their target are labelled so and delivered, unless the settings say otherwise: mercure drops the
    results of a module that fails.
    """
    for name in FOLDERS:
        if not os.environ.get(name):
            raise UsageError(f"{name} is not set; mercure sets it for its modules.")
    source, output = (os.environ[name] for name in FOLDERS)
    settings = read_settings(Path(source, TASK_FILE))
    must_reach = settings.pop(FAIL_IF_MISSED, False)
    parser = argparse.ArgumentParser(prog="diffusionct mercure")
    standardize.add_arguments(parser)
    code = standardize.run(parser.parse_args([source, output, *as_options(settings)]))
    if code == EXIT_MISSED and not must_reach:
        print(f'delivered, labelled "uncertain"; set "{FAIL_IF_MISSED}" to have it fail', file=sys.stderr)
        return EXIT_OK
    return code


def read_settings(path: Path) -> dict[str, Any]:
    """Settings of the module; none where there is no task.json.

    Raises:
        UsageError: It holds none of a single module, or some that are not known.
    """
    if not path.is_file():
        return {}
    try:
        process = json.loads(path.read_text())["process"]
        (process,) = process if isinstance(process, list) else [process]
        settings = dict(process.get("settings") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path.name} holds no "process" with "settings" of one module: {error}') from error
    legal = (*VALUES, *SWITCHES, FAIL_IF_MISSED)
    for name, value in settings.items():
        if name not in legal:
            raise UsageError(f"setting {name!r} is not known; legal are {', '.join(legal)}.")
        if name not in VALUES and not isinstance(value, bool):
            raise UsageError(f"setting {name!r} is {value!r}; legal are true and false.")
        if name in VALUES and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
            raise UsageError(f"setting {name!r} is {value!r}; legal is a text or a number.")
    return settings


def as_options(settings: dict[str, Any]) -> list[str]:
    """Settings -> options of `diffusionct standardize`."""
    options = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if name in VALUES:
            options.append(f"{option}={value}")
        elif value:
            options.append(option)
    return options
