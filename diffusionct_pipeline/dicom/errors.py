"""What makes a file unusable as a CT slice: the error, and the kind of file behind it."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

LEFT_ALONE = "was standardized by DiffusionCT already and is left alone; `--again` standardizes it once more."


class SkippedKind(enum.Enum):
    """What a file is that is no usable CT slice; decisions read this, people read the message."""

    HIDDEN = "hidden"  # or in a hidden folder, or what an operating system leaves behind
    NOT_REGULAR = "not a regular file"  # a pipe, a device, a link to nowhere
    EMPTY = "empty"
    NOT_DICOM = "not DICOM"
    DICOMDIR = "DICOMDIR"
    NOT_CT = "not a CT image"
    OTHER_FORMAT = "another format"  # which is not read, though other programs keep images in it
    LOCALIZER = "localizer"
    NOT_TRANSVERSE = "not a transverse slice"  # a coronal, sagittal or oblique reformat
    PICTURE = "picture"  # a projection, a rendering or a screen save in CT storage
    STANDARDIZED = "standardized already"  # by this package
    SECOND_COPY = "second copy"  # of an image or a folder that was found already
    UNREADABLE = "unreadable"  # the file system refuses it
    UNUSABLE = "unusable"  # a CT image, or meant to be one, that is damaged or lacks what is needed
    MIXED_GEOMETRY = "mixed geometry"  # of its series


class DicomError(ValueError):
    """A DICOM file, Dataset or folder that cannot be used, with its name and the reason in the message.

    Attributes:
        kind: What the file is instead.
    """

    def __init__(self, message: str, kind: SkippedKind = SkippedKind.UNUSABLE) -> None:
        super().__init__(message)
        self.kind = kind


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """The border to pydicom: whatever the bytes of a damaged file make it raise becomes a `DicomError`.

    Args:
        name: The file, as messages call it.

    Raises:
        DicomError: Naming the file.
        MemoryError: As it came, it may not be the file's fault.
    """
    try:
        yield
    except (DicomError, MemoryError):
        raise
    except Exception as error:  # pydicom converts on access; what a broken value raises depends on its type
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DicomError(f"{name} is a damaged DICOM file: {reason}") from error
