"""A model repository on the Hub, accessed by the Hub's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, constants, get_token, hf_hub_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import validate_repo_id

from ..pipeline import DiffusionCTPipeline
from .contents import CARD, COMPONENTS

EMPTY = {".gitattributes", CARD}  # files that the Hub itself adds to a new repository
LOGIN = "set HF_TOKEN to a token with write access, or log in once with `hf auth login`"
REASONS = {401: f"the token was rejected; {LOGIN}", 403: f"the token has no write access; {LOGIN}"}


class Repository:
    """One branch of one repository.

    Args:
        repo_id: "user/repo".
        branch: Name of the branch.

    Attributes:
        made_here: Whether `open` created it, private for now.
        private: Whether it is private, once `open` has found or created it.

    Raises:
        ValueError: if the name is not of that form, or there is no token.
    """

    def __init__(self, repo_id: str, branch: str = "main"):
        require_repo_id(repo_id)
        token = get_token()
        if not token:
            raise ValueError(f"there is no token for {constants.ENDPOINT}; {LOGIN}.")
        self.repo_id, self.branch = repo_id, branch
        self.api = HfApi(token=token)
        self.url = f"{constants.ENDPOINT}/{repo_id}"
        self.made_here, self.private = False, False

    @property
    def state(self) -> str:
        """State of the repository after a failure, in words."""
        return "which is private" if self.private else f"on its branch {self.branch}"

    def open(self, private: bool) -> None:
        """Find the repository, or create it, private for now; create the branch if needed.

        Raises:
            ValueError: if it holds anything but an earlier publication, or is public although `private` is requested.
            OSError: if the Hub refuses.
        """
        with self.named_errors():
            self.api.whoami()
            try:
                self.private = bool(self.api.model_info(self.repo_id).private)
            except RepositoryNotFoundError:
                self.api.create_repo(self.repo_id, private=True)
                self.made_here, self.private = True, True
            if private and not self.private:
                raise ValueError(
                    f"`private` must not be given, as {self.repo_id} is public; make it private on the Hub first."
                )
            self.require_ours()
            if self.branch != "main":
                self.api.create_branch(self.repo_id, branch=self.branch, exist_ok=True)

    def require_ours(self) -> None:
        """Refuse a repository with other contents.

        Raises:
            ValueError: naming one of its files.
        """
        try:
            info = self.api.model_info(self.repo_id, revision=self.branch)
        except RevisionNotFoundError:  # the branch starts as a copy of main
            info = self.api.model_info(self.repo_id)
        files = {sibling.rfilename for sibling in info.siblings or ()}
        if files <= EMPTY or self.pipeline_class(files, info.sha) == DiffusionCTPipeline.__name__:
            return
        raise ValueError(
            f"`repo_id` must be a new or empty repository or one with a DiffusionCT checkpoint, but {self.repo_id} holds "
            f'other contents, such as "{min(files - EMPTY)}".'
        )

    def pipeline_class(self, files: set[str], commit: str | None) -> str | None:
        """Return the class of the pipeline in a repository; None without one."""
        if DiffusionCTPipeline.config_name not in files:
            return None
        path = hf_hub_download(self.repo_id, DiffusionCTPipeline.config_name, revision=commit, token=self.api.token)
        return json.loads(Path(path).read_text()).get("_class_name")

    def upload(self, folder: str | Path) -> str:
        """Upload a folder as the checkpoint of the branch in one commit, which removes components of an earlier one.

        Returns:
            The commit.

        Raises:
            OSError: if the Hub refuses.
        """
        with self.named_errors():
            done = self.api.upload_folder(
                repo_id=self.repo_id,
                folder_path=folder,
                revision=self.branch,
                commit_message="Publish a DiffusionCT checkpoint",
                delete_patterns=[f"{component}/*" for component in COMPONENTS],
            )
        return done.oid

    def show(self) -> None:
        """Make a repository public that was private only until it was verified."""
        if self.made_here:
            with self.named_errors():
                self.api.update_repo_settings(self.repo_id, private=False)
            self.private = False

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Turn any error of the Hub or the connection into an OSError that names the repository.

        Raises:
            OSError: naming the repository and the reason.
            ValueError: unchanged.
        """
        try:
            yield
        except (ValueError, MemoryError):
            raise
        except Exception as error:  # of requests or httpx, depending on the client's version
            status: int = getattr(getattr(error, "response", None), "status_code", 0)
            reason = REASONS.get(status) or f"{type(error).__name__}: {error}"
            raise OSError(f"{self.repo_id} on {constants.ENDPOINT}: {reason}") from error


def require_repo_id(repo_id: str) -> None:
    """Refuse an invalid repository name.

    Raises:
        ValueError: naming it.
    """
    try:
        validate_repo_id(repo_id)
        if repo_id.count("/") == 1:
            return
    except ValueError:
        pass
    raise ValueError(f'`repo_id` must be "user/repo" of letters, digits, "-", "_" and ".", got "{repo_id}".')
