"""Run `diffusionct standardize`: a file or a folder of series and volumes in, derived files and a report out."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..standardize.options import add_options, options_of
from ..utils.arguments import count
from ..utils.usage import UsageError, require_folder, require_model, require_outside, require_paths
from ._shared import EXIT_FAILURE, EXIT_MISSED, EXIT_OK, ProgressBar, redact_paths_in_log

TEXT = "standardize a DICOM, NIfTI or NRRD file, or all CT of a folder; other files in it are skipped"
EXAMPLE = "diffusionct standardize scans/patient_01 standardized/patient_01 --preview"

SHOWN_FAILURES = 10
VERBS = ("became ", "stayed ")  # remarks that continue a sentence begun by the name of the series
LISTED = "run_report.json lists them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", metavar="IN", help="DICOM file, volume (.nii, .nii.gz, .nrrd) or folder; only read")
    add("output", metavar="OUT", help="folder outside of IN; mirrors the paths of IN and gets run_report.json")
    add("--system", metavar="NAME", help="use a system of the comparison in place of DiffusionCT (`diffusionct info` lists "
        "them), with the folder that training/train_system.py wrote as --model")  # fmt: skip
    add("--series-list", metavar="TSV", help="list that `diffusionct plan IN` printed; only --index of it is standardized, so that "
        "several jobs may share OUT, and `diffusionct merge OUT` merges their reports")  # fmt: skip
    add("--index", type=count, metavar="N", help="which series of the list, from 1")
    add("--chunk", type=count, metavar="K", help="standardize K series of the list, the N-th group of K (default: 1)")
    add("--ray", metavar="ADDRESS", help='standardize the series on the workers of a Ray cluster at this address, or with "local" '
        "on all cores of this machine; IN and OUT must be at the same paths everywhere")  # fmt: skip
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Standardize, and print what was written and what failed; a failure of any file is a failure."""
    require_paths(IN=options.input, reference=options.reference, source=options.known_source)
    require_folder("OUT", options.output)
    require_outside(options.output, options.input)
    if options.target is not None and options.reference is not None:
        raise UsageError("--target and --reference exclude each other; give only one of them.")
    if options.system is None:
        require_model(options.model)
    if (options.series_list is None) != (options.index is None) or (options.chunk and options.index is None):
        raise UsageError("--series-list and --index must be given together, and --chunk only with them.")
    if options.ray is not None and options.series_list is not None:
        raise UsageError("--ray standardizes all series, --series-list only some; give only one of them.")
    if options.ray is not None and options.system is not None:
        raise UsageError("--ray workers load a checkpoint, not a --system; give only one of them.")
    standardize: Callable[..., dict[str, Any]]
    listed: dict[str, Any] = {}
    if options.ray is not None:
        from ..standardize.on_ray import standardize_on_ray

        standardize, listed = standardize_on_ray, {"address": options.ray}
    elif options.series_list is None:
        from ..standardize.folder import standardize_folder

        standardize = standardize_folder
    else:
        from ..standardize.listed import standardize_listed

        require_paths(**{"--series-list": options.series_list})
        standardize = standardize_listed
        listed = {"series_list": options.series_list, "index": options.index, "chunk": options.chunk or 1}

    settings, pipe = options_of(options), None
    if options.system is not None:
        if options.fast:
            raise UsageError("--fast has no effect with --system; leave one of them out.")
        from ..comparison.systems import load_as_pipeline

        pipe = load_as_pipeline(options.system, settings.pop("model"), settings.pop("device"))
    bar = ProgressBar("standardize", unit="slice" if options.num_samples == 1 else "sample")
    with redact_paths_in_log(options.input, options.output, options.reference), bar as progress:
        report = standardize(
            options.input,
            options.output,
            **listed,
            **settings,
            pipe=pipe,
            progress=progress,
        )
    return tell(report)


def tell(report: dict[str, Any]) -> int:
    """Print what a report says, and return the exit code."""
    before = report["finished_before"]
    done = f"{report['written'] + before} of {report['slices']} slices in {len(report['series'])} series"
    done += " are standardized"
    print(f"{done}, {before} of them by an earlier run" if before else done)
    if report["samples_folder"]:
        print(f"{report['options']['num_samples']} samples of each in its folder {report['samples_folder']}")
    if report["skipped"]:
        kinds = Counter(item["kind"] for item in report["skipped"])
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        print(f"{len(report['skipped'])} other files skipped ({named}); {LISTED}")
    for remark in report["remarks"]:
        print(f"warning: {remark}", file=sys.stderr)
    if report["others"]:
        print(
            f"note: OUT also holds {len(report['others'])} files that are not from this run; {LISTED}", file=sys.stderr
        )
    for number, entry in enumerate(report["series"], 1):
        place = entry["path"] or entry["folder"]
        known = [entry["kernel_in"] or "unknown kernel", *([f'"{place}"'] if place else [])]
        name = f"series {number} of {len(report['series'])} ({', '.join(known)})"
        for remark in entry["remarks"]:
            print(
                f"warning: {name} {remark}" if remark.startswith(VERBS) else f"warning: {name}: {remark}",
                file=sys.stderr,
            )
        for remark in entry["unlike_training"]:
            print(f"warning: {name} is unlike all training: {remark}", file=sys.stderr)
    failures = [item for entry in report["series"] for item in entry["failures"]] + report["unusable"] + report["lost"]
    for item in failures[:SHOWN_FAILURES]:
        print(f"failed: {item['reason']}", file=sys.stderr)
    if len(failures) > SHOWN_FAILURES:
        print(f"... and {len(failures) - SHOWN_FAILURES} more; {LISTED}", file=sys.stderr)
    if report["stopped"]:
        print(f"stopped early: {report['stopped']}", file=sys.stderr)
    if failures or report["stopped"]:
        return EXIT_FAILURE
    return EXIT_MISSED if report["missed"] else EXIT_OK
