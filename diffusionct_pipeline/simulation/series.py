"""Simulated pairs on disk: one CT series per kernel, all in one frame of reference, with the tumour masks beside.

    OUT/phantom_0000/Br40/0001.dcm ...    OUT/phantom_0000/Bl64/0001.dcm ...
    OUT/phantom_0000/tumours.npz          `mask`: uint8 [slices,H,W], 0 or the tumour's label
    OUT/phantom_0000/simulation.json      seeds, kernels, dose, geometry, version
"""

import contextlib
import hashlib
import json
import logging
import math
import re
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from .. import __version__
from ..dicom import write_slice
from .pairs import ScanOptions, simulate_pair
from .phantom import ChestPhantom
from .scanner import Scanner

logger = logging.getLogger(__name__)

MASK_FILE, SIDECAR_FILE = "tumours.npz", "simulation.json"
COMMENT = "Simulated image: computed from a procedural phantom, not acquired from a patient"
RESCALE_INTERCEPT = -1024
TUMOUR_MARGIN_MM = 4.0  # slices beyond the tumours when they set the range
DATE, TIME = "20000101", "120000"  # fixed: same seed, same bytes
KV, TUBE_MA = 120, 200


def write_series(folder, pairs, *, about=None):
    """Write slices of one object as one CT series per kernel, with masks and a sidecar.

    Everything goes to a temporary folder beside `folder` that is renamed at the end, so `folder` is whole or absent.
    UIDs are derived from `about`, the options and the first slice: the same call writes the same bytes.

    Args:
        folder: New folder; its parents are made.
        pairs: Iterable of `SimulatedPair` with the same options at evenly spaced heights, in ascending order. They
            are written as they come, so a generator keeps memory small.
        about: JSON-serializable facts for the sidecar, for example the phantom's seed.

    Returns:
        Path of the folder.

    Raises:
        FileExistsError: if `folder` exists.
        ValueError: for no pairs, mixed options, or heights that are not evenly spaced and ascending.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f'"{folder}" exists already; choose a new folder or remove it')
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.mkdir()
        first, masks, heights, seeds = None, [], [], []
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
            raise ValueError("pairs is empty; legal is at least one SimulatedPair")
        np.savez_compressed(part / MASK_FILE, mask=np.stack(masks))
        sidecar = _sidecar(first, heights, seeds, masks, about)
        (part / SIDECAR_FILE).write_text(json.dumps(sidecar, indent=2) + "\n", encoding="utf-8")
        part.rename(folder)
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or never came to be
            shutil.rmtree(part)
    logger.info("wrote %d slices with kernels %s to %s", len(heights), ", ".join(first.hu), folder)
    return folder


def simulate(
    out, kernels=("Br40", "Bl64"), thickness_mm=1.0, phantoms=3, seed=0, slices=None, *, style="human", mas=100.0,
    spacing_mm=0.7, size=512, kernel_jitter=0.0, beam_hardening=0.0, smoothing=None, device="cpu", progress=None,
):  # fmt: skip
    """Simulate paired CT series of phantoms: `OUT/phantom_<seed>/<kernel>/*.dcm` with tumour masks.

    Args:
        out: Folder to write to; phantoms that are already there are refused before any work is done.
        kernels: Kernel names.
        thickness_mm: Slice thickness and distance.
        phantoms: How many; phantom i has seed `seed + i`, so ranges of seeds do not overlap.
        seed: First seed.
        slices: Slices per phantom, centred on its first tumour; None takes those that show all tumours.
        style: "human" or "lungman".
        mas, spacing_mm: A number, or (low, high) to draw one per phantom.
        size, kernel_jitter, beam_hardening, smoothing: As in `ScanOptions`; jitter is drawn once per phantom.
        device: Where to compute.
        progress: Called as progress(done, total) after each slice, all phantoms together.

    Returns:
        Paths of the phantoms' folders.

    Raises:
        ValueError: for illegal options. FileExistsError: for a phantom that is already in `out`.
    """
    if phantoms < 1:
        raise ValueError(f"phantoms is {phantoms}; legal is at least 1")
    if slices is not None and slices < 1:
        raise ValueError(f"slices is {slices}; legal is at least 1, or None for all that show tumours")
    for name, value in (("mas", mas), ("spacing_mm", spacing_mm)):
        if isinstance(value, (tuple, list)) and not (len(value) == 2 and value[0] <= value[1]):
            raise ValueError(f"{name} is {value}; legal is a number or (low, high)")
    folders = [Path(out) / f"phantom_{seed + i:04d}" for i in range(phantoms)]
    for folder in folders:
        if folder.exists():
            raise FileExistsError(f'"{folder}" exists already; choose a new folder or another seed')
    # 1. Draw what is constant within a series; this also checks the options before any work is done.
    objects, scans, heights = [], [], []
    for i in range(phantoms):
        generator = torch.Generator().manual_seed(derive_seed(seed + i, "scan"))
        options = ScanOptions(
            kernels=tuple(kernels), thickness_mm=thickness_mm, mas=_draw(mas, generator), size=size,
            spacing_mm=_draw(spacing_mm, generator), beam_hardening=beam_hardening, smoothing=smoothing or {},
            kernel_jitter=kernel_jitter,
        )  # fmt: skip
        scans.append(options.with_drawn_kernels(generator))
    for i in range(phantoms):
        objects.append(ChestPhantom(seed + i, style, device=device))
        heights.append(_heights(objects[i], slices, thickness_mm))
    # 2. Scan and write slice by slice.
    scanner, done, total = Scanner(device), 0, sum(map(len, heights))

    def scan(phantom, options, positions):
        nonlocal done
        for index, z_mm in enumerate(positions):
            slice_seed = derive_seed(phantom.seed, f"slice {index}")
            yield simulate_pair(phantom, z_mm, options, seed=slice_seed, scanner=scanner)
            done += 1
            if progress is not None:
                progress(done, total)

    for folder, phantom, options, positions in zip(folders, objects, scans, heights):
        tumours = [
            {"label": t.label, "kind": t.kind, "centre_mm": t.centre_mm, "radius_mm": t.radius_mm}
            for t in phantom.tumours
        ]
        about = {"phantom_seed": phantom.seed, "style": style, "tumours": tumours}
        write_series(folder, scan(phantom, options, positions), about=about)
    return folders


def derive_seed(seed, purpose):
    """A seed below 2^63 for one purpose, so that noise, scan settings and anatomy are drawn independently."""
    return int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big") >> 1


def _draw(value, generator):
    if isinstance(value, (tuple, list)):
        return value[0] + (value[1] - value[0]) * torch.rand(1, generator=generator).item()
    return value


def _heights(phantom, slices, thickness_mm):
    """Heights of the slices: round the first tumour, or over all tumours, inside the phantom."""
    low_limit, high_limit = (z + s * thickness_mm / 2 for z, s in zip(phantom.z_range_mm, (1, -1)))
    if slices is None:
        low = min(t.centre_mm[2] - t.radius_mm for t in phantom.tumours) - TUMOUR_MARGIN_MM
        high = max(t.centre_mm[2] + t.radius_mm for t in phantom.tumours) + TUMOUR_MARGIN_MM
        slices = math.ceil((high - low) / thickness_mm) + 1
        middle = (low + high) / 2
    else:
        middle = phantom.tumours[0].centre_mm[2]
    if (slices - 1) * thickness_mm > high_limit - low_limit:
        most = int((high_limit - low_limit) / thickness_mm) + 1
        raise ValueError(f"slices is {slices}; at {thickness_mm} mm this phantom has room for {most}")
    start = middle - (slices - 1) / 2 * thickness_mm
    start = min(max(start, low_limit), high_limit - (slices - 1) * thickness_mm)
    start = round(start, 1)  # tidy positions in the headers
    start = min(max(start, low_limit), high_limit - (slices - 1) * thickness_mm)
    return [round(start + i * thickness_mm, 4) for i in range(slices)]


def _identity(pair, about):
    """What the UIDs are derived from."""
    facts = {"about": about, "version": __version__, "z": pair.z_mm, "seed": pair.seed, "options": _facts(pair)}
    return json.dumps(facts, sort_keys=True)


def _facts(pair):
    options = asdict(pair.options)
    options["kernels"] = {name: asdict(kernel) for name, kernel in pair.kernels.items()}
    options["smoothing"] = dict(pair.options.smoothing)
    return options


def _require_same_series(first, pair, heights):
    if pair.options != first.options:
        raise ValueError(f"pairs mixes options: {pair.options} after {first.options}; a series has one set")
    for name in pair.hu:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,16}", name):
            raise ValueError(f"kernel name is {name!r}; legal is up to 16 letters, digits, '-' and '_'")
    if heights and pair.z_mm <= heights[-1]:
        raise ValueError(f"pairs has z_mm {pair.z_mm} after {heights[-1]}; legal is ascending")
    if len(heights) > 1 and abs((pair.z_mm - heights[-1]) - (heights[1] - heights[0])) > 1e-3:
        step = heights[1] - heights[0]
        raise ValueError(f"pairs has z_mm {pair.z_mm} after {heights[-1]}; legal is even spacing, here {step} mm")


def _sidecar(first, heights, seeds, masks, about):
    voxels = np.bincount(np.stack(masks).ravel())
    return {
        "simulated": True,
        "generator": f"DiffusionCT {__version__}",
        **(about or {}),
        "mas": first.mas,
        "thickness_mm": first.thickness_mm,
        "spacing_mm": first.spacing_mm,
        "options": _facts(first),
        "mask_voxels": {str(label): int(voxels[label]) for label in range(1, len(voxels))},
        "slices": [{"z_mm": z, "seed": seed} for z, seed in zip(heights, seeds)],
    }


def _dataset(pair, kernel, series_number, instance_number, identity):
    """One CT Image Storage object (DICOM PS3.3 A.3)."""

    def uid(*what):
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
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = RESCALE_INTERCEPT, 1, "HU"
    dataset.WindowCenter, dataset.WindowWidth = -600, 1500
    dataset.PixelData = (hu - RESCALE_INTERCEPT).astype("<u2").tobytes()
    return dataset
