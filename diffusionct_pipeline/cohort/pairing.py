"""Assign masks to the images of a cohort: by the series that a mask refers to, else by its name or folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pydicom.dataset import Dataset

from ..dicom import DicomError, Skipped
from ..dicom.folders import visible_files
from ..dicom.reading import read_dataset
from ..evaluation.masks import RTSTRUCT_CLASS, SEG_CLASSES
from ..utils.paths import relative_path
from ..utils.usage import UsageError
from ..volumes import is_volume
from ..volumes.inputs import scan_source
from .images import MASK_WORDS, CohortImage, DicomImage, VolumeImage, image_key


@dataclass(frozen=True)
class MaskFile:
    """Describe a file with regions.

    Attributes:
        path: The file.
        name: Its path relative to the input, with "/".
        series_uids: The image series that it refers to.
    """

    path: Path
    name: str
    series_uids: frozenset[str] = frozenset()

    def is_named_after(self, image: CohortImage) -> bool:
        """Return whether the file is named like an image, apart from words such as "label"."""
        return image_key(self.name) == image_key(image.name)

    def shares_folder(self, image: CohortImage) -> bool:
        """Return whether an image lies in or below the folder of the mask; the input itself does not count."""
        folder, here = "/".join(self.name.lower().split("/")[:-1]), image.name.lower()
        return folder != "" and (here == folder or here.startswith(f"{folder}/"))


def find_images(source: Path, masks: Path) -> tuple[list[CohortImage], list[str]]:
    """Find every CT image of a folder or file; with a sentence for each that cannot be used.

    Args:
        source: The folder or file.
        masks: Where the masks are; if that is the same folder, volumes named like masks are not images.

    Raises:
        UsageError: There is no image.
    """
    found = scan_source(source, again=True)
    images: list[CohortImage] = []
    failures: list[str] = []
    both = source.resolve() == masks.resolve()
    readers: list[Callable[[], CohortImage]] = [partial(DicomImage.of, each, found.folder) for each in found.series]
    volumes = [volume for volume in found.volumes if not (both and _is_named_mask(volume.path))]
    readers += [partial(VolumeImage.of, each, found.folder) for each in volumes]
    for read in readers:
        try:
            images.append(read())
        except (DicomError, OSError) as error:
            failures.append(str(error))
    if not images and not failures:
        raise UsageError(f'"{source}" contains no CT image.')
    return sorted(images, key=lambda image: image.name), failures


def find_masks(source: Path, images: Path) -> list[MaskFile]:
    """Find every mask of a folder or file.

    A volume is an image, not a mask, if another volume has the same name plus a word such as "label".

    Raises:
        UsageError: There is none.
    """
    skipped: list[Skipped] = []
    root = source if source.is_dir() else source.parent
    both = source.resolve() == images.resolve()
    masks = []
    for path in sorted(visible_files(source, skipped)) if source.is_dir() else [source]:
        name = "/".join(relative_path(path, root).parts)
        if is_volume(path) or path.name.lower().endswith((".npz", ".mha")):
            if not both or not is_volume(path) or _is_named_mask(path):
                masks.append(MaskFile(path, name))
            continue
        try:
            dataset = read_dataset(path, header_only=True)
        except (DicomError, OSError):
            continue
        if dataset.get("SOPClassUID") in (*SEG_CLASSES, RTSTRUCT_CLASS):
            masks.append(MaskFile(path, name, frozenset(_series_uids(dataset))))
    named = {image_key(mask.name) for mask in masks if _is_named_mask(mask.path)}
    masks = [m for m in masks if not is_volume(m.path) or _is_named_mask(m.path) or image_key(m.name) not in named]
    if not masks:
        raise UsageError(f'"{source}" contains no mask (NIfTI, NRRD, .npz, MetaImage, DICOM SEG or RTSTRUCT).')
    return masks


def pair(images: Sequence[CohortImage], masks: Sequence[MaskFile]) -> list[tuple[CohortImage, list[MaskFile]]]:
    """Return every image with its masks, which may be none.

    A mask belongs to the series that it refers to; if there is none, to the images that it is named after; and if there
    are none, to those in its folder. If there is only one image, all masks belong to it.
    """
    if len(images) == 1:
        return [(images[0], list(masks))]
    of_image: dict[int, list[MaskFile]] = {k: [] for k in range(len(images))}
    for mask in masks:
        rules = (lambda i, m=mask: i.series_uid in m.series_uids, mask.is_named_after, mask.shares_folder)
        found = ([k for k, image in enumerate(images) if rule(image)] for rule in rules)
        for k in next((members for members in found if members), ()):
            of_image[k].append(mask)
    return [(image, of_image[k]) for k, image in enumerate(images)]


def _is_named_mask(path: Path) -> bool:
    words = path.name.lower().split(".")[0].replace("-", "_").replace(" ", "_").split("_")
    return not MASK_WORDS.isdisjoint(words)


def _series_uids(dataset: Dataset) -> list[str]:
    """Return the SeriesInstanceUIDs that a SEG or an RTSTRUCT refers to."""
    items = list(dataset.get("ReferencedSeriesSequence") or ())
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            items += study.get("RTReferencedSeriesSequence") or ()
    return [str(item.SeriesInstanceUID) for item in items if item.get("SeriesInstanceUID")]
