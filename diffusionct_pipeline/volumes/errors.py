"""Define the error for a volume that cannot be used."""

from ..dicom import SkippedKind


class VolumeError(ValueError):
    """Report a volume that cannot be used, with its name and the reason in the message.

    Attributes:
        kind: What the file is instead.
    """

    def __init__(self, message: str, kind: SkippedKind = SkippedKind.UNUSABLE) -> None:
        super().__init__(message)
        self.kind = kind
