"""Files and folders that are whole or absent, also after a kill; and a folder that one process at a time writes to."""

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
    fcntl = None

BUSY = "another run is writing to this folder"
LOCK_FILE = ".diffusionct.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what file systems without them answer
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the next file cannot be written either
TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path in the folder of `path`, renamed to `path` when the block ends well, removed when it does not.

    Args:
        path: Its folder is made if needed; an existing file is replaced.

    Raises:
        OSError: naming `path`, if it cannot be written; nothing is left behind.
    """
    path = Path(path)
    part = _temporary(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with open(part, "rb+") as file:  # else a power failure may leave the name without the bytes
            os.fsync(file.fileno())
        part.replace(path)
    except Exception as error:
        if full := full_disk(error):
            raise OSError(full.errno, full.strerror, str(path)) from error
        if not isinstance(error, OSError) or error.filename not in (None, str(part)):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or its folder never came to be
            part.unlink()


def full_disk(error: BaseException | None) -> OSError | None:
    """What the operating system said, if an error comes from a disk that is full or may not be written to.

    pydicom, safetensors and PyTorch raise errors of their own for it, without its number.
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


def write_whole(path: str | os.PathLike, data: bytes | str) -> None:
    """Write bytes, or text as UTF-8, so that `path` is never half-written; arguments and errors as of `whole_file`."""
    with whole_file(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def whole_folder(
    path: str | os.PathLike, replace: bool = False, temporaries: str | os.PathLike | None = None
) -> Iterator[Path]:
    """A new temporary folder, renamed to `path` when the block ends well, removed when it does not.

    Those that killed processes left beside it are removed first.

    Args:
        path: Its parents are made if needed. An empty folder is replaced.
        replace: Whether a folder that is not empty is replaced too.
        temporaries: Where the temporary folder is, on the same file system; None: beside `path`.

    Raises:
        FileExistsError: if `path` is there and may not be replaced; before the block is run.
        OSError: if it cannot be written; nothing is left behind.
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
    except Exception as error:  # whatever the file within: what could not be made is the folder
        if full := full_disk(error):
            raise OSError(full.errno, full.strerror, str(path)) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _held_folder(folder: Path) -> Iterator[None]:
    """Make a folder and lock it while the block runs, so that it can be told from one that a killed process left."""
    folder.mkdir(parents=True)
    with _locked_while_living(folder):
        folder.mkdir(exist_ok=True)  # another process may have taken it for left over before it was locked
        yield


@contextlib.contextmanager
def _locked_while_living(folder: Path) -> Iterator[None]:
    """Lock a folder of this process while the block runs; a killed process's lock is gone, see `_remove_unless_locked`."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks; nobody removes anything there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_unless_locked(folder: Path) -> None:
    """Remove a folder that no living process has locked."""
    with contextlib.suppress(OSError):  # a living process holds it, or it only takes space
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove_left_folders(folder: Path) -> None:
    """Remove what killed processes left of `whole_folder` in a folder: what no living one has locked."""
    for path in folder.glob(".*.part") if fcntl is not None else ():
        if TEMPORARY.fullmatch(path.name) and not path.is_symlink() and path.is_dir():
            _remove_unless_locked(path)


@contextlib.contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A temporary folder that only its owner may enter, removed with all that it holds when the block ends.

    Those of the same name that killed processes of this user left are removed first.

    Args:
        name: What it begins with, in the system's folder for temporary files.

    Raises:
        OSError: if it cannot be made.
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


def require_new(path: str | os.PathLike) -> None:
    """Refuse a place where there is something else than an empty folder.

    Raises:
        FileExistsError: naming it.
    """
    path = Path(path)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f'"{path}" exists already; choose a new folder or remove it.')


def require_writable(folder: str | os.PathLike) -> None:
    """Make a folder if needed and try a file in it, so that a long run does not find out at its end.

    Raises:
        OSError: naming the folder and the reason.
    """
    with _writable(folder) as folder:
        write_whole(probe := _temporary(folder / "probe"), b"")
        probe.unlink()


def remove_temporaries(folder: str | os.PathLike) -> None:
    """Remove what killed processes left of `whole_file` below a folder that no other process writes to.

    A folder below it that has a lock of its own is left to whoever holds that.
    """
    for parent, folders, files in os.walk(folder):
        if LOCK_FILE in files and Path(parent) != Path(folder):
            folders.clear()
            continue
        for name in filter(TEMPORARY.fullmatch, files):
            with contextlib.suppress(OSError):  # it only takes space
                os.unlink(os.path.join(parent, name))


def visible_names(folder: str | os.PathLike) -> Iterator[str]:
    """Paths of the files below a folder, relative to it, without hidden files and those of hidden folders."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "."]
        yield from (os.path.relpath(os.path.join(parent, name), folder) for name in files if name[0] != ".")


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike, shared: bool = False) -> Iterator[None]:
    """Make a folder if needed and keep other processes that ask for the same lock out of it while the block runs.

    The lock is the kernel's, on the file `LOCK_FILE`, so that a killed process holds none. The file is removed at the
    end, but for a shared lock. There is no lock on Windows and on file systems that know none.

    Args:
        folder: Which.
        shared: Whether others that ask for a shared lock may be there, too.

    Raises:
        BlockingIOError: naming the folder, which another process holds.
        OSError: naming the folder that cannot be written to, and the reason.
    """
    with _writable(folder) as folder:
        path = folder / LOCK_FILE
        descriptor = _open_locked(path, shared)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone, and another one in its place
            if not shared and os.path.samestat(os.fstat(descriptor), path.stat()):
                path.unlink()
        os.close(descriptor)


def _open_locked(path: Path, shared: bool) -> int:
    """Descriptor of a file that is locked and is still called `path`; errors as of `locked_folder`."""
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
        except FileNotFoundError:  # whoever held it removed it between our two calls
            pass
        except OSError as error:
            if error.errno in NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        os.close(descriptor)


@contextlib.contextmanager
def _writable(folder: str | os.PathLike) -> Iterator[Path]:
    """The folder, made if needed; an OSError in the block names it."""
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
    """A name that nobody else uses, short because `path` may be as long as the file system allows, and hidden."""
    return path.with_name(f".{uuid.uuid4().hex}.part")
