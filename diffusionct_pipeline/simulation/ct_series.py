"""Write simulated pairs to disk: one CT series per kernel, all in one frame of reference, with the tumour masks.

FOLDER/Br40/0001.dcm ...    FOLDER/Bl64/0001.dcm ...
FOLDER/tumours.npz          `mask`: uint8 [slices,H,W], 0 or the tumour's label
FOLDER/simulation.json      seeds, kernels, dose, geometry, version
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from ..dicom import write_slice
from ..physics.kernels import Kernel
from ..utils.files import whole_folder
from ..utils.version import __version__
from .pairs import ScanOptions, SimulatedPair
from .scanner import LOWEST_STORED_HU

logger = logging.getLogger(__name__)

MASK_FILE, SIDECAR_FILE = "tumours.npz", "simulation.json"
COMMENT = "Simulated image: computed from a procedural phantom, not acquired from a patient"
GENERATOR = f"DiffusionCT {__version__}"
BITS = 12
DATE, TIME = "20000101", "120000"  # fixed: same seed, same bytes
KV, TUBE_MA = 120, 200


def write_series(
    folder: str | Path,
    pairs: Iterable[SimulatedPair],
    *,
    about: dict[str, Any] | None = None,
    temporaries: str | Path | None = None,
) -> Path:
    """Write slices of one object as one CT series per kernel, with masks and a sidecar.

    Everything is written to a temporary folder beside `folder` that is renamed at the end, so `folder` is complete or
    absent. UIDs are derived from `about`, the options and the first slice: the same call writes the same bytes.

    Args:
        folder: New folder; its parents are created.
        pairs: Iterable of `SimulatedPair` with the same options at evenly spaced heights, in ascending order. They
            are written as they come, so a generator saves memory.
        about: JSON-serializable facts for the sidecar, for example the phantom's seed.
        temporaries: As in `whole_folder`.

    Returns:
        Path of the folder.

    Raises:
        FileExistsError: if `folder` exists.
        ValueError: for no pairs, mixed options, or heights that are not evenly spaced and ascending.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f'"{folder}" exists already; choose a new folder or remove it')
    with whole_folder(folder, temporaries=temporaries) as part:
        first: SimulatedPair | None = None
        masks: list[np.ndarray] = []
        heights: list[float] = []
        seeds: list[int] = []
        for pair in pairs:
            if first is None:
                first, identity = pair, _identity(pair, about)
            _require_same_series(first, pair, heights)
            heights.append(pair.z_mm)
            seeds.append(pair.seed)
            masks.append(pair.mask)
            for number, name in enumerate(pair.hu, start=1):
                dataset = _dataset(pair, name, number, len(heights), identity)
                write_slice(dataset, part / name / f"{len(heights):04d}.dcm")
        if first is None:
            raise ValueError("`pairs` must hold at least one SimulatedPair, got none")
        np.savez_compressed(part / MASK_FILE, mask=np.stack(masks))
        sidecar = _sidecar(first, heights, seeds, masks, about)
        (part / SIDECAR_FILE).write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
    logger.info("wrote %d slices with kernels %s to %s", len(heights), ", ".join(first.hu), folder)
    return folder


