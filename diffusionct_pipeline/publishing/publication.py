"""The way of a checkpoint to the Hub: nothing is uploaded that does not load, nothing shown that was not loaded back."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from diffusers import DiffusionPipeline

from ..pipeline import DiffusionCTPipeline
from ..utils.stages import stage
from .card import write_card
from .comparing import require_same
from .contents import HALF, write_contents
from .hub import Repository, require_repo_id
from .private_text import require_no_private_text


@dataclass(frozen=True)
class Publication:
    """What `publish` did.

    Attributes:
        repo_id: "user/repo".
        commit: Of the repository, the one that was loaded back.
        url: Of its files.
        private: Whether the repository is.
    """

    repo_id: str
    commit: str
    url: str
    private: bool


def prepare(checkpoint: str | Path, folder: str | Path, repo_id: str, license: str | None = None) -> None:
    """Write the files that `publish` uploads, load them, and compare them with the checkpoint.

    Args:
        checkpoint: Folder of a pipeline, as training, `export_checkpoint` or `save_pretrained` writes it; only read.
        folder: Where to write; it exists and is empty.
        repo_id: "user/repo", which the card names.
        license: The Hub's name of a licence, "apache-2.0" say; None: that of the checkpoint's card.

    Raises:
        ValueError: If `repo_id` is no name of a repository, the folder is no whole checkpoint, no licence is known, or a text
            holds a path or a token.
        OSError: If a file cannot be read or written.
    """
    require_repo_id(repo_id)
    source = DiffusionCTPipeline.from_pretrained(local_checkpoint(checkpoint))
    write_contents(checkpoint, folder)
    write_card(folder, repo_id, license)
    require_no_private_text(folder)
    stage("comparing what would be uploaded with the checkpoint")
    require_same(source, DiffusionCTPipeline.from_pretrained(folder), "the folder to upload")
    DiffusionCTPipeline.from_pretrained(folder, variant=HALF)  # loads, whole and finite: 65504 is float16's largest


def publish(
    checkpoint: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str = "main",
    license: str | None = None,
) -> Publication:
    """Upload a checkpoint to the Hub in one commit, load that into an empty cache, and compare.

    A new repository is private until that comparison has passed. The token is that of the Hub's client: HF_TOKEN, or
    what `hf auth login` stored.

    Args:
        checkpoint: As of `prepare`.
        repo_id: "user/repo". It may be new, empty, or hold a DiffusionCT checkpoint, whose files are replaced.
        private: Whether a new repository stays private.
        revision: Branch; made if the repository has no such branch.
        license: As of `prepare`.

    Raises:
        ValueError: As of `prepare`; without a token; if the repository holds something else, or is public though
            `private` is given; if what was loaded back differs from the checkpoint.
        OSError: If the Hub cannot be reached or refuses.
    """
    repository = Repository(repo_id, revision)
    with tempfile.TemporaryDirectory(prefix="diffusionct-") as folder:
        prepare(checkpoint, folder, repo_id, license)
        repository.open(private)
        stage("uploading")
        commit = repository.upload(folder)
        stage("loading the upload back")
        verify(folder, repository, commit)
    if not private:
        repository.show()
    return Publication(repo_id, commit, f"{repository.url}/tree/{revision}", repository.private)


def verify(folder: str | Path, repository: Repository, commit: str) -> None:
    """Load a commit as a user would, into an empty cache, and compare it with the folder that was uploaded.

    Raises:
        ValueError: Naming what differs, and in which state the repository is left.
    """
    with tempfile.TemporaryDirectory(prefix="diffusionct-") as cache:
        where = {"revision": commit, "cache_dir": cache, "token": repository.api.token}
        try:
            with repository.named_errors():
                plain = DiffusionPipeline.from_pretrained(repository.repo_id, **where)
                half = DiffusionCTPipeline.from_pretrained(repository.repo_id, variant=HALF, **where)
            require_same(DiffusionCTPipeline.from_pretrained(folder), plain, "what was loaded back")
            require_same(DiffusionCTPipeline.from_pretrained(folder, variant=HALF), half, f"its variant {HALF}")
        except (ValueError, OSError) as error:
            uploaded = f"commit {commit} of {repository.repo_id}, {repository.state}, is not the checkpoint"
            raise ValueError(f"{uploaded}: {error}") from error


def local_checkpoint(checkpoint: str | Path) -> Path:
    """A path that is a folder with a pipeline.

    Raises:
        ValueError: If it is not.
    """
    path = Path(checkpoint)
    if not (path / DiffusionCTPipeline.config_name).is_file():
        legal = f"a folder with {DiffusionCTPipeline.config_name}, as save_pretrained and training write it"
        raise ValueError(f'`checkpoint` is "{checkpoint}"; legal is {legal}.')
    return path
