"""Which mask belongs to which image of a cohort: by the series that it refers to, else by its name or folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    """A file with regions.

    Attributes:
        path: The file.
        name: Below the input, with "/".
        series_uids: Of the image series that it says to be drawn on.
    """

    path: Path
    name: str
    series_uids: frozenset[str] = frozenset()

    def is_named_after(self, image: CohortImage) -> bool:
        """Whether the file is named as an image is, but for words such as "label"."""
        return image_key(self.name) == image_key(image.name)

    def shares_folder(self, image: CohortImage) -> bool:
        """Whether an image lies in the folder of the mask or below it; the input itself is no such folder."""
        folder, here = "/".join(self.name.lower().split("/")[:-1]), image.name.lower()
        return folder != "" and (here == folder or here.startswith(f"{folder}/"))


def find_images(source: Path, masks: Path) -> tuple[list[CohortImage], list[str]]:
    """Every CT image of a folder or file, and a sentence for each that cannot be used.

    Args:
        source: The folder or file.
        masks: Where the masks are; of a folder that holds both, volumes named as masks are none of the images.

    Raises:
        UsageError: there is no image.
    """
    found = scan_source(source, again=True)
    images: list[CohortImage] = []
    failures: list[str] = []
    both = source.resolve() == masks.resolve()
    for kind, items in ((DicomImage, found.series), (VolumeImage, found.volumes)):
        for item in items:
            if both and kind is VolumeImage and _is_named_mask(item.path):
                continue
            try:
                images.append(kind.of(item, found.folder))
            except (DicomError, OSError) as error:
                failures.append(str(error))
    if not images and not failures:
        raise UsageError(f'"{source}" holds no CT image')
    return sorted(images, key=lambda image: image.name), failures


def find_masks(source: Path, images: Path) -> list[MaskFile]:
    """Every mask of a folder or file.

    Volumes beside one of their name with a word for masks are the images that it was drawn on, and none of the masks.

    Raises:
        UsageError: there is none.
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
        raise UsageError(f'"{source}" holds no mask: NIfTI, NRRD, .npz, MetaImage, DICOM SEG or RTSTRUCT')
    return masks


def pair(images: Sequence[CohortImage], masks: Sequence[MaskFile]) -> list[tuple[CohortImage, list[MaskFile]]]:
    """Every image with its masks, which may be none.

    A mask goes with the series that it refers to; if there is none, with the images that it is named after; and if there
    are none, with those in its folder. All masks go with an image that is the only one.
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
    """SeriesInstanceUIDs that a SEG or an RTSTRUCT refers to."""
    items = list(dataset.get("ReferencedSeriesSequence") or ())
    for frame in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in frame.get("RTReferencedStudySequence") or ():
            items += study.get("RTReferencedSeriesSequence") or ()
    return [str(item.SeriesInstanceUID) for item in items if item.get("SeriesInstanceUID")]
