"""Describe the CT images of a cohort, DICOM series and volumes alike: patient, geometry and HU."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..dicom import CTSeries, read_slice
from ..dicom.headers import header_texts
from ..dicom.reading import read_dataset
from ..evaluation.geometry import Geometry, Series, series_with_geometry
from ..utils.paths import relative_path
from ..volumes import VolumeHeader, read_volume

PATIENT_DIRECTIONS = np.eye(3)[::-1]  # slices towards the head, rows to the back, columns to the left, in LPS


@dataclass(frozen=True, eq=False)
class CohortImage(ABC):
    """Describe one image.

    Attributes:
        name: Its folder or file relative to the input, with "/".
        patient: PatientID; for a volume, the first part of its name.
        study_uid, series_uid: From the headers; for a volume, "" and the hash of its file.
        kernel: ConvolutionKernel, "" if unknown.
        geometry: Its position and grid.
        remarks: What is unusual about it, a sentence each.
    """

    name: str
    patient: str
    study_uid: str
    series_uid: str
    kernel: str
    geometry: Geometry
    remarks: list[str] = field(default_factory=list, kw_only=True)

    @abstractmethod
    def hu(self, slices: Iterable[int]) -> dict[int, np.ndarray]:
        """Return index of each of the slices, by ascending position, -> (rows, columns) HU."""


@dataclass(frozen=True, eq=False)
class DicomImage(CohortImage):
    """Describe a series of DICOM slices.

    Attributes:
        series: Its files.
    """

    series: Series

    @classmethod
    def of(cls, series: CTSeries, root: Path) -> DicomImage:
        """Describe a series below a folder.

        Raises:
            DicomError: Its headers give no position, or slices share a position.
        """
        folder = series.paths[0].parent
        found = series_with_geometry(series, folder)
        dataset = read_dataset(series.paths[0], header_only=True)
        patient, study = (
            "/".join(header_texts(dataset, keyword, series.paths[0].name))
            for keyword in ("PatientID", "StudyInstanceUID")
        )
        name = "/".join(relative_path(folder, root).parts) or root.name
        return cls(name, patient, study, series.uid, found.kernel, found.geometry, found, remarks=found.remarks)

    def hu(self, slices: Iterable[int]) -> dict[int, np.ndarray]:
        """See `CohortImage`."""
        return {i: read_slice(self.series.paths[i]).hu for i in slices}


@dataclass(frozen=True, eq=False)
class VolumeImage(CohortImage):
    """Describe a NIfTI or NRRD file.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def of(cls, header: VolumeHeader, root: Path) -> VolumeImage:
        """Describe a volume below a folder.

        Raises:
            OSError: It cannot be read.
        """
        name = "/".join(relative_path(header.path, root).parts)
        with open(header.path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else None
            uid = digest.hexdigest() if digest else hashlib.sha256(file.read()).hexdigest()
        return cls(name, image_key(name).split("/")[0], "", uid, "", volume_geometry(header), header.path)

    def hu(self, slices: Iterable[int]) -> dict[int, np.ndarray]:
        """See `CohortImage`."""
        volume = read_volume(self.path)
        return {i: volume.slice_hu(i) for i in slices}


def volume_geometry(header: VolumeHeader) -> Geometry:
    """Return the geometry of a volume's axial slices."""
    grid, affine = header.grid, np.asarray(header.fields.affine, float)
    corners = np.stack([np.zeros(3), np.array(grid.shape) - 1.0]) @ affine[:3, :3].T + affine[:3, 3]
    first = corners.min(0)  # the first pixel is rightmost, most anterior and lowest
    origins = first + np.arange(grid.slices_shape[0])[:, None] * [0, 0, grid.step_mm]
    return Geometry(grid.slices_shape, grid.spacing_mm, PATIENT_DIRECTIONS, origins, grid.step_mm)


def image_key(name: str) -> str:
    """Return what the names of an image and its mask share: "a/lung1" of a/lung1_image.nrrd and a/lung1_label.nrrd."""
    *folders, last = name.lower().split("/")
    for suffix in (".nii.gz", ".nii", ".nrrd", ".npz", ".dcm", ".mha"):
        last = last.removesuffix(suffix)
    words = [word for word in last.replace("-", "_").replace(" ", "_").split("_") if word not in ROLE_WORDS]
    return "/".join([*folders, "_".join(words)]).strip("/")


MASK_WORDS = {"mask", "masks", "label", "labels", "seg", "segmentation", "roi", "rois", "tumour", "tumor", "gtv"}
ROLE_WORDS = MASK_WORDS | {"image", "img", "ct", "0000"}
