"""Recognize what an earlier run has finished by the content of its files, never by their names or times."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from ..dicom import CTSlice, read_slice
from ..dicom.sample_files import SliceSamples
from ..method.provenance import Derivation, stamp_pixel_hashes


def finished_slice(path: Path, source: CTSlice, seed: int, derivation: Derivation) -> Dataset | None:
    """Return the derived image in a file if a run would write this very file; None if it has to be computed.

    A header is made as for a new image: from the source as it is now, the model, the options and the noise seed, with
    the hash of the source's pixels. Before the pixels of the file, whose hash it holds too, it must give every byte of
    the file. Files that are absent, damaged, of other options, of a source that has changed or of somebody else do not.
    Device and batch size are no options in this sense: they move the last bits only, and no UID.

    Args:
        path: Where the derived image would be.
        source: The slice that it is of.
        seed: Its noise seed.
        derivation: Of the run.
    """
    if not path.is_file():  # to open a pipe would wait for ever
        return None
    try:
        data = path.read_bytes()
        pixels = pydicom.dcmread(io.BytesIO(data)).PixelData
    except Exception:  # absent, or no DICOM: what that raises depends on its bytes
        return None
    derived = derivation.derive(source.hu, source, seed)
    if len(pixels) != len(derived.PixelData):
        return None
    derived.PixelData = pixels
    stamp_pixel_hashes(derived, source)
    expected = io.BytesIO()
    pydicom.dcmwrite(expected, derived, enforce_file_format=True)
    return derived if expected.getvalue() == data else None


def finished_samples(path: Path, derived: Dataset, source: CTSlice, seeds: tuple[int, ...]) -> SliceSamples | None:
    """Return the samples in a file if they belong to a derived image; None if they have to be computed.

    Args:
        path: Where they would be.
        derived: What `finished_slice` gave.
        source: The slice that it is of.
        seeds: K seeds of their noise.
    """
    try:
        record = SliceSamples.read(path)  # the archive has a checksum of each array
    except (OSError, ValueError, TypeError):
        return None
    same = (
        (record.source_uid, record.derived_uid) == (source.dataset.SOPInstanceUID, derived.SOPInstanceUID)
        and record.seeds.tolist() == list(seeds)
        and record.samples.shape == (len(seeds), *source.hu.shape)
        and record.spread.shape == source.hu.shape
        and np.abs(record.samples[0] - read_slice(derived).hu).max() <= 1  # HU: they are rounded
    )
    return record if same else None
