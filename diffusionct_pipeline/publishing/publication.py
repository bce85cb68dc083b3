"""Publish a checkpoint: only what loads is uploaded, and only what was loaded back and compared is made public."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from diffusers.pipelines.pipeline_utils import DiffusionPipeline

from ..pipeline import DiffusionCTPipeline
from ..utils.stages import stage
from .card import write_card
from .comparing import require_same
from .contents import HALF, write_contents
from .hub import Repository, require_repo_id
from .private_text import require_no_private_text


@dataclass(frozen=True)
class Publication:
    """Result of `publish`.

    Attributes:
        repo_id: "user/repo".
        commit: Commit that was uploaded and loaded back.
        url: Address of its files.
        private: Whether the repository is private.
    """

    repo_id: str
    commit: str
    url: str
    private: bool


def prepare(checkpoint: str | Path, folder: str | Path, repo_id: str, license: str | None = None) -> None:
    """Write the files that `publish` uploads, load them, and compare them with the checkpoint.

    Args:
        checkpoint: Folder of a pipeline, as written by training, `export_checkpoint` or `save_pretrained`; only read.
        folder: Existing, empty output folder.
        repo_id: "user/repo", which the card names.
        license: The Hub's name of a licence, such as "apache-2.0"; None takes that of the checkpoint's card.

    Raises:
        ValueError: if `repo_id` is invalid, the checkpoint is incomplete, no licence is known, or a text holds a path or a
            token.
        OSError: if a file cannot be read or written.
    """
    require_repo_id(repo_id)
    source = DiffusionCTPipeline.from_pretrained(local_checkpoint(checkpoint))
    write_contents(checkpoint, folder)
    write_card(folder, repo_id, license)
    require_no_private_text(folder)
    stage("comparing what would be uploaded with the checkpoint")
    require_same(source, DiffusionCTPipeline.from_pretrained(folder), "the folder to upload")
    DiffusionCTPipeline.from_pretrained(folder, variant=HALF)  # must load complete and finite: float16 ends at 65504


def publish(
    checkpoint: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str = "main",
    license: str | None = None,
) -> Publication:
    """Upload a checkpoint to the Hub in one commit, load it into an empty cache, and compare.

    A new repository is private until the comparison has passed. The token is that of the Hub's client: HF_TOKEN, or the one
    that `hf auth login` stored.

    Args:
        checkpoint: As in `prepare`.
        repo_id: "user/repo". It may be new, empty, or hold a DiffusionCT checkpoint, whose files are replaced.
        private: Whether a new repository stays private.
        revision: Branch; it is created if needed.
        license: As in `prepare`.

    Raises:
        ValueError: as `prepare`; if there is no token; if the repository holds other contents, or is public although
            `private` is given; or if what was loaded back differs from the checkpoint.
        OSError: if the Hub cannot be reached or refuses.
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
    """Load a commit into an empty cache, as a user would, and compare it with the folder that was uploaded.

    Raises:
        ValueError: naming the difference and the state of the repository.
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
    """Return the path of a folder that holds a pipeline.

    Raises:
        ValueError: if it does not.
    """
    path = Path(checkpoint)
    if not (path / DiffusionCTPipeline.config_name).is_file():
        wanted = f"a folder with {DiffusionCTPipeline.config_name}, as save_pretrained and training write it"
        raise ValueError(f'`checkpoint` must be {wanted}, got "{checkpoint}".')
    return path
