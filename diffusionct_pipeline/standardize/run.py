"""Hold what stays the same for all slices of a run over a folder, and how far the run has come."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..dicom.sample_files import SAMPLES_FOLDER
from ..image_processor import HUSlice
from ..method.provenance import Derivation
from ..method.step import Target, require_noise
from ..pipeline import DiffusionCTPipeline
from ..utils.files import full_disk, visible_names, write_whole
from ..utils.paths import relative_path
from ..utils.seeds import MAX_SEED
from ..utils.stages import stage
from ..utils.usage import about_arguments
from ..volumes.inputs import Sources
from .bids import derivative_name
from .earlier_run import KnownScan, given_scans, known_scans
from .loading import load_pipeline, make_fast
from .options import FolderOptions
from .report import REPORT_FILE, SeriesEntry, make_report
from .standardizer import Standardizer

logger = logging.getLogger(__name__)

REPORT_SECONDS = 10.0  # between reports: what a killed run did last is lost in it, and long series spend no time on it
GONE = "was removed or replaced while the run went on"
NOT_ENDED = "not ended: it still runs, or was killed"


@dataclass
class FolderRun:
    """Hold a run over a folder.

    Attributes:
        scan: What there is to do, and what was left out.
        output: Output folder.
        options: The caller's.
        pipe: The one pipeline.
        target: Where to; None for a system of the comparison and for a denoiser whose target is fixed.
        derivation: What derived files say about their making.
        progress: Called with the samples done and all.
        started: `time.time()` before the model was loaded.
        begun: `time.time()` after that.
        done: Slices dealt with, failed ones included.
        shown: Samples that the progress knows of.
        stopped: Why the run ends early, "" while it goes on.
        entries: Of each series that was begun.
        results: Files below `output` that were written or found finished, relative.
        uids: SOPInstanceUID of each derived image -> its file.
        lost: Those of them that are not there at the end, with the reason.
        others: Files below `output`, relative, which are not of this run; known at the end.
        folder: Which folder `output` is, as it is when the run begins.
        reported: `time.monotonic()` of the last report.
        known: UID of a scan -> what an earlier run says of it.
        report_file: Where the report is, below `output`; elsewhere than usual, the run is one of several that share `output`.
        before: Series of the list before the first one of this run.
        used: What the report says in place of options: what was used where the caller left it open.
    """

    scan: Sources
    output: Path
    options: FolderOptions
    pipe: Standardizer
    target: Target | None
    derivation: Derivation
    progress: Callable[[int, int], None]
    started: float
    begun: float
    done: int = 0
    shown: int = 0
    stopped: str = ""
    entries: list[SeriesEntry] = field(default_factory=list)
    results: set[str] = field(default_factory=set)
    uids: dict[str, str] = field(default_factory=dict)
    lost: list[dict[str, str]] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folder: os.stat_result | None = None
    reported: float = -math.inf
    known: dict[str, KnownScan] = field(default_factory=dict)
    report_file: Path = Path(REPORT_FILE)
    before: int = 0
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        """Tell whether other runs may write to the output folder meanwhile."""
        return self.report_file != Path(REPORT_FILE)

    @property
    def total(self) -> int:
        """Return the number of slices to standardize."""
        return self.scan.slices

    def count(self, slices: int) -> None:
        """Count slices that are done, with all their samples, show the progress, and write the report now and then."""
        self.done += slices
        self.show()
        if time.monotonic() - self.reported > REPORT_SECONDS:
            self.report()

    def show(self, samples: int = 0) -> None:
        """Show the progress with so many samples of unfinished slices; it never goes back."""
        self.shown = max(self.shown, self.done * self.options.num_samples + samples)
        self.progress(self.shown, self.total * self.options.num_samples)

    def name(self, path: Path) -> Path:
        """Return what the report and OUT call a file of IN."""
        return relative_path(path, self.scan.folder)

    def volume_name(self, path: Path) -> Path:
        """Return what OUT calls the result of a volume of IN."""
        name = self.name(path)
        return derivative_name(name) if self.options.bids else name

    def has_output(self) -> bool:
        """Tell whether the output folder is still the one that the run began with."""
        try:
            return self.folder is None or os.path.samestat(self.folder, self.output.stat())
        except OSError:
            return False

    def require_output(self) -> None:
        """Refuse to write if the output folder was removed or unmounted: writing would create another one in its place.

        Raises:
            FileNotFoundError: naming the folder, if it is not the one that the run began with.
        """
        if not self.has_output():
            raise FileNotFoundError(errno.ENOENT, GONE, str(self.output))

    @contextmanager
    def record_failures(self, entry: SeriesEntry, paths: Sequence[Path], slices: int | None = None) -> Iterator[None]:
        """Enter whatever fails inside in the report, with the files that it concerns; the run goes on.

        Args:
            entry: Of the series.
            paths: The files.
            slices: How many slices they hold; None: one each.
        """
        try:
            yield
        except Exception as error:  # one bad file must not stop the rest, whatever is bad about it
            logger.debug("failed: %s", paths, exc_info=True)
            reason = str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"
            if isinstance(error, OSError) and error.filename and error.strerror:
                reason = f'"{error.filename}": {error.strerror}'
            entry.failures += [{"path": str(self.name(path)), "reason": reason} for path in paths]
            if full_disk(error) or not self.has_output():
                self.stopped = reason
            self.count(len(paths) if slices is None else slices)

    def claim(self, uid: str, name: Path) -> None:
        """Register the UID of a result.

        Raises:
            ValueError: naming both files, if another result of this run has it: a source was replaced meanwhile.
        """
        other = self.uids.setdefault(uid, str(name))
        if other != str(name):
            raise ValueError(
                f'"{self.scan.folder / name}" now shows what "{self.scan.folder / other}" shows: the input '
                "was changed while the run went on."
            )

    def close(self) -> None:
        """Compare the output folder with what it should hold: `lost` and, of a run that was not stopped, `others`."""
        if not self.has_output():
            self.stopped = self.stopped or f'"{self.output}" {GONE}'
            return
        reason = "was written or found finished, and removed while the run went on"
        self.lost = [
            {"path": name, "reason": f'"{self.output / name}" {reason}'}
            for name in sorted(self.results)
            if not (self.output / name).is_file()
        ]
        if self.stopped or self.is_shared:  # the rest may well be of another run with the same options
            return
        self.others = sorted({*visible_names(self.output)} - self.results - {REPORT_FILE})

    def report(self, ended: bool = False) -> dict[str, Any]:
        """Write the report as far as the run has come; one that cannot be written counts at the end only."""
        report = make_report(
            folder=self.scan.folder,
            output=self.output,
            derivation=self.derivation,
            # As in the derived headers: the hash of a reference, whose path may name a patient.
            options={**self.options.as_json(), **self.used, "reference": self.derivation.reference},
            samples_folder=SAMPLES_FOLDER if self.options.num_samples > 1 else None,
            slices=self.total,
            entries=self.entries,
            skipped=self.scan.skipped,
            remarks=self.scan.remarks,
            lost=self.lost,
            others=self.others,
            stopped=self.stopped if ended else NOT_ENDED,
            started=self.started,
            begun=self.begun,
            ended=time.time() if ended else None,
        )
        if self.is_shared:
            report["results"] = sorted(self.results)
        try:
            self.require_output()
            write_whole(self.output / self.report_file, json.dumps(report, indent=2) + "\n")
        except OSError as error:
            report["stopped"] = report["stopped"] or f"{REPORT_FILE} cannot be written: {error.strerror}"
        self.reported = time.monotonic()
        return report


def make_run(
    scan: Sources,
    output: Path,
    options: FolderOptions,
    progress: Callable[[int, int], None] | None,
    loaded: Standardizer | None = None,
) -> FolderRun:
    """Load the model, unless it is loaded already, check the options and measure the texture of the reference.

    Args:
        scan, output, options, progress: As of `FolderRun`.
        loaded: What is loaded already; None loads what the options name.

    Raises:
        ValueError, OSError: naming the option and the reason.
    """
    started = time.time()
    with about_arguments():
        require_noise(options.noise)
    if loaded is not None:
        options.require_nothing_to_load()
    pipe: Standardizer = make_pipeline(options) if loaded is None else loaded
    steps = options.num_inference_steps
    steps = pipe.config.default_num_inference_steps if steps is None else steps
    with about_arguments():
        pipe.check_inputs(steps, None, options.batch_size, "dicom", [], options.num_samples)
        generator_for(options.seed)
        pipe.image_processor.place([], thickness_mm=options.slice_thickness)
        if options.target is not None:  # known before a reference is read
            pipe.resolve_target(options.target)
    references: list[HUSlice] = []
    if options.reference is not None:
        stage("measuring the reference")
        references = pipe.image_processor.load(options.reference, None, "reference")
    target = pipe.resolve_target(options.target, references, options.batch_size)
    derivation = pipe.derivation(steps or 0, target)
    with about_arguments():
        known = given_scans(options.known_source, derivation.model_id)
    if target is None:
        with about_arguments():
            pipe.require_no_target(options.target, options.noise, options.known_source)
    elif not options.overwrite:
        known = known_scans(output / REPORT_FILE, derivation.model_id) | known
    return FolderRun(
        scan=scan,
        output=output,
        options=options,
        pipe=pipe,
        target=target,
        known=known,
        derivation=derivation,
        progress=progress or (lambda done, total: None),
        started=started,
        begun=time.time(),
        used={"num_inference_steps": steps, "device": str(pipe.device)}
        | (named_as_loaded(derivation) if loaded is not None else {}),
    )


def make_pipeline(options: FolderOptions) -> DiffusionCTPipeline:
    """Load the pipeline that options name."""
    pipe = load_pipeline(options.model, options.device)
    return make_fast(pipe) if options.fast else pipe


def named_as_loaded(derivation: Derivation) -> dict[str, str]:
    """Return what the report says in place of the options of loading."""
    return {"model": "as loaded"} | ({"system": derivation.system} if derivation.system else {})


def generator_for(seed: int) -> torch.Generator:
    """Make a generator from a seed.

    Raises:
        ValueError: naming the seed.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"`seed` must be an integer of 0 to 2^63 - 1, got {seed}.")
    return torch.Generator().manual_seed(seed)
