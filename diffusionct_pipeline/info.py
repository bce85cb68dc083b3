"""What `diffusionct info` shows: versions, the embedded checkpoint, kernels, systems and devices."""

import json
import os
import platform
from importlib import metadata

import torch

from . import __version__, baselines
from .pipeline import PRETRAINED
from .simulation import KERNELS

PACKAGES = ("torch", "diffusers", "accelerate", "transformers", "safetensors", "pydicom", "huggingface_hub", "numpy",
            "scipy", "scikit-image")  # fmt: skip
# Package -> what is missing without it.
OPTIONAL = {
    "pyjpegls": "JPEG-LS",
    "pylibjpeg-openjpeg": "JPEG 2000",
    "python-gdcm": "lossless JPEG",
    "matplotlib": "pictures",
    "SimpleITK": "NIfTI and NRRD masks",
    "highdicom": "DICOM SEG masks",
}


def info():
    """Facts for a bug report, as text."""
    return "\n".join(
        [
            f"DiffusionCT {__version__}, Python {platform.python_version()}, {platform.platform()}",
            section("packages", [f"{name} {version(name)}" for name in PACKAGES]),
            section("optional", [f"{name} {version(name)} ({use})" for name, use in OPTIONAL.items()]),
            section("embedded checkpoint", checkpoint()),
            section("kernels", [", ".join(KERNELS)]),
            section("systems", ["DiffusionCT", *baselines.__all__]),
            section("devices", devices()),
        ]
    )


def section(title, lines):
    """A title and indented lines."""
    return "\n".join([f"{title}:", *(f"  {line}" for line in lines)])


def version(package):
    """Version of a distribution, "not installed" without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def checkpoint():
    """Place and size of the embedded checkpoint, and its metrics."""
    if not (PRETRAINED / "model_index.json").is_file():
        return [f"none in {PRETRAINED}"]
    size = sum(path.stat().st_size for path in PRETRAINED.rglob("*") if path.is_file())
    settings = json.loads((PRETRAINED / "model_index.json").read_text())
    lines = [f"{PRETRAINED}, {size / 1e6:.1f} MB"]
    lines += [f"{name}: {settings[name]}" for name in ("standard_name", "default_num_inference_steps")]
    metrics = PRETRAINED / "metrics.json"
    return lines + (flattened(json.loads(metrics.read_text())) if metrics.is_file() else [])


def flattened(value, name=""):
    """Nested JSON -> lines "a.b: value"."""
    if not isinstance(value, dict):
        return [f"{name}: {value}"]
    return [line for key, inner in value.items() for line in flattened(inner, f"{name}.{key}" if name else key)]


def devices():
    """The CPU and every GPU that torch can use."""
    processor = platform.processor() or platform.machine()
    found = [f"cpu: {processor}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"]
    for index in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(index).total_memory
        found.append(f"cuda:{index}: {torch.cuda.get_device_name(index)}, {memory / 2**30:.0f} GiB")
    return found
