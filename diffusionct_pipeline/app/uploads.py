"""Uploads of a browser: limited in size, stored under sanitized names, with zips unpacked safely."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from ..utils.files import full_disk

MOST_BYTES = 4 << 30  # of unpacked files in one place: 8,000 slices of 512 x 512
MOST_FILES = 20_000
LONGEST_NAME, DEEPEST = 120, 12  # characters of a part of a path, and number of parts
PIECE = 1 << 20  # bytes that are unpacked at a time, so that a zip bomb is stopped
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
UNNAMED = "scan.dcm"


class RefusedError(ValueError):
    """A refused request, with its HTTP status code.

    Args:
        reason: One sentence for the user.
        status: HTTP status of the answer.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Limits of one place.

    Attributes:
        bytes: Total size of all files, unpacked.
        files: Number of files.
    """

    bytes: int = MOST_BYTES
    files: int = MOST_FILES


class Inbox:
    """A folder for uploads.

    Args:
        folder: The folder; created if needed.
        limits: Its limits.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.bytes = self.files = 0
        folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove all files."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.bytes = self.files = 0

    async def receive(self, name: str, pieces: AsyncIterator[bytes], announced: int | None) -> Path:
        """Write an upload to a file; nothing is left of it if it is refused or breaks off.

        Args:
            name: Name given by the browser, with folders.
            pieces: The content.
            announced: Size announced by the browser in bytes; None where it is not.

        Raises:
            RefusedError: if the name leads out of the folder, or the limits are exceeded.
        """
        target = self._place_for(harmless_path(name))
        self._require_room(announced or 0, 1)
        received = 0
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(target, "xb") as file:
                async for piece in pieces:
                    received += len(piece)
                    self._require_room(received, 1)
                    file.write(piece)
        except BaseException as error:
            target.unlink(missing_ok=True)
            if full_disk(error):
                raise RefusedError("the disk of this machine is full", 507) from error
            raise
        self.bytes, self.files = self.bytes + received, self.files + 1
        return target

    def unpack(self, archive: Path) -> None:
        """Replace an uploaded zip by its files, all of them or none.

        Raises:
            RefusedError: if it is damaged or encrypted, contains a link or a name that leads out of its folder, or exceeds the
                limits.
        """
        size, folder = archive.stat().st_size, archive.with_name(f".{archive.name}.unpacked")
        self.bytes, self.files = self.bytes - size, self.files - 1
        unpacked = count = 0
        try:
            with zipfile.ZipFile(archive) as file:
                members = [member for member in file.infolist() if not member.is_dir()]
                paths = [_member_path(member) for member in members]
                self._require_room(sum(member.file_size for member in members), len(members))
                for member, path in zip(members, paths):
                    target = folder / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with file.open(member) as source, open(target, "xb") as out:
                        while piece := source.read(PIECE):
                            unpacked += len(piece)
                            self._require_room(unpacked, count + 1)
                            out.write(piece)
                    count += 1
            archive.unlink()
            if folder.exists():
                folder.rename(self._place_for(Path(archive.stem)))
        except RefusedError:
            raise
        except Exception as error:  # the error of a damaged archive depends on the damage
            if full_disk(error):
                raise RefusedError("the disk of this machine is full", 507) from error
            raise RefusedError(f"the zip cannot be unpacked: {error}") from error
        finally:
            archive.unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
        self.bytes, self.files = self.bytes + unpacked, self.files + count

    def _require_room(self, more_bytes: int, more_files: int) -> None:
        """Raise RefusedError if the addition exceeds the limits."""
        if self.bytes + more_bytes > self.limits.bytes:
            raise RefusedError(f"uploads must not exceed {self.limits.bytes / 2**30:.3g} GiB", 413)
        if self.files + more_files > self.limits.files:
            raise RefusedError(f"uploads must not exceed {self.limits.files} files", 413)

    def _place_for(self, path: Path) -> Path:
        """Return an unused path in the folder."""
        place, number = self.folder / path, 1
        while place.exists():
            number += 1
            place = self.folder / path.with_name(f"{number}_{path.name}")
        return place


def harmless_path(name: str) -> Path:
    """Return a safe relative path for the name of an upload or of a file in a zip.

    Letters, digits and "._- " are kept, and other characters become "_"; hidden files are renamed to be visible.

    Raises:
        RefusedError: if the name is absolute, leads upwards, or is too long.
    """
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (len(parts[0]) == 2 and parts[0].endswith(":")):
        raise RefusedError(f"the name {name[:LONGEST_NAME]!r} leads out of its folder")
    parts = [part for part in parts if part not in ("", ".")] or [UNNAMED]
    if len(parts) > DEEPEST or max(map(len, parts)) > LONGEST_NAME:
        raise RefusedError(f"a name is longer than {LONGEST_NAME} characters, or lies in more than {DEEPEST} folders")
    kept = ["".join(c if c.isalnum() or c in "._- " else "_" for c in part) for part in parts]
    return Path(*("_" + part if part.startswith(".") else part for part in kept))


def is_zip(path: Path) -> bool:
    """Return whether a file starts like a zip."""
    with open(path, "rb") as file:
        return file.read(4) in ZIP_MAGIC


def _member_path(member: zipfile.ZipInfo) -> Path:
    """Return a safe path for a file in a zip; raise RefusedError also for a link or an encrypted file."""
    if stat.S_ISLNK(member.external_attr >> 16):
        raise RefusedError("the zip contains a link")
    if member.flag_bits & 1:
        raise RefusedError("the zip is encrypted; unpack it first")
    return harmless_path(member.filename)
