"""Run `diffusionct info`: show versions, the embedded checkpoint, kernels, systems and devices, as for a bug report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import textwrap
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from ..utils.optional import OPTIONAL
from ..utils.version import __version__
from ._shared import EXIT_OK

TEXT = "show versions, the embedded checkpoint, kernels, systems and devices"
EXAMPLE = "diffusionct info"

WIDTH = 98  # without the indent of two
PACKAGES = ("torch", "diffusers", "accelerate", "transformers", "safetensors", "pydicom", "huggingface_hub", "numpy",
            "scipy", "scikit-image")  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--all",
        action="store_true",
        help="also show the measured figures of the embedded checkpoint, a few hundred lines",
    )


def run(options: argparse.Namespace) -> int:
    """Print the facts."""
    print(info(everything=options.all))
    return EXIT_OK


def info(everything: bool = False) -> str:
    """Return the facts as text for the screen.

    Args:
        everything: Whether to add the figures of the embedded checkpoint.
    """
    from ..comparison.systems import ALL_SYSTEMS
    from ..pipeline import PRETRAINED
    from ..simulation import KERNELS

    return "\n".join(
        [
            f"DiffusionCT {__version__}, Python {platform.python_version()}, {platform.platform()}",
            section("packages", wrapped(f"{name} {version(name)}" for name in PACKAGES)),
            section("optional", wrapped(f"{name} {version(name)} ({use})" for name, _, use in OPTIONAL.values())),
            section("embedded checkpoint", checkpoint(PRETRAINED, everything)),
            section("kernels", wrapped(KERNELS)),
            section("systems", wrapped(ALL_SYSTEMS, "; ")),  # some names hold a comma
            section("devices", devices()),
        ]
    )


def section(title: str, lines: Iterable[str]) -> str:
    """Return a title and indented lines."""
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def wrapped(items: Iterable[str], between: str = ", ") -> list[str]:
    """Wrap items to lines of screen width; no item is broken."""
    text = between.join(item.replace(" ", "\N{NO-BREAK SPACE}") for item in items)
    lines = textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def version(package: str) -> str:
    """Return the version of a distribution, or "not installed"."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def checkpoint(folder: Path, everything: bool = False) -> list[str]:
    """Return folder, size and settings of a checkpoint; also its metrics, or how to show them."""
    if not (folder / "model_index.json").is_file():
        return [f"none in {folder}"]
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    settings = json.loads((folder / "model_index.json").read_text())
    lines = [f"{folder}, {size / 1e6:.1f} MB"]
    lines += [f"{name}: {settings[name]}" for name in ("standard_name", "default_num_inference_steps")]
    metrics = folder / "metrics.json"
    if not metrics.is_file():
        return lines
    return lines + (
        flattened(json.loads(metrics.read_text())) if everything else ["measured figures: diffusionct info --all"]
    )


def flattened(value: Any, name: str = "") -> list[str]:
    """Turn nested JSON into lines "a.b: value"."""
    if not isinstance(value, dict):
        return [f"{name}: {value}"]
    return [line for key, inner in value.items() for line in flattened(inner, f"{name}.{key}" if name else key)]


def devices() -> list[str]:
    """Return the CPU and every GPU that torch can use."""
    import torch

    processor = platform.processor() or platform.machine()
    found = [f"cpu: {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory
        found.append(f"cuda:{index}: {torch.cuda.get_device_name(index)}, {memory / 2**30:.0f} GiB")
    return found
