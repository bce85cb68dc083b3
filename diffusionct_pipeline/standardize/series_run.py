"""Standardize and write what an earlier run has not finished of one DICOM series, slice by slice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..dicom import CTSeries, CTSlice, DicomError, read_slice, write_slice
from ..dicom.plausible import ValueRange, lacks_air, lacks_air_remark
from ..dicom.sample_files import SliceSamples, samples_path
from ..image_processor import GRID, HUSlice
from ..method.slices import sample_seed
from ..pipeline import ACCELERATOR_BATCH
from ..utils.files import whole_file
from .likeness import SliceLatent, has_texture_latent, header_remarks, latent_remarks, likeness, slice_latents
from .pages import write_series_page
from .previews import preview_indices, write_preview
from .report import SeriesEntry
from .resume import finished_samples, finished_slice
from .run import FolderRun, generator_for
from .scans import ScanTask, SeriesSlices, begin_scan


class SeriesRun:
    """Standardize one series of a run over a folder.

    Args:
        run: The run.
        series: The series.

    Attributes:
        entry: What the report says of it.
        task: How its slices become results, once it is estimated.
        latents: What the latents of its slices say of its likeness to training.
    """

    def __init__(self, run: FolderRun, series: CTSeries):
        self.run, self.series = run, series
        self.entry = SeriesEntry.of(series)
        self.entry.folder = str(run.name(series.paths[0]).parent).removeprefix(".")
        self.task = ScanTask(None, run.derivation, {})
        self.latents: list[SliceLatent] = []

    def standardize(self) -> None:
        """Standardize and write the slices that are not finished, and add the entry to the report."""
        run, series, entry = self.run, self.series, self.entry
        run.entries.append(entry)
        with run.record_failures(entry, series.paths):
            self.task = begin_scan(run, entry, SeriesSlices(series), lambda item: self.seeds([item])[0][0])
        if not entry.failures:
            self.standardize_in_portions(run.options.batch_size or ACCELERATOR_BATCH)

    def write_page(self) -> None:
        """Write the page of the series that was just standardized."""
        write_series_page(self.run, self.series)

    def standardize_in_portions(self, size: int) -> None:
        """Read, standardize and write `size` slices at a time."""
        run, series, entry = self.run, self.series, self.entry
        seconds, airless, values = 0.0, 0, ValueRange()
        of_header: list[str] | None = None
        for start in range(0, len(series.paths), size):
            # 1. Read; a file that cannot be read costs nothing but itself.
            paths, begun = series.paths[start : start + size], time.perf_counter()
            slices = self.read(paths, series.uids[start : start + size])
            for hu_slice in slices:
                values.add(hu_slice.hu, hu_slice.padding)
                airless += lacks_air(hu_slice.hu, hu_slice.padding)
            if values.problem:
                with run.record_failures(entry, [hu_slice.file for hu_slice in slices]):
                    raise DicomError(f"This series {values.problem}")
                slices = []
            if slices and of_header is None:
                of_header = header_remarks(slices[0].ct_slice.dataset, slices[0].thickness_mm, series.spacing_mm)
            reading = (time.perf_counter() - begun) / len(paths)
            # 2. Standardize those that go through the networks together, and write each.
            for batch in run.pipe.batches(slices, run.options.batch_size):
                inputs = [slices[i] for i in batch]
                missing = [False] * len(inputs)
                for i, hu_slice in enumerate(inputs):
                    with run.record_failures(entry, [hu_slice.file]):
                        missing[i] = not self.is_finished(hu_slice)
                if any(missing):
                    begun = time.perf_counter()
                    self.standardize_missing(inputs, missing)
                    seconds += time.perf_counter() - begun + reading * len(inputs)
                if run.stopped:
                    return
            if entry.written:
                entry.seconds_per_slice = round(seconds / entry.written, 3)
            # 3. What no training scan had.
            entry.unlike_training = of_header or []
            if has_texture_latent(run.pipe) and self.latents:
                where = likeness(run.pipe, self.latents, series.spacing_mm)
                entry.unlike_training = entry.unlike_training + latent_remarks(where, len(self.latents))
        if airless == len(series.paths):
            entry.remarks.append(lacks_air_remark("This series"))

    def read(self, paths: Sequence[Path], uids: Sequence[str]) -> list[HUSlice]:
        """Read slices that have these SOPInstanceUIDs; those that cannot be read are entered as failures."""
        slices: list[HUSlice] = []
        for path, uid in zip(paths, uids):
            with self.run.record_failures(self.entry, [path]):
                loaded = self.run.pipe.image_processor.load(path, judge=False)
                self.require_unchanged(loaded[0].ct_slice, uid)
                slices += loaded
        return slices

    def require_unchanged(self, source: CTSlice, uid: str) -> None:
        """Refuse a file that was replaced since the input was searched.

        Raises:
            DicomError: naming it.
        """
        found = str(source.dataset.get("SOPInstanceUID") or ""), source.series_uid, source.hu.shape
        if found != (uid, self.series.uid, self.series.shape):
            raise DicomError(f"{source.name} was replaced by another image while the run went on.")

    def seeds(self, slices: Sequence[HUSlice]) -> list[tuple[int, ...]]:
        """Return the K noise seeds of each slice."""
        options = self.run.options
        first = self.run.pipe.noise_seeds(slices, generator_for(options.seed))
        return [tuple(sample_seed(seed, number) for number in range(options.num_samples)) for seed in first]

    def is_finished(self, hu_slice: HUSlice) -> bool:
        """Tell whether an earlier run wrote what this one would; then count it, and draw its picture if asked for."""
        run = self.run
        if run.options.overwrite:
            return False
        source, name = hu_slice.ct_slice, run.name(hu_slice.file)
        seeds = self.seeds([hu_slice])[0]
        derived = finished_slice(run.output / name, source, seeds[0], self.task.derivation)
        record = None
        if derived is not None and len(seeds) > 1:
            record = finished_samples(samples_path(run.output, name), derived, source, seeds)
        if derived is None or (len(seeds) > 1 and record is None):
            return False
        run.claim(derived.SOPInstanceUID, name)
        self.finish_slice(hu_slice, derived, record)
        self.entry.finished_before += 1
        run.count(1)
        return True

    def standardize_missing(self, slices: list[HUSlice], missing: list[bool]) -> None:
        """Standardize slices together, and write those that are missing.

        All go through the networks, as on a GPU the last bits depend on what else is in the batch.
        """
        run, entry = self.run, self.entry
        wanted = [hu_slice for hu_slice, is_missing in zip(slices, missing) if is_missing]
        with run.record_failures(entry, [hu_slice.file for hu_slice in wanted]):
            for hu_slice, (samples, seeds), is_missing in zip(slices, self.samples(slices), missing):
                if is_missing and not run.stopped:
                    with run.record_failures(entry, [hu_slice.file]):
                        derived, record = self.write(hu_slice, samples, seeds)
                        self.finish_slice(hu_slice, derived, record)
                        entry.written += 1
                        entry.clipped_pixels += derived.clipped_pixels
                        run.count(1)

    def samples(self, slices: list[HUSlice]) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """Standardize slices together; return K samples in HU (K, H, W) and their K noise seeds for each slice."""
        run, task = self.run, self.task
        seeds = self.seeds(slices)  # [B][K]
        encoded = run.pipe.encode_batch(slices)
        if has_texture_latent(run.pipe):
            self.latents += slice_latents(run.pipe, encoded.latent_a, encoded.shape[-1] // GRID)
        trial = [task.trial.get(self.series.paths.index(item.file)) for item in slices]
        samples: list[Sequence[np.ndarray | None]] = []
        for number, of_sample in enumerate(zip(*seeds)):
            if number:
                run.show(number * len(slices))
            if number == 0 and all(made is not None for made in trial):
                samples.append(trial)
                continue
            step = task.step and task.step.of_sample(number, seeds[0][0])
            steps = run.options.num_inference_steps
            samples.append(run.pipe.standardize_batch(slices, of_sample, steps, step, encoded=encoded))
        return list(zip(map(np.stack, zip(*samples)), seeds))

    def write(
        self, hu_slice: HUSlice, samples: np.ndarray, seeds: tuple[int, ...]
    ) -> tuple[Dataset, SliceSamples | None]:
        """Write one derived slice, and its samples if there are several.

        Args:
            hu_slice: The source.
            samples: (K, H, W), its standardized HU; the first sample is the derived slice.
            seeds: K seeds of their noise.
        """
        run = self.run
        run.require_output()
        derived = self.task.derivation.derive(samples[0], hu_slice.ct_slice, seeds[0])
        name = run.name(hu_slice.file)
        run.claim(derived.SOPInstanceUID, name)
        if len(samples) == 1:
            write_slice(derived, run.output / name)
            return derived, None
        record = SliceSamples.of(samples, hu_slice.ct_slice, derived.SOPInstanceUID, seeds)
        with whole_file(samples_path(run.output, name)) as part:  # there only if the derived file is
            part.write_bytes(record.to_bytes())
            write_slice(derived, run.output / name)
        return derived, record

    def finish_slice(self, hu_slice: HUSlice, derived: Dataset, record: SliceSamples | None) -> None:
        """Enter a slice whose files are there, and draw its picture from what they hold if one is asked for."""
        run, series, entry = self.run, self.series, self.entry
        path = hu_slice.file
        name, index = run.name(path), series.paths.index(path)
        run.results.add(str(name))
        if record is not None:
            run.results.add(str(samples_path(Path(), name)))
        if entry.kernel_in is None:
            entry.kernel_in, entry.kernel_out = hu_slice.kernel, derived.ConvolutionKernel
        if run.options.preview and index in preview_indices(len(series.paths)):
            write_preview(
                run,
                str(name),
                (index, len(series.paths)),
                (hu_slice.kernel, derived.ConvolutionKernel),
                hu_slice.hu,
                read_slice(derived).hu,
                hu_slice.spacing_mm,
                None if record is None else record.spread,
                self.task.warning,
            )
