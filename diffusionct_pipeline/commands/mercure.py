"""Run `diffusionct mercure`: standardize as a processing module of mercure, the DICOM orchestrator.

Mercure starts a container with MERCURE_IN_DIR and MERCURE_OUT_DIR set. The first holds task.json, whose "process" >
"settings" are what the site configured (docs.mercure-imaging.org, module development).
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

TEXT = "standardize as a processing module of mercure, which gives the folders and settings"
EXAMPLE = "diffusionct mercure"

TASK_FILE = "task.json"
FOLDERS = ("MERCURE_IN_DIR", "MERCURE_OUT_DIR")
VALUES = ("target", "noise", "steps", "seed", "device", "batch_size")  # options of `standardize` with a value
SWITCHES = ("again", "fast", "page", "preview")  # and without one
FAIL_IF_MISSED = "fail_if_missed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: there are none, since mercure gives none."""


def run(options: argparse.Namespace) -> int:
    """Standardize, and print what `diffusionct standardize` prints.

    Results that miss their target are labelled and delivered unless the settings say otherwise: mercure drops the results
    of a module that fails.
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
        print(f'delivered, labelled "uncertain"; set "{FAIL_IF_MISSED}" to make this a failure', file=sys.stderr)
        return EXIT_OK
    return code


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings of the module; there are none without task.json.

    Raises:
        UsageError: The file is not about one module, or a setting is unknown or invalid.
    """
    if not path.is_file():
        return {}
    try:
        process = json.loads(path.read_text())["process"]
        (process,) = process if isinstance(process, list) else [process]
        settings = dict(process.get("settings") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f'{path.name} must hold a "process" with "settings" of one module: {error}') from error
    known = (*VALUES, *SWITCHES, FAIL_IF_MISSED)
    for name, value in settings.items():
        if name not in known:
            raise UsageError(f"a setting must be one of {', '.join(known)}, got {name!r}.")
        if name not in VALUES and not isinstance(value, bool):
            raise UsageError(f"setting {name!r} must be true or false, got {value!r}.")
        if name in VALUES and (isinstance(value, bool) or not isinstance(value, (str, int, float))):
            raise UsageError(f"setting {name!r} must be a text or a number, got {value!r}.")
    return settings


def as_options(settings: dict[str, Any]) -> list[str]:
    """Turn settings into options of `diffusionct standardize`."""
    options = []
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if name in VALUES:
            options.append(f"{option}={value}")
        elif value:
            options.append(option)
    return options
