"""Run `diffusionct adapt`: make a site's own protocol the standard of a checkpoint."""

from __future__ import annotations

import argparse

from ..utils.arguments import MODEL_HELP
from ..utils.usage import require_model, require_new_folder, require_paths
from ._shared import EXIT_OK, ProgressBar

TEXT = "make your own target protocol the standard of a checkpoint, from one or more pairs of series"
EXAMPLE = "diffusionct adapt --source scans/soft --target scans/sharp --out adapted"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("--source", nargs="+", default=[], metavar="DIR", help="series of the protocol to be standardized")
    add("--target", nargs="+", default=[], metavar="DIR", help="the same scans, in the same order, with the protocol that "
        "becomes the standard")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="new folder for the checkpoint")
    add(
        "--unpaired",
        action="store_true",
        help="no scan exists with both protocols: use only the texture of the targets",
    )
    add("--standard-name", default="", metavar="KERNEL", help="name in derived images; default: as in the headers")
    add("--model", metavar="NAME", help=MODEL_HELP)


def run(options: argparse.Namespace) -> int:
    """Adapt, and print the scores."""
    require_paths(source=options.source, target=options.target)
    require_new_folder("out", options.out)
    require_model(options.model)
    from ..adapt.folders import adapt_folders

    with ProgressBar("adapt"):
        adapted = adapt_folders(
            options.source, options.target, options.out, model=options.model, unpaired=options.unpaired,
            standard_name=options.standard_name,
        )  # fmt: skip
    what = "slices of the targets" if options.unpaired else "pairs of slices"
    print(f"{adapted.used} of {adapted.found} {what} were used")
    for name, agreement in adapted.scores.items():
        print(f"{name:10s}CCC {agreement.mean_ccc:.3f}, {agreement.reproducible:.0%} of texture figures within 15 %")
    print(f"{options.out}: a checkpoint whose standard is {adapted.pipe.config['standard_name']}; use it with "
          f"diffusionct standardize --model {options.out} ...")  # fmt: skip
    return EXIT_OK
