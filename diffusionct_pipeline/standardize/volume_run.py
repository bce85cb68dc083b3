"""Standardize one volume of a run: one file, whole or not at all, under the header of its source."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ..dicom import Skipped, SkippedKind
from ..dicom.deriving import synthetic_kernel_name
from ..image_processor import HUSlice, doubts
from ..utils.files import write_whole
from ..utils.paths import without_folders
from ..volumes import CTVolume, VolumeError, VolumeHeader, read_volume, write_volume
from ..volumes.files import written_volume
from .bids import (
    DESCRIPTION_FILE,
    IGNORE_FILE,
    IGNORED,
    dataset_description,
    is_named,
    require_ours,
    sidecar,
    sidecar_name,
)
from .pages import write_volume_page
from .previews import preview_indices, write_preview
from .report import SeriesEntry
from .run import FolderRun, generator_for
from .scans import ScanTask, begin_scan


class VolumeRun:
    """Standardize one volume of a run over a folder.

    Args:
        run: The run.
        header: Of the volume.

    Attributes:
        name: What the report calls its file.
        result: What OUT calls it.
        entry: What the report says of it.
        task: How its slices become results, once it is estimated.
    """

    def __init__(self, run: FolderRun, header: VolumeHeader):
        self.run, self.header, self.name = run, header, str(run.name(header.path))
        self.result = run.volume_name(header.path)
        self.count = header.grid.slices_shape[0]
        self.entry = SeriesEntry.of_volume(self.name, self.count, header.grid.spacing_mm)
        self.task = ScanTask(None, run.derivation, {})

    def standardize(self) -> None:
        """Standardize and write the volume if it is not finished, and add its entry to the report.

        A mask is left out as no CT, unless there is nothing else to standardize.
        """
        run, entry, begun = self.run, self.entry, time.perf_counter()
        run.entries.append(entry)
        with run.record_failures(entry, [self.header.path], self.count):
            try:
                slices = self.load()
            except VolumeError as error:
                if error.kind is not SkippedKind.NOT_CT or (run.total == self.count and not run.is_shared):
                    raise
                run.entries.remove(entry)
                run.scan.volumes.remove(self.header)
                run.scan.skipped.append(Skipped(self.header.path, str(error), error.kind))
                return
            entry.remarks = doubts(slices, "This volume")
            if run.options.bids:
                self.describe_dataset()
                if not is_named(Path(self.name)):
                    entry.remarks.append("The file is not named as BIDS wants, so that its result keeps its name")
            entry.uid, entry.thickness_mm = slices[0].series_uid, slices[0].thickness_mm
            seeds = run.pipe.noise_seeds(slices, generator_for(run.options.seed))
            self.task = begin_scan(run, entry, slices, lambda item: seeds[0])
            derived = self.finished(slices, seeds)
            if derived is not None:
                entry.finished_before = self.count
            else:
                derived = self.task.derivation.derive_volume(self.standardized(slices, seeds), slices, seeds)
                run.require_output()
                write_volume(derived, run.output / self.result)
                entry.written, entry.clipped_pixels = self.count, derived.clipped_pixels
                entry.seconds_per_slice = round((time.perf_counter() - begun) / self.count, 3)
            self.finish(slices, derived)
            run.count(self.count)

    def write_page(self) -> None:
        """Write the page of the volume that was just standardized."""
        write_volume_page(self.run, self.header)

    def load(self) -> list[HUSlice]:
        """Read the slices, with the thickness and the name that the caller gave.

        Raises:
            VolumeError: as of `read_volume`.
        """
        processor, options = self.run.pipe.image_processor, self.run.options
        slices = processor.load(read_volume(self.header.path), judge=False)
        return processor.place(slices, thickness_mm=options.slice_thickness, series_uid=options.series_uid)

    def finished(self, slices: list[HUSlice], seeds: list[int]) -> CTVolume | None:
        """Return what an earlier run wrote, if it says of itself what this run would; else None."""
        if self.run.options.overwrite:
            return None
        source = slices[0].volume
        assert source is not None  # they were read from one
        derived = written_volume(self.run.output / self.result, source)
        if derived is None or derived.description != self.task.derivation.describe_volume(derived, slices, seeds):
            return None
        return derived

    def standardized(self, slices: list[HUSlice], seeds: list[int]) -> list[np.ndarray]:
        """Standardize each slice: HU (H, W)."""
        run, results = self.run, []
        for batch in run.pipe.batches(slices, run.options.batch_size):
            inputs, of_batch = [slices[i] for i in batch], [seeds[i] for i in batch]
            results += run.pipe.standardize_batch(inputs, of_batch, run.options.num_inference_steps, self.task.step)
            run.show(len(results))
        return results

    def finish(self, slices: list[HUSlice], derived: CTVolume) -> None:
        """Enter the volume, whose file is there, and write what is asked for beside it from what that holds."""
        run, entry = self.run, self.entry
        run.results.add(str(self.result))
        kernel = synthetic_kernel_name(self.task.derivation.label or run.derivation.target_name)
        entry.kernel_in, entry.kernel_out = "", kernel
        if run.options.bids:
            self.write_sidecar()
        for index in preview_indices(self.count) if run.options.preview else []:
            before = slices[index]
            write_preview(
                run,
                f"{self.name}_{index + 1}",
                (index, self.count),
                ("", kernel),
                before.hu,
                derived.slice_hu(index),
                before.spacing_mm,
                warning=self.task.warning,
            )

    def describe_dataset(self) -> None:
        """Describe the derived BIDS dataset in the output folder.

        Raises:
            FileExistsError: That of another one is there.
        """
        run = self.run
        path = run.output / DESCRIPTION_FILE
        require_ours(path)
        run.require_output()
        write_whole(path, dataset_description(run.scan.folder, run.output, run.derivation))
        write_whole(run.output / IGNORE_FILE, "\n".join(IGNORED) + "\n")
        run.results.add(DESCRIPTION_FILE)

    def write_sidecar(self) -> None:
        """Write the BIDS sidecar of the result."""
        run, entry, beside = self.run, self.entry, sidecar_name(self.result)
        said = [*entry.remarks, *entry.unlike_training]
        warnings = without_folders(said, {"IN": run.scan.folder, "OUT": run.output})
        text = sidecar(Path(self.name), entry, self.task.derivation, run.options.seed, warnings)
        write_whole(run.output / beside, text)
        run.results.add(str(beside))
