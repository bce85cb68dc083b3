"""Run `diffusionct publish`: upload a checkpoint to the Hub, load it back and compare."""

from __future__ import annotations

import argparse

from ..utils.usage import CHECKPOINT_INDEX, UsageError, about_arguments, require_new_folder
from ._shared import EXIT_OK, ProgressBar

TEXT = "upload a checkpoint to the Hugging Face Hub, load it back and compare"
EXAMPLE = "diffusionct publish runs/checkpoint user/repo --private"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT", help="folder of a pipeline; only read")
    add("repository", metavar="USER/REPO", help="repository on the Hub: new, empty, or with a DiffusionCT checkpoint, which "
        "is replaced. The token is HF_TOKEN, or that of `hf auth login`")  # fmt: skip
    add("--private", action="store_true", help="leave a new repository private; otherwise it becomes public once the upload "
        "has been loaded back and is the same")  # fmt: skip
    add("--revision", default="main", metavar="BRANCH", help="branch, created if necessary (default: %(default)s)")
    add("--license", metavar="L", help='the Hub\'s name of a licence, such as "apache-2.0"; default: that in the '
        "checkpoint's README.md")  # fmt: skip
    add("--dry-run", metavar="DIR", help="write what would be uploaded to this new folder and stop; needs no network")


def run(options: argparse.Namespace) -> int:
    """Publish or write the folder, and print where it is."""
    from pathlib import Path

    if not Path(options.checkpoint, CHECKPOINT_INDEX).is_file():
        raise UsageError(
            f"CHECKPOINT must be a folder with {CHECKPOINT_INDEX}, as training and save_pretrained write it, got "
            f'"{options.checkpoint}".'
        )
    if options.dry_run is not None:
        require_new_folder("--dry-run", options.dry_run)
    from diffusers.utils import logging

    from ..publishing import prepare, publish
    from ..publishing.hub import require_repo_id
    from ..utils.files import whole_folder

    with about_arguments():
        require_repo_id(options.repository)  # before the parents of DIR are created
    logging.disable_progress_bar()  # there would be one for each pipeline that is loaded for the comparison
    if options.dry_run is not None:
        with ProgressBar("publish"), whole_folder(options.dry_run) as folder:
            prepare(options.checkpoint, folder, options.repository, options.license)
        for path in sorted(path for path in Path(options.dry_run).rglob("*") if path.is_file()):
            print(f"{path.stat().st_size:>10} {path.relative_to(options.dry_run)}")
        print(f"nothing was uploaded; {options.dry_run} holds what would be")
        return EXIT_OK
    with ProgressBar("publish"):
        done = publish(
            options.checkpoint,
            options.repository,
            private=options.private,
            revision=options.revision,
            license=options.license,
        )
    print(f"{done.repo_id}: commit {done.commit}, loaded back: weights and a standardized slice are the same")
    print(f"{done.url} ({'private' if done.private else 'public'})")
    return EXIT_OK