def is_written(
    folder: Path, options: ScanOptions, heights: list[float], seeds: list[int], about: dict[str, Any]
) -> bool:
    """Return whether `write_series` of this version wrote exactly these slices to a folder.

    Args:
        folder: The folder.
        options: Options of the scan, with the kernels as they were drawn.
        heights, seeds: Heights and seeds of its slices.
        about: As given to `write_series`.
    """
    try:
        found = json.loads((folder / SIDECAR_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    slices = [{"z_mm": z, "seed": seed} for z, seed in zip(heights, seeds)]
    kernels = options.kernel_objects
    expected = {**about, "generator": GENERATOR, "options": _option_facts(options, kernels), "slices": slices}
    if any(found.get(key) != value for key, value in json.loads(json.dumps(expected)).items()):
        return False
    names = [f"{kernel.name}/{number:04d}.dcm" for kernel in kernels for number in range(1, len(heights) + 1)]
    return all((folder / name).is_file() for name in [MASK_FILE, *names])


def _identity(pair: SimulatedPair, about: dict[str, Any] | None) -> str:
    """Return the text that the UIDs are derived from."""
    facts = {"about": about, "version": __version__, "z": pair.z_mm, "seed": pair.seed, "options": _facts(pair)}
    return json.dumps(facts, sort_keys=True)


def _facts(pair: SimulatedPair) -> dict[str, Any]:
    """Return the options of a pair as JSON values, with its kernels as they were drawn."""
    return _option_facts(pair.options, pair.kernels.values())


def _option_facts(options: ScanOptions, kernels: Iterable[Kernel]) -> dict[str, Any]:
    """Return options as JSON values, with the given kernels."""
    drawn = {kernel.name: asdict(kernel) for kernel in kernels}
    return {**asdict(options), "kernels": drawn, "smoothing": dict(options.smoothing)}


def _require_same_series(first: SimulatedPair, pair: SimulatedPair, heights: list[float]) -> None:
    if pair.options != first.options:
        raise ValueError(f"`pairs` must share one set of options, got {pair.options} after {first.options}")
    for name in pair.hu:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", name):
            raise ValueError(f"a kernel's name must be 1 to 16 letters, digits, '-' and '_', got {name!r}")
    if heights and pair.z_mm <= heights[-1]:
        raise ValueError(f"`pairs` must have ascending z_mm, got {pair.z_mm} after {heights[-1]}")
    if len(heights) > 1 and abs((pair.z_mm - heights[-1]) - (heights[1] - heights[0])) > 1e-3:
        step = heights[1] - heights[0]
        raise ValueError(f"`pairs` must have evenly spaced z_mm, here {step} mm, got {pair.z_mm} after {heights[-1]}")


def _sidecar(
    first: SimulatedPair, heights: list[float], seeds: list[int], masks: list[np.ndarray], about: dict[str, Any] | None
) -> dict[str, Any]:
    voxels = np.bincount(np.stack(masks).ravel())
    return {
        "simulated": True,
        "generator": GENERATOR,
        **(about or {}),
        "mas": first.mas,
        "thickness_mm": first.thickness_mm,
        "spacing_mm": first.spacing_mm,
        "options": _facts(first),
        "mask_voxels": {str(label): int(voxels[label]) for label in range(1, len(voxels))},
        "slices": [{"z_mm": z, "seed": seed} for z, seed in zip(heights, seeds)],
    }


def _dataset(pair: SimulatedPair, kernel: str, series_number: int, instance_number: int, identity: str) -> Dataset:
    """Return one CT Image Storage object (DICOM PS3.3 A.3)."""

    def uid(*what: object) -> str:
        return generate_uid(entropy_srcs=[identity, *map(str, what)])

    options, hu = pair.options, pair.hu[kernel]
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = uid("instance", kernel, instance_number)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # Patient and study: one per object.
    digest = hashlib.sha256(identity.encode()).hexdigest()[:12]
    dataset.PatientName, dataset.PatientID = "Simulated^Phantom", f"SIM-{digest}"
    dataset.PatientBirthDate, dataset.PatientSex = "", "O"
    dataset.StudyInstanceUID, dataset.StudyID = uid("study"), "1"
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.ReferringPhysicianName = DATE, TIME, "", ""
    dataset.StudyDescription = "Simulated chest CT"
    # Series: one per kernel, all in one frame of reference.
    dataset.Modality, dataset.SeriesNumber, dataset.SeriesInstanceUID = "CT", series_number, uid("series", kernel)
    dataset.SeriesDescription = f"SIMULATED {kernel} {pair.thickness_mm:g} mm"
    dataset.ProtocolName = "DiffusionCT simulation"
    dataset.BodyPartExamined, dataset.PatientPosition = "CHEST", "HFS"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = uid("frame of reference"), ""
    dataset.Manufacturer, dataset.ManufacturerModelName = "DiffusionCT", "simulated scanner"
    dataset.SoftwareVersions = __version__
    # Image.
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.InstanceNumber, dataset.AcquisitionNumber = instance_number, 1
    dataset.AcquisitionDate = dataset.ContentDate = DATE
    dataset.AcquisitionTime = dataset.ContentTime = TIME
    noise = "no noise" if pair.mas is None else f"{pair.mas:g} mAs"
    dataset.ImageComments = f"{COMMENT}. Kernel {kernel}, {noise}, noise seed {pair.seed}"
    dataset.ConvolutionKernel = kernel
    dataset.KVP = KV
    if pair.mas is not None:
        dataset.XRayTubeCurrent = TUBE_MA
        dataset.Exposure = round(pair.mas)
        dataset.ExposureTime = round(1000 * pair.mas / TUBE_MA)
    corner = [centre - options.size // 2 * options.spacing_mm for centre in options.centre_mm]
    dataset.ImagePositionPatient = [f"{value:.4f}" for value in (*corner, pair.z_mm)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.SliceLocation = f"{pair.z_mm:.4f}"
    dataset.SliceThickness = f"{pair.thickness_mm:g}"
    dataset.PixelSpacing = [f"{options.spacing_mm:.10g}"] * 2
    dataset.ReconstructionDiameter = f"{options.size * options.spacing_mm:.6g}"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, BITS, BITS - 1, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = LOWEST_STORED_HU, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = -600, 1500
    dataset.PixelData = (hu - LOWEST_STORED_HU).astype("<u2").tobytes()
    return dataset
