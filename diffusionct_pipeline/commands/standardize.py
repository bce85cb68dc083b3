"""`diffusionct standardize`: a file or a folder of series and volumes in, derived files and a report out."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

from ..standardize.options import add_options, options_of
from ..utils.arguments import count
from ..utils.usage import UsageError, require_folder, require_model, require_outside, require_paths
from ._shared import EXIT_FAILURE, EXIT_MISSED, EXIT_OK, ProgressBar, patients_kept_out_of_the_log

TEXT = "standardize a DICOM, NIfTI or NRRD file, or all CT of a folder; other files in it are skipped"
EXAMPLE = "diffusionct standardize scans/patient_01 standardized/patient_01 --preview"

SHOWN_FAILURES = 10
VERBS = ("became ", "stayed ")  # remarks that go on after the name of the series
LISTED = "run_report.json lists them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("input", metavar="IN", help="DICOM file, volume (.nii, .nii.gz, .nrrd) or folder; only read")
    add("output", metavar="OUT", help="folder outside of IN; mirrors the paths of IN and gets run_report.json")
    add("--system", metavar="NAME", help="a system of the comparison in DiffusionCT's place (`diffusionct info` names "
        "them), with the folder that training/train_system.py wrote as --model")  # fmt: skip
    add("--series-list", metavar="TSV", help="list that `diffusionct plan IN` printed, of which to do --index: several jobs may "
        "then share OUT, and `diffusionct merge OUT` makes one report of theirs")  # fmt: skip
    add("--index", type=count, metavar="N", help="which series of the list, from 1")
    add("--chunk", type=count, metavar="K", help="do K series of the list, the N-th K of them (default: 1)")
    add("--ray", metavar="ADDRESS", help='do the series on the workers of a Ray cluster at this address, or with "local" on all '
        "cores of this machine; IN and OUT must be at the same paths everywhere")  # fmt: skip
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Standardize, and print what was written and what failed; a failure of any file is a failure."""
    require_paths(IN=options.input, reference=options.reference, source=options.known_source)
    require_folder("OUT", options.output)
    require_outside(options.output, options.input)
    if options.target is not None and options.reference is not None:
        raise UsageError("--target and --reference exclude each other; give one of them.")
    if options.system is None:
        require_model(options.model)
    if (options.series_list is None) != (options.index is None) or (options.chunk and options.index is None):
        raise UsageError("--series-list and --index belong together, and --chunk to them; give both or none of them.")
    if options.ray is not None and options.series_list is not None:
        raise UsageError("--ray does all series, and --series-list some; give one of them.")
    if options.ray is not None and options.system is not None:
        raise UsageError("--ray has workers that load a checkpoint, and none of --system; leave one of them out.")
    if options.ray is not None:
        from ..standardize.on_ray import standardize_on_ray as standardize

        listed = {"address": options.ray}
    elif options.series_list is None:
        from ..standardize.folder import standardize_folder as standardize

        listed = {}
    else:
        from ..standardize.listed import standardize_listed as standardize

        require_paths(**{"--series-list": options.series_list})
        listed = {"series_list": options.series_list, "index": options.index, "chunk": options.chunk or 1}

    settings, pipe = options_of(options), None
    if options.system is not None:
        if options.fast:
            raise UsageError("--fast has no effect with --system; leave one of them out.")
        from ..comparison.systems import load_as_pipeline

        pipe = load_as_pipeline(options.system, settings.pop("model"), settings.pop("device"))
    bar = ProgressBar("standardize", unit="slice" if options.num_samples == 1 else "sample")
    with patients_kept_out_of_the_log(options.input, options.output, options.reference), bar as progress:
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
    """Print what a report says; the exit code."""
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
        print(f"note: OUT also holds {len(report['others'])} files that are not of this run; {LISTED}", file=sys.stderr)
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
