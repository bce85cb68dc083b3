"""Write files and folders that are complete or absent, even after a kill, and lock a folder for one writing process."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # mypy has no other way to say that a module may be missing

BUSY = "another run is writing to this folder"
LOCK_FILE = ".diffusionct.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # returned by file systems without locks
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next file cannot be written either
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` that is renamed to `path` if the block succeeds and removed if it fails.

    Args:
        path: The file to write. Its folder is created if needed; an existing file is replaced.

    Raises:
        OSError: naming `path`, if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    part = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as file:  # otherwise a power failure may leave the name without the bytes
            os.fsync(file.fileno())
        part.replace(path)
    except Exception as error:
        if full := full_disk(error):
            raise OSError(full.errno, full.strerror, str(path)) from error
        if not isinstance(error, OSError) or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or its folder could not be created
            part.unlink()


def full_disk(error: BaseException | None) -> OSError | None:
    """Return the operating system's error if an exception comes from a full or read-only disk, else None.

    pydicom, safetensors and PyTorch raise errors of their own in this case, without the error number.
    """
    for _ in range(10):  # a chain of causes
        if error is None:
            return None
        if isinstance(error, OSError) and error.errno in HOPELESS:
            return OSError(error.errno, os.strerror(error.errno))
        for number in HOPELESS:
            if os.strerror(number) in str(error):
                return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return None


def write_whole(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write bytes, or text as UTF-8, so that `path` is never half-written; see `whole_file` for arguments and errors."""
    with whole_file(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike[str], replace: bool = False, temporaries: str | os.PathLike[str] | None = None
) -> Iterator[Path]:
    """Yield a new temporary folder that is renamed to `path` if the block succeeds and removed if it fails.

    Temporary folders that killed processes left beside it are removed first.

    Args:
        path: The folder to write. Its parents are created if needed. An empty folder is replaced.
        replace: Whether a non-empty folder is replaced, too.
        temporaries: Where to create the temporary folder, on the same file system; None for beside `path`.

    Raises:
        FileExistsError: if `path` exists and may not be replaced; raised before the block runs.
        OSError: naming `path`, if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    if not replace:
        require_new(path)
    part = _temporary(path if temporaries is None else Path(temporaries, path.name))
    _remove_left_folders(part.parent)
    try:
        with _held_folder(part):
            yield part
            if path.exists():
                shutil.rmtree(path)
            part.replace(path)
    except Exception as error:  # whichever file failed, it is the folder that could not be written
        if full := full_disk(error):
            raise OSError(full.errno, full.strerror, str(path)) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _held_folder(folder: Path) -> Iterator[None]:
    """Create a folder and lock it while the block runs, which distinguishes it from one that a killed process left."""
    folder.mkdir(parents=True)
    with _locked_while_living(folder):
        folder.mkdir(exist_ok=True)  # another process may have removed it as a leftover before it was locked
        yield


@contextlib.contextmanager
def _locked_while_living(folder: Path) -> Iterator[None]:
    """Lock a folder of this process while the block runs; a lock ends with its process, see `_remove_unless_locked`."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # on a file system without locks nothing is ever removed
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unless_locked(folder: Path) -> None:
    """Remove a folder unless a living process has locked it."""
    with contextlib.suppress(OSError):  # a living process holds it, or it merely takes up space
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove_left_folders(folder: Path) -> None:
    """Remove the temporary folders that killed processes left of `whole_folder`: those that no living process has locked."""
    for path in folder.glob(".*.part") if fcntl is not None else ():
        if TEMPORARY.fullmatch(path.name) and not path.is_symlink() and path.is_dir():
            _remove_unless_locked(path)


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """Yield a temporary folder that only its owner can access, removed with its content when the block ends.

    Folders of the same name left by killed processes of this user are removed first.

    Args:
        name: Prefix of the folder's name in the system's folder for temporary files.

    Raises:
        OSError: if it cannot be created.
    """
    parent = Path(tempfile.gettempdir())
    for left in parent.glob(f"{name}.*") if fcntl is not None else ():
        if not left.is_symlink() and left.is_dir() and left.stat().st_uid == os.getuid():
            _remove_unless_locked(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=parent))  # mode 700
    with _locked_while_living(folder):
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def require_new(path: str | os.PathLike[str]) -> None:
    """Refuse an existing path unless it is an empty folder.

    Raises:
        FileExistsError: naming the path.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f'"{path}" exists already; choose a new folder or remove it.')


def require_writable(folder: str | os.PathLike[str]) -> None:
    """Create a folder if needed and try to write a file in it, so that a long run does not fail at its end.

    Raises:
        OSError: naming the folder and the reason.
    """
    with _writable(folder) as folder:
        write_whole(probe := _temporary(folder / "probe"), b"")
        probe.unlink()


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove the temporary files that killed processes left of `whole_file` below a folder that no other process writes to.

    A subfolder with a lock of its own is left to the holder of that lock.
    """
    for parent, folders, files in os.walk(folder):
        if LOCK_FILE in files and Path(parent) != Path(folder):
            folders.clear()
            continue
        for name in filter(TEMPORARY.fullmatch, files):
            with contextlib.suppress(OSError):  # it merely takes up space
                os.unlink(os.path.join(parent, name))


def visible_names(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the paths of the files below a folder, relative to it, except hidden files and files in hidden folders."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (os.path.relpath(os.path.join(parent, name), folder) for name in files if name[0] != ".")


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike[str], shared: bool = False) -> Iterator[None]:
    """Create a folder if needed and lock it while the block runs, against other processes that request the same lock.

    The operating system holds the lock, on the file `LOCK_FILE`, so that it ends with the process. The file is removed at the
    end, except for a shared lock. There is no lock on Windows and on file systems without locks.

    Args:
        folder: The folder to lock.
        shared: Whether other processes may hold a shared lock at the same time.

    Raises:
        BlockingIOError: naming the folder, if another process holds the lock.
        OSError: naming the folder that cannot be written to, and the reason.
    """
    with _writable(folder) as folder:
        path = folder / LOCK_FILE
        descriptor = _open_locked(path, shared)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may have been removed or replaced
            if not shared and os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()
        os.close(descriptor)


def _open_locked(path: Path, shared: bool) -> int:
    """Return the descriptor of a locked file that is still at `path`; see `locked_folder` for the errors."""
    while True:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise FileExistsError(errno.EEXIST, f"{path.name} is there and is not a regular file")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise BlockingIOError(error.errno, BUSY, str(path.parent)) from error
        except FileNotFoundError:  # its holder removed it between the two calls above
            pass
        except OSError as error:
            if error.errno in NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _writable(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder, created if needed; an OSError raised in the block names it."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f'"{folder}" is a file; the output must be a folder.')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except BlockingIOError:
        raise
    except OSError as error:
        raise type(error)(f'"{folder}" cannot be written to: {error.strerror or error}.') from error


def _temporary(path: Path) -> Path:
    """Return a unique hidden path in the same folder, short because `path` may be as long as the file system allows."""
    return path.with_name(f".{uuid.uuid4().hex}.part")
