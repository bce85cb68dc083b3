"""Define the error for a file that cannot be used as a CT slice, and the kinds of such files."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

LEFT_ALONE = "was already standardized by DiffusionCT and is skipped; `--again` standardizes it again."


class SkippedKind(enum.Enum):
    """Classify a file that is not a usable CT slice, for code; the message is for people."""

    HIDDEN = "hidden"  # or in a hidden folder, or created by an operating system
    NOT_REGULAR = "not a regular file"  # a pipe, a device or a broken link
    EMPTY = "empty"
    NOT_DICOM = "not DICOM"
    DICOMDIR = "DICOMDIR"
    NOT_CT = "not a CT image"
    OTHER_FORMAT = "another format"  # of images, which is not read
    LOCALIZER = "localizer"
    NOT_TRANSVERSE = "not a transverse slice"  # a coronal, sagittal or oblique reformat
    PICTURE = "picture"  # a projection, a rendering or a screenshot in CT storage
    STANDARDIZED = "standardized already"  # by this package
    SECOND_COPY = "second copy"  # of an image or a folder that was already found
    UNREADABLE = "unreadable"  # for the file system
    UNUSABLE = "unusable"  # a CT image, or intended as one, that is damaged or incomplete
    MIXED_GEOMETRY = "mixed geometry"  # within its series


class DicomError(ValueError):
    """Report a DICOM file, Dataset or folder that cannot be used, with its name and the reason in the message.

    Attributes:
        kind: What the file is instead.
    """

    def __init__(self, message: str, kind: SkippedKind = SkippedKind.UNUSABLE) -> None:
        super().__init__(message)
        self.kind = kind


@contextlib.contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn any error that pydicom raises for the bytes of a damaged file into a `DicomError`.

    Args:
        name: Name of the file in messages.

    Raises:
        DicomError: naming the file.
        MemoryError: unchanged, as the file may not be its cause.
    """
    try:
        yield
    except (DicomError, MemoryError):
        raise
    except Exception as error:  # pydicom converts on access; the error for an invalid value depends on its type
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DicomError(f"{name} is a damaged DICOM file: {reason}") from error
