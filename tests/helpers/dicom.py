"""CT slices made to measure, and the validators and converters that may be installed."""

import shutil
import struct
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless

from diffusionct_pipeline.dicom import derive_slice

ROOT = "1.2.826.0.1.3680043.8.498.77"  # pydicom's own root: these UIDs never leave the tests


def make_slice(hu=None, *, number=1, series=1, signed=True, bits=16, slope=1.0, intercept=-1024.0, **header) -> Dataset:
    """A valid axial CT slice; header keywords override the defaults, None removes an attribute."""
    hu = ramp() if hu is None else hu
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{ROOT}.{series}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = f"{ROOT}.900", f"{ROOT}.{series}", f"{ROOT}.901"
    ds.ImageType, ds.Modality, ds.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "TEST"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Test^Object", "T1", "", "O"
    ds.StudyDate, ds.StudyTime, ds.StudyID = "20200102", "0304", "1"
    ds.AccessionNumber, ds.ReferringPhysicianName = "", ""
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = series, number, 1
    ds.SeriesDescription, ds.BodyPartExamined, ds.PatientPosition = "thorax", "CHEST", "HFS"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-10, -10, 2.5 * number], [1, 0, 0, 0, 1, 0]
    ds.PositionReferenceIndicator, ds.SliceThickness, ds.KVP, ds.ConvolutionKernel = "", 2.5, 120, "B70f"
    ds.PixelSpacing, (ds.Rows, ds.Columns) = [0.7, 0.7], hu.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, int(signed)
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = slope, intercept, "HU"
    ds.PixelData = np.rint((hu - intercept) / slope).astype("<i2" if signed else "<u2").tobytes()
    ds["PixelData"].VR = "OW"
    for keyword, value in header.items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    return ds


def derive(source, hu=None, **options):
    """The derived image of a slice, its own pixels if no others are given."""
    settings = {"target_name": "Bl64", "model_id": "tiny 0123abcd", "options": {"seed": 0, "steps": 20}, **options}
    return derive_slice(source, source.hu if hu is None else hu, **settings)


def ramp(rows=16, columns=16, low=-1000.0, high=1500.0) -> np.ndarray:
    """Whole HU from `low` to `high`."""
    return np.rint(np.linspace(low, high, rows * columns)).reshape(rows, columns)


def save(dataset, path):
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def jpeg2000_with(hu, field, value, **options) -> Dataset:
    """A slice as JPEG 2000 whose code stream has another value in its header (marker SIZ, ITU-T T.800 A.5.1).

    Args:
        hu: (H, W).
        field: "bits" of a pixel, which GDCM believes and aborts; or "size" of image and tile, the side of a square.
        value: What it says instead.
    """
    dataset = make_slice(hu, **options)
    dataset.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg")
    frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
    marker = frame.index(b"\xff\x51")
    if field == "bits":
        frame[marker + 40] = value - 1
    else:
        frame[marker + 6 : marker + 30] = struct.pack(">6I", value, value, 0, 0, value, value)
    dataset.PixelData = encapsulate([bytes(frame)])
    return dataset


def convert(tool, *arguments):
    """Run a converter of DCMTK or GDCM, or skip the test where it is not installed."""
    # By full path first: a Python package may bring a program of the same name.
    program = shutil.which(tool, path="/usr/bin:/usr/local/bin:/opt/homebrew/bin") or shutil.which(tool)
    if program is None:
        pytest.skip(f"{tool} is not installed")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True)


def dciodvfy_errors(path) -> list[str]:
    """Error lines of the validator; its exit code says nothing."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed")
    run = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace")
    lines = (run.stdout + run.stderr).splitlines()
    assert "CTImage" in lines, lines
    return [line for line in lines if "Error" in line]
