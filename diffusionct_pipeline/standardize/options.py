"""Options of a run over a folder, each written once: name, default, explanation and place on the command line.

Nothing heavy is imported here: `diffusionct --help` reads it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..utils.arguments import MODEL_HELP, count, noise_level, number_of, seed
from ..utils.usage import UsageError

if TYPE_CHECKING:
    from ..volumes.inputs import Sources


def option(default: Any, text: str, metavar: str = "", parse: Callable[[str], Any] = str, flag: str = "") -> Any:
    """Declare an option.

    Args:
        default: Its value where it is not given; False makes a switch.
        text: The explanation.
        metavar: What the help calls its value.
        parse: Text on the command line -> value.
        flag: What it is called there; "" for the name of the field.
    """
    return field(default=default, metadata={"help": text, "metavar": metavar, "parse": parse, "flag": flag})


@dataclass(frozen=True)
class FolderOptions:
    """How a run standardizes."""

    model: str | os.PathLike | None = option(None, MODEL_HELP, "M")
    target: str | None = option(
        None, 'kernel by name, such as "Br40"; default: the standard of the checkpoint', "KERNEL"
    )
    reference: str | os.PathLike | None = option(
        None, "file, or folder with one DICOM series, whose texture to take in place of a kernel by name", "R"
    )
    noise: str | float = option(
        "keep",
        '"keep" the dose of each scan (default), take over that of the "target", or noise in soft tissue in HU',
        "N", noise_level,
    )  # fmt: skip
    known_source: str | os.PathLike | None = option(
        None,
        "run_report.json of an earlier run over the same scans, whose estimates are taken over: slices that arrive late, or a "
        "part of a series, become what they would have become in that run",
        "REPORT", flag="source",
    )  # fmt: skip
    num_inference_steps: int | None = option(
        None,
        "denoising steps; default: what the checkpoint recommends, and a single one for a scan that was not smoothed",
        "N",
        count,
        "steps",
    )
    seed: int = option(0, "seed of the noise that the slices of a series share (default: 0)", "S", seed)
    device: str | None = option(None, '"cpu", "cuda", "cuda:1"; default: the first GPU, else the CPU', "D")
    batch_size: int | None = option(None, "slices at a time on a GPU (default: 8); a CPU takes one by one", "B", count)
    num_samples: int = option(
        1,
        "samples of each slice: the derived file is the first, whatever K; with more than 1 all of them and their spread go to "
        "OUT/samples (default: 1); DICOM only",
        "K", count, "samples",
    )  # fmt: skip
    overwrite: bool = option(
        False, "recompute everything; without it an interrupted run is resumed, and what an earlier one with the same input, "
        "model and options has finished is kept",
    )  # fmt: skip
    again: bool = option(
        False, "also standardize what DiffusionCT has standardized before; without it such files are left alone"
    )
    fast: bool = option(
        False, "for GPUs, on a CPU it is slower: networks in bfloat16, compiled; the files have other pixels and UIDs than "
        "without it",
    )  # fmt: skip
    preview: bool = option(
        False, "also write pictures (input, output, difference, spread of the samples, enlarged crops of lung and soft tissue) "
        "to OUT/preview: the middle slice of each series and one a quarter to either side",
    )  # fmt: skip
    page: bool = option(
        False, "also write a page for each series, OUT/page_01.html and so on: before, after, difference and swipe of up to 12 "
        "slices in a browser; it loads nothing and names no patient",
    )  # fmt: skip
    slice_thickness: float | None = option(
        None, "thickness of the slices of volumes, which do not say it; default: their distance", "MM", number_of("mm")
    )
    series_uid: str | None = option(
        None,
        "names the one volume to the noise: with the SeriesInstanceUID and thickness of its DICOM series, and its estimate "
        "(--source), it becomes what that becomes; default: a hash of its HU",
        "UID",
    )
    bids: bool = option(
        False, "IN is a BIDS dataset: results of its volumes are named with desc-standardized and get a JSON sidecar, and OUT a "
        "dataset_description.json",
    )  # fmt: skip

    def require_apply(self, sources: Sources) -> None:
        """Refuse options that have no meaning for what there is to standardize.

        Raises:
            UsageError: naming the option and what is allowed.
        """
        if self.bids:
            from .bids import require_dataset

            require_dataset(sources.folder)
        volumes = len(sources.volumes)
        if self.num_samples != 1 and volumes:
            raise UsageError(
                f'`num_samples` must be 1 where the input holds volumes, such as "{sources.volumes[0].path}", got '
                f"{self.num_samples}: samples are written for DICOM only. Leave it out, or call the pipeline in Python."
            )
        if self.slice_thickness is not None and not volumes:
            raise UsageError(
                f"`slice_thickness` is {self.slice_thickness}, but the input holds no volume, and DICOM has its own; "
                "leave it out."
            )
        if self.series_uid is not None and (volumes != 1 or sources.series):
            raise UsageError(
                f"`series_uid` is {self.series_uid!r}, but it can name one volume alone, and the input holds {volumes} volumes "
                f"and {len(sources.series)} DICOM series."
            )

    def require_nothing_to_load(self) -> None:
        """Refuse options of loading, for a run whose pipeline is loaded.

        Raises:
            UsageError: naming the option.
        """
        for name in ("model", "device", "fast"):
            if getattr(self, name):
                raise UsageError(f"`{name}` has no effect with `pipe`, which is loaded; leave one of them out.")

    def as_json(self) -> dict[str, Any]:
        """Return the options, the checkpoint by its name; what is special only where it was given."""
        special = ("again", "page", "series_uid", "slice_thickness", "known_source", "bids")
        chosen = {
            name: value for name, value in asdict(self).items() if name not in special or value not in (None, False)
        }
        if self.known_source is not None:
            chosen["known_source"] = "given"  # its folder may name a patient
        return {**chosen, "model": "embedded" if self.model is None else str(self.model)}


FolderOptions.__doc__ = f"{FolderOptions.__doc__}\n\nAttributes:\n" + "\n".join(
    f"    {item.name}: {item.metadata['help']}." for item in fields(FolderOptions)
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare every option of `FolderOptions` on a command line."""
    for item in fields(FolderOptions):
        flag = f"--{(item.metadata['flag'] or item.name).replace('_', '-')}"
        arguments: dict[str, Any] = {"dest": item.name, "help": item.metadata["help"]}
        if item.default is False:
            arguments["action"] = "store_true"
        else:
            arguments |= {"metavar": item.metadata["metavar"], "type": item.metadata["parse"], "default": item.default}
        parser.add_argument(flag, **arguments)


def options_of(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return the values of these options by name."""
    return {item.name: getattr(parsed, item.name) for item in fields(FolderOptions)}
