"""State of the app for its one user: scans, what is known about them, a run and its results, and the work in progress."""

from __future__ import annotations

import logging
import shutil
import threading
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..characterise.advice import Advice
from ..characterise.folder import characterise_folder
from ..dicom import CTSeries, read_slice
from ..dicom.sample_files import SliceSamples, samples_path
from ..estimation import estimate_kernel_of_slices
from ..image_processor import from_volume
from ..method.step import require_noise
from ..metrics.uncertainty import fewest_samples
from ..page.view import whole_hu
from ..simulation import KERNELS
from ..standardize.folder import standardize_folder
from ..standardize.pages import view_of
from ..standardize.report import SeriesEntry
from ..utils.paths import relative_path, without_folders
from ..volumes import CTVolume, VolumeHeader, read_volume
from ..volumes.inputs import Sources, scan_source
from .regions import Region, RegionFeatures, drawn_region, geometry_of, measure, read_regions
from .uploads import Inbox, Limits, RefusedError

logger = logging.getLogger(__name__)

PLACES = ("scans", "reference", "mask")
SHOWN_FAILURES = 10
SAMPLES = fewest_samples()


class Desk:
    """All state of the app. One task runs at a time, in its own thread.

    Args:
        folder: Private temporary folder for all uploads and results.
        offered: Folder of scans from the command line; only read. None: scans are uploaded.
        model: Checkpoint; None for the embedded one.
        limits: Limits of each place for uploads.
    """

    def __init__(
        self, folder: Path, offered: Path | None = None, model: str | None = None, limits: Limits | None = None
    ) -> None:
        self.folder, self.offered, self.model, self.limits = folder, offered, model, limits or Limits()
        self.inboxes = {place: Inbox(folder / place, self.limits) for place in PLACES}
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.task, self.progress, self.error = "", (0, 0), ""
        self.stopping = False
        self.known: dict[str, Any] | None = None
        self.result: Result | None = None
        self.measured: RegionFeatures | None = None
        self.runs = 0

    @property
    def source(self) -> Path:
        """Folder of the scans: the uploads or, while there are none, the folder from the command line."""
        scans = self.inboxes["scans"]
        return self.offered if self.offered is not None and not scans.files else scans.folder

    def state(self) -> dict[str, Any]:
        """Return everything that the page shows, as JSON values."""
        return {
            "files": {place: inbox.files for place, inbox in self.inboxes.items()},
            "offered": self.offered is not None,
            "limit": {"bytes": self.limits.bytes, "files": self.limits.files},
            "task": {"name": self.task, "done": self.progress[0], "total": self.progress[1]} if self.task else None,
            "error": self.error,
            "known": self.known,
            "result": None if self.result is None else self.result.to_json(),
            "kernels": list(KERNELS),
            "samples": SAMPLES,
        }

    # -- work -------------------------------------------------------------------------------------------------------------

    def start(self, task: str, work: Callable[[], None]) -> None:
        """Start a task in the background.

        Raises:
            RefusedError: if another task is running.
        """
        with self.lock:
            self.require_idle()
            self.task, self.progress, self.error, self.stopping = task, (0, 0), "", False
        self.thread = threading.Thread(target=self._work, args=(work,), daemon=True)
        self.thread.start()

    def _work(self, work: Callable[[], None]) -> None:
        try:
            work()
        except KeyboardInterrupt:
            self.error = "stopped"
        except (ValueError, OSError, ImportError) as error:
            self.error = self.plain(str(error))
        except Exception as error:  # the user must learn of any failure
            logger.exception("the app failed")
            self.error = self.plain(f"{type(error).__name__}: {error}")
        finally:
            self.task = ""

    def tell(self, done: int, total: int) -> None:
        """Record the progress of the task, and stop it if that was requested."""
        self.progress = (done, total)
        if self.stopping:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Request that the task stops after the present slice."""
        self.stopping = True

    def close(self, patience_s: float = 60.0) -> None:
        """Stop the task and wait for its end."""
        self.stop()
        if self.thread is not None:
            self.thread.join(patience_s)

    def require_idle(self) -> None:
        """Raise RefusedError while a task is running."""
        if self.task:
            raise RefusedError("a task is running; wait for it, or stop it", 409)

    def plain(self, text: str) -> str:
        """Remove the folders of this machine from a sentence."""
        folders = {"scans": self.source, "reference": self.inboxes["reference"].folder, "results": self.folder}
        return without_folders(text, folders).replace(str(self.folder), "")

    # -- scans ------------------------------------------------------------------------------------------------------------

    def clear(self, place: str) -> None:
        """Remove the uploads of a place; the results are removed with the scans."""
        self.require_idle()
        self.inboxes[place].clear()
        if place == "scans":
            self.forget()
            self.known, self.error = None, ""

    def forget(self) -> None:
        """Remove the results."""
        if self.result is not None:
            self.result.remove()
        self.result = self.measured = None

    def characterise(self) -> None:
        """Measure all series and volumes."""
        self.known, source = None, self.source
        scan = scan_source(source)
        series: list[dict[str, Any]] = []
        advice: list[str] = []
        failures: list[str] = []
        total = len(scan.series) + len(scan.volumes)
        if scan.series:
            shutil.rmtree(self.folder / "characterisation", ignore_errors=True)
            found = characterise_folder(
                source,
                self.folder / "characterisation",
                model=self.model,
                progress=lambda done, _: self.tell(done, total),
            )
            for number, (item, group) in enumerate(zip(found.measured, found.groups), 1):
                trial = item.trial
                series.append(
                    {
                        "name": f"series {number}", "kernel": item.protocol.kernel or "unknown", "group": group,
                        "slices": len(item.series.paths), "mtf50": item.mtf50,
                        "noise_hu": item.noise_hu.get("soft tissue"), "told_by": item.kernel.told_by if item.kernel else "nothing",
                        "expected": f"{trial.reached.label}: {trial.reached.in_words()}" if trial else "",
                        "remarks": [*(trial.remarks if trial else []), *item.remarks],
                    }
                )  # fmt: skip
            advice = advice_texts(found.advice) if found.advice else []
            failures = [] if scan.volumes else found.failures
        for number, header in enumerate(scan.volumes, 1):
            self.tell(len(scan.series) + number - 1, total)
            series.append(volume_facts(header, number))
        self.tell(total, total)
        if not series:
            raise ValueError(failures[0] if failures else "no CT series was found")
        remarks = [self.plain(text) for text in [*failures, *scan.remarks]]
        self.known = {"series": series, "advice": advice, "remarks": remarks[:SHOWN_FAILURES]}

    # -- results ----------------------------------------------------------------------------------------------------------

    def standardize(self, target: str | None, by_reference: bool, noise: str | float, intervals: bool) -> None:
        """Standardize the scans.

        Args:
            target: Kernel by name; None for the standard or the reference.
            by_reference: Whether the target is the texture of the uploaded reference.
            noise: "keep", "target" or HU.
            intervals: Whether to draw `SAMPLES` samples of each slice.
        """
        self.forget()
        self.runs += 1
        source, output = self.source, self.folder / f"results_{self.runs}"
        try:
            report = standardize_folder(
                source, output, model=self.model, target=target, reference=self.reference() if by_reference else None,
                noise=noise, num_samples=SAMPLES if intervals else 1, page=True, progress=self.tell,
            )  # fmt: skip
        except BaseException:
            shutil.rmtree(output, ignore_errors=True)
            raise
        self.result = Result(scan_source(source), output, report, SAMPLES if intervals else 1)

    def reference(self) -> Path:
        """Return the file or folder that was uploaded as a reference."""
        files = [path for path in self.inboxes["reference"].folder.rglob("*") if path.is_file()]
        return files[0] if len(files) == 1 else self.inboxes["reference"].folder

    def require_choice(self, choice: dict[str, Any]) -> tuple[str | None, bool, str | float, bool]:
        """Check the choices on the page; return the arguments of `standardize`.

        Raises:
            RefusedError: naming the invalid choice.
        """
        way, target, noise = choice.get("way"), choice.get("target"), choice.get("noise", "keep")
        if way not in ("standard", "kernel", "reference"):
            raise RefusedError(f"`way` must be standard, kernel or reference, got {way!r}")
        if way == "kernel" and target not in KERNELS:
            raise RefusedError(f"`target` must be the name of a kernel, got {target!r}")
        if way == "reference" and not self.inboxes["reference"].files:
            raise RefusedError("upload a reference first")
        if isinstance(noise, bool) or not isinstance(noise, (str, int, float)):
            raise RefusedError(f"`noise` must be keep, target or HU, got {noise!r}")
        try:
            require_noise(noise)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        return (target if way == "kernel" else None), way == "reference", noise, bool(choice.get("intervals"))

    def require_result(self) -> Result:
        """Return the results; raise RefusedError where there are none."""
        if self.result is None:
            raise RefusedError("there are no results yet", 404)
        return self.result

    # -- regions ----------------------------------------------------------------------------------------------------------

    def measure_drawn(self, number: int, index: int, points: Sequence[Sequence[float]]) -> dict[str, Any]:
        """Measure the features of a region that was drawn on a slice, before and after.

        Raises:
            ValueError: if it is not a valid region.
        """
        shown = self.require_result().series_of(number)
        return self._measure(shown, drawn_region(points, index, (len(shown), *shown.shape)))

    def measure_file(self, number: int, name: str | None = None) -> dict[str, Any]:
        """Measure the features of a region of the uploaded mask: the named one, or the first.

        Raises:
            ValueError, ImportError: if it is not a mask of this series.
        """
        shown = self.require_result().series_of(number)
        files = [path for path in self.inboxes["mask"].folder.rglob("*") if path.is_file()]
        if len(files) != 1:
            raise RefusedError("upload one mask: NIfTI, NRRD, DICOM SEG, RTSTRUCT or .npz")
        regions = read_regions(files[0], geometry_of(shown.source))
        chosen = next((region for region in regions if region.name == name), regions[0])
        return {**self._measure(shown, chosen), "names": [region.name for region in regions]}

    def _measure(self, shown: ShownSeries, region: Region) -> dict[str, Any]:
        pairs = [shown.pair(index) for index in region.slices]
        before, after = (np.stack(stack) for stack in zip(*pairs))
        samples = None
        if shown.samples >= SAMPLES:
            samples = np.stack([shown.samples_hu(index) for index in region.slices], 1)  # [K,N,H,W]
        self.measured = measure(region, before, after, samples)
        return self.measured.to_json()


class Result:
    """Input and output of a run.

    Args:
        scan: What it read.
        folder: Folder of its output.
        report: Report of the run.
        samples: Samples of each slice.
    """

    def __init__(self, scan: Sources, folder: Path, report: dict[str, Any], samples: int) -> None:
        self.folder, self.report = folder, report
        entries = [SeriesEntry(**entry) for entry in report["series"]]
        volumes = {str(relative_path(header.path, scan.folder)): header for header in scan.volumes}
        sources: list[CTSeries | VolumeHeader] = [*scan.series]
        sources += [volumes[entry.path] for entry in entries if entry.path is not None]
        self.series = [
            ShownSeries(source, entry, folder, scan.folder, samples if isinstance(source, CTSeries) else 1)
            for source, entry in zip(sources, entries)
        ]

    def series_of(self, number: int) -> ShownSeries:
        """Return a series by its number from 0; raise RefusedError for an unknown one."""
        if not 0 <= number < len(self.series):
            raise RefusedError(f"`series` must be below {len(self.series)}, got {number}", 404)
        return self.series[number]

    def to_json(self) -> dict[str, Any]:
        """Return what the page shows, except pixels."""
        entries = self.report["series"]
        failures = (
            [item for entry in entries for item in entry["failures"]] + self.report["unusable"] + self.report["lost"]
        )
        return {
            "id": self.folder.name,
            "slices": self.report["slices"],
            "written": self.report["written"],
            "failures": [item["reason"] for item in failures[:SHOWN_FAILURES]],
            "stopped": self.report["stopped"],
            "series": [shown.to_json() for shown in self.series],
        }

    def write_zip(self, path: Path) -> Path:
        """Write all results to a zip without compression, which would gain nothing on noise."""
        with zipfile.ZipFile(path, "w") as file:
            for result in sorted(self.folder.rglob("*")):
                if result.is_file():
                    file.write(result, result.relative_to(self.folder))
        return path

    def remove(self) -> None:
        """Remove the files and their copies in memory."""
        read_pair.cache_clear()
        shutil.rmtree(self.folder, ignore_errors=True)


class ShownSeries:
    """A series of the run: its slices before and after, as far as they were written.

    Args:
        source: What was read.
        entry: Its entry in the report.
        output: Folder of the results.
        folder: Folder of the scans.
        samples: Samples of each slice.
    """

    def __init__(
        self, source: CTSeries | VolumeHeader, entry: SeriesEntry, output: Path, folder: Path, samples: int
    ) -> None:
        self.source, self.entry, self.output, self.folder, self.samples = source, entry, output, folder, samples
        if isinstance(source, CTSeries):
            self.indices = [i for i, path in enumerate(source.paths) if self.result_of(path).is_file()]
            self.shape = source.shape
        else:
            count, rows, columns = source.grid.slices_shape
            self.indices = list(range(count)) if self.result_of(source.path).is_file() else []
            self.shape = (rows, columns)

    def __len__(self) -> int:
        """Return the number of slices of the whole series."""
        return self.entry.slices

    def result_of(self, path: Path) -> Path:
        """Return the path of the result of a file."""
        return self.output / relative_path(path, self.folder)

    def pair(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return HU (H, W) of a slice before and after.

        Raises:
            RefusedError: if it was not written.
        """
        if index not in self.indices:
            raise RefusedError(f"slice {index + 1} has no result", 404)
        if isinstance(self.source, CTSeries):
            path = self.source.paths[index]
            return read_slice(path).hu, read_slice(self.result_of(path)).hu
        before, after = read_pair(self.source.path, self.result_of(self.source.path))
        return before.slice_hu(index), after.slice_hu(index)

    def pixels(self, index: int) -> bytes:
        """Return a slice before and after in the format of `viewer.js`: int16, little-endian."""
        return b"".join(whole_hu(hu).tobytes() for hu in self.pair(index))

    def samples_hu(self, index: int) -> np.ndarray:
        """Return (K, H, W) HU of all samples of a slice."""
        assert isinstance(self.source, CTSeries)  # volumes have one sample
        path = relative_path(self.source.paths[index], self.folder)
        return SliceSamples.read(samples_path(self.output, path)).samples.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Return what the viewer needs, and the entry of the report."""
        view = view_of(self.entry, self.indices, self.shape)
        return {
            **view.to_json(), "facts": view.facts, "missed": view.missed, "remarks": self.entry.remarks,
            "unlike_training": self.entry.unlike_training, "noise": self.entry.noise,
        }  # fmt: skip


@lru_cache(maxsize=1)  # two volumes in memory
def read_pair(before: Path, after: Path) -> tuple[CTVolume, CTVolume]:
    """Read a volume and its result."""
    return read_volume(before), read_volume(after)


def advice_texts(advice: Advice) -> list[str]:
    """Return a sentence for each target that suits all series: `advice_lines` for a page instead of a command line."""
    if advice.softest is None or advice.commonest is None:
        return ["No series has a kernel that is certain enough to choose a target by it."]
    texts = [f"Softest target that loses nothing: {advice.softest.kernel.name}."]
    if advice.commonest.kernel.name != advice.softest.kernel.name:
        texts.append(f"Most common kernel: {advice.commonest.kernel.name}.")
    if advice.softest.common_noise_hu is not None:
        texts.append(f"Doses differ; for one noise level choose {advice.softest.common_noise_hu} HU.")
    return texts


def volume_facts(header: VolumeHeader, number: int) -> dict[str, Any]:
    """Return what is known about a volume, which has no DICOM header."""
    kernel = estimate_kernel_of_slices(from_volume(read_volume(header.path)))
    return {
        "name": f"volume {number}", "kernel": "unknown", "group": None, "slices": header.grid.slices_shape[0],
        "mtf50": kernel.mtf50 if kernel else None, "noise_hu": kernel.noise_hu.get("soft tissue") if kernel else None,
        "told_by": kernel.told_by if kernel else "nothing", "expected": "", "remarks": [],
    }  # fmt: skip
