"""Series in Orthanc, and what the node made of them."""

import io

import numpy as np
import pydicom
from helpers.dicom import ROOT, make_slice
from helpers.runs import HU

from diffusionct_pipeline.node.rules import Rule
from diffusionct_pipeline.node.state import all_states

RULES = [Rule("none of B10", kernel=("B10*",), skip=True), Rule("CT", modality=("CT", "PT"))]


def data_of(dataset):
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def push(orthanc, *numbers, series=1, dataset=None, **header):
    """Slices of a series with noise that differs from slice to slice, or one that was made; their files."""
    files = []
    if dataset is not None:
        orthanc.store(data_of(dataset))
    for number in numbers:
        hu = (np.random.default_rng(number).normal(40, 30 * number, HU.shape)).round()
        files.append(data_of(make_slice(hu, series=series, number=number, **header)))
        orthanc.store(files[-1])
    return files


def states(orthanc):
    """Number of the source series -> its state."""
    found = {}
    for series, state in all_states(orthanc).items():
        uid = orthanc.get(f"/series/{series}")["MainDicomTags"]["SeriesInstanceUID"]
        found[uid.removeprefix(f"{ROOT}.")] = state
    return found


def results(orthanc, state):
    """UID -> file of each result of a series."""
    files = {}
    for instance in orthanc.get(f"/series/{state.result}")["Instances"]:
        data = orthanc.download(f"/instances/{instance}/file")
        files[pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID] = data
    return files
