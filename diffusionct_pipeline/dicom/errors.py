"""What makes a file unusable as a CT slice: the error, and the kind of file behind it."""

from __future__ import annotations

import enum


class SkippedKind(enum.Enum):
    """What a file is that is no usable CT slice; decisions read this, people read the message."""

    HIDDEN = "hidden"  # or in a hidden folder, or what an operating system leaves behind
    NOT_REGULAR = "not a regular file"  # a pipe, a device, a link to nowhere
    EMPTY = "empty"
    NOT_DICOM = "not DICOM"
    DICOMDIR = "DICOMDIR"
    NOT_CT = "not a CT image"
    LOCALIZER = "localizer"
    SECOND_COPY = "second copy"  # of an image that the folder holds already
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
