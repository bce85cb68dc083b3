"""Import optional dependencies when they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

# Module -> distribution, the extra of pyproject.toml that installs it, and what needs it.
OPTIONAL = {
    "jpeg_ls": ("pyjpegls", "dicom", "JPEG-LS"),
    "openjpeg": ("pylibjpeg-openjpeg", "dicom", "JPEG 2000"),
    "gdcm": ("python-gdcm", "dicom", "lossless JPEG"),
    "matplotlib": ("matplotlib", "plots", "pictures"),
    "nibabel": ("nibabel", "volumes", "NIfTI volumes"),
    "nrrd": ("pynrrd", "volumes", "NRRD volumes"),
    "SimpleITK": ("SimpleITK", "masks", "MetaImage masks"),
    "highdicom": ("highdicom", "masks", "DICOM SEG masks"),
    "starlette": ("starlette", "app", "pages of the app"),
    "uvicorn": ("uvicorn", "app", "requests to the app"),
    "ray": ("ray", "ray", "clusters of Ray"),
    "pandas": ("pandas", "cohorts", "tables of cohorts"),
    "pyarrow": ("pyarrow", "cohorts", "Parquet files"),
    "sklearn": ("scikit-learn", "cohorts", "classifiers of kernels"),
}


def import_optional(module: str) -> ModuleType:
    """Import a module listed in `OPTIONAL`, or a submodule of one ("matplotlib.figure").

    Raises:
        ImportError: naming the extra that installs the module.
    """
    distribution, extra, use = OPTIONAL[module.split(".")[0]]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'{use} need {distribution}, which is not installed: pip install ".[{extra}]" in the folder of the source'
        ) from error
