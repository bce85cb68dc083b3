"""Run `diffusionct standardize` on a volume in a file, and read what became of it.

The package lives in an environment of its own: Slicer's Python has other versions of numpy and knows no PyTorch. Only the
standard library is used here, so that this file runs in Slicer's Python as in any other.
"""

from __future__ import annotations

import json
import math
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = "diffusionct"
OK, MISSED = 0, 3  # exit codes of runs that wrote their results
SECONDS_TO_END = 5.0  # for a run that is cancelled; then it is killed
SECONDS_BETWEEN = 0.05  # calls of `go_on`


class CommandLineError(RuntimeError):
    """The command cannot be run, or did not write a result; the message is for the user."""


@dataclass(frozen=True)
class Settings:
    """How to standardize.

    Attributes:
        target: Kernel by name; "" for the standard of the checkpoint.
        reference: Volume whose texture to take in place of a kernel by name.
        noise: "keep", "target" or HU above 0.
        series_uid: SeriesInstanceUID of a volume that was DICOM, which seeds its noise; "" for none.
        slice_thickness_mm: Of its slices; None for their distance.
    """

    target: str = ""
    reference: Path | None = None
    noise: str = "keep"
    series_uid: str = ""
    slice_thickness_mm: float | None = None

    def arguments(self) -> list[str]:
        """Options of the command.

        Raises:
            CommandLineError: naming the setting and what is legal.
        """
        if self.target and self.reference is not None:
            raise CommandLineError("Choose a target or a reference, not both.")
        if self.noise not in ("keep", "target") and not is_level(self.noise):
            raise CommandLineError(f'The noise must be "keep", "target" or a number of HU above 0, got "{self.noise}".')
        given = {
            "target": self.target,
            "reference": self.reference,
            "noise": self.noise,
            "series-uid": self.series_uid,
            "slice-thickness": self.slice_thickness_mm,
        }
        return [f"--{name}={value}" for name, value in given.items() if value not in ("", None)]


@dataclass(frozen=True)
class Result:
    """What a run wrote.

    Attributes:
        path: The standardized volume.
        kernel: Which it was measured to have, as its label says.
        remarks: What was not reached and what makes it doubtful, a sentence each.
    """

    path: Path
    kernel: str
    remarks: tuple[str, ...]


def is_level(text: str) -> bool:
    """Whether a text is a number above 0."""
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def find_program(given: str) -> Path:
    """Find the command.

    Args:
        given: Its path, that of its environment, or "" to look for it in PATH.

    Raises:
        CommandLineError: saying where it was looked for.
    """
    if not given.strip():
        found = shutil.which(PROGRAM)
        if found is None:
            raise CommandLineError(f'"{PROGRAM}" is not in PATH; say where it is installed.')
        return Path(found)
    path = Path(given.strip()).expanduser()
    for candidate in (path, path / "bin" / PROGRAM, path / "Scripts" / f"{PROGRAM}.exe"):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise CommandLineError(f'"{path}" is neither {PROGRAM} nor an environment in which it is installed.')


def standardize(
    program: Path,
    volume: Path,
    folder: Path,
    settings: Settings,
    environment: Mapping[str, str] | None = None,
    go_on: Callable[[str], bool] = lambda line: True,
) -> Result:
    """Standardize a volume.

    Args:
        program: What `find_program` found.
        volume: NIfTI or NRRD file in HU.
        folder: For the result; not the one that holds `volume`.
        settings: How.
        environment: Of the command; None for that of this process. Slicer's own would break other Pythons.
        go_on: Called every now and then with the last line of what the command says, "" before the first;
            False cancels the run.

    Raises:
        CommandLineError: It failed or was cancelled; with the reason that the command gave.
    """
    command = [str(program), "standardize", str(volume), str(folder), *settings.arguments()]
    code, said = run(command, environment, go_on)
    if code not in (OK, MISSED):
        raise CommandLineError(reason(said) or f"{PROGRAM} ended with exit code {code} and said nothing.")
    return read_result(folder, volume.name)


def run(
    command: list[str], environment: Mapping[str, str] | None, go_on: Callable[[str], bool]
) -> tuple[int, list[str]]:
    """Run a command to its end -> exit code and the lines that it said; arguments and errors as of `standardize`."""
    try:
        process = subprocess.Popen(
            command, env=None if environment is None else dict(environment), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise CommandLineError(f'"{command[0]}" cannot be started: {error.strerror}.') from error
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=pass_on, args=(process.stdout, lines), daemon=True).start()
    said: list[str] = []
    try:
        while True:
            try:
                line = lines.get(timeout=SECONDS_BETWEEN)
            except queue.Empty:
                line = ""
            if line is None:
                return process.wait(), said
            if line:
                said.append(line)
            if not go_on(said[-1] if said else ""):
                raise CommandLineError("Cancelled.")
    finally:
        end(process)


def pass_on(stream: Iterable[str], lines: queue.Queue) -> None:
    """Put the lines of a stream into a queue, and None at its end."""
    for line in stream:
        lines.put(line.rstrip())
    lines.put(None)


def end(process: subprocess.Popen) -> None:
    """End a process that still runs, at first politely: then it removes what it has half written."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def reason(said: list[str]) -> str:
    """Why a run failed, as it said itself."""
    named = [line for line in said if line.startswith(("failed: ", "stopped early: ", f"{PROGRAM} standardize: "))]
    return "\n".join(named or said[-1:])


def read_result(folder: Path, name: str) -> Result:
    """Read what a run wrote.

    Args:
        folder: Its output.
        name: Of the volume.

    Raises:
        CommandLineError: It holds no result of that volume.
    """
    try:
        report = json.loads((folder / "run_report.json").read_text(encoding="utf-8"))
        (entry,) = [entry for entry in report["series"] if entry["path"] == name]
        remarks = (*entry["remarks"], *entry["unlike_training"])
        result = Result(folder / name, entry["kernel_out"] or "", remarks)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CommandLineError(f'"{folder}" holds no report of a run over {name}: {error}') from error
    if not result.path.is_file():
        raise CommandLineError(f'"{result.path}" was not written.')
    return result
