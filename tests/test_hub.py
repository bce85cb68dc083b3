"""Checkpoints load from a Hub, with diffusers' own class too: the real huggingface_hub client against a local server.

The client reads its settings when it is imported, therefore each of these runs in a process of its own.
"""

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers.hub_server import environment, serve
from helpers.tiny import tiny_pipeline

import diffusionct_pipeline

# What every process starts with: `digest(pipe)` stands for the output of a pipeline.
PREAMBLE = """
import hashlib, json, os
import numpy as np

def digest(pipe):
    pipe.set_progress_bar_config(disable=True)
    hu = np.random.default_rng(0).normal(0, 200, (64, 64)).astype(np.float32)
    return hashlib.sha256(pipe(hu, pixel_spacing=0.7).images[0].tobytes()).hexdigest()

found = {}
"""


@pytest.fixture(scope="module")
def hub():
    with serve() as hub:
        yield hub


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def client(hub, checkpoint):
    """Runs code in a fresh process whose Hub is the local server; returns what it put into `found`."""

    def run(code, cache, **settings):
        variables = environment(hub, cache, CHECKPOINT=str(checkpoint), **settings)
        whole = PREAMBLE + textwrap.dedent(code) + "\nprint(json.dumps(found))"
        command = [sys.executable, "-c", whole]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def published(client, tmp_path_factory):
    """The checkpoint as a folder, pushed, loaded back with our own class: in one process, imports take seconds."""
    return client(
        """
        from huggingface_hub import snapshot_download
        from diffusionct_pipeline import DiffusionCTPipeline

        pipe = DiffusionCTPipeline.from_pretrained(os.environ["CHECKPOINT"])
        found["folder"] = digest(pipe)
        pipe.push_to_hub("user/tiny")
        found["by name"] = digest(DiffusionCTPipeline.from_pretrained("user/tiny"))
        found["snapshot"] = digest(DiffusionCTPipeline.from_pretrained(snapshot_download("user/tiny")))
        try:
            DiffusionCTPipeline.from_pretrained("user/absent")
        except Exception as error:
            found["error"] = str(error)
        """,
        cache=tmp_path_factory.mktemp("cache"),
    )


class TestHub:
    def test_push_uploads_the_whole_checkpoint(self, hub, published, checkpoint):
        repository = hub.repos["user/tiny"]
        files = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
        assert files <= set(repository)
        weights = [name for name in files if name.endswith(".safetensors")]
        assert len(weights) == 2
        for name in weights:
            assert repository[name] == (checkpoint / name).read_bytes()

    def test_our_class_loads_by_name(self, published):
        assert published["by name"] == published["folder"]

    def test_a_snapshot_is_a_checkpoint_folder(self, published):
        assert published["snapshot"] == published["folder"]

    def test_an_unknown_name_says_so(self, published):
        assert "user/absent" in published["error"]

    def test_diffusers_own_class_finds_ours_online_and_offline_in_any_order_of_import(
        self, hub, client, published, tmp_path
    ):
        load = 'found["loaded"] = digest(DiffusionPipeline.from_pretrained("user/tiny"))'
        ours_first = f"import diffusionct_pipeline\nfrom diffusers import DiffusionPipeline\n{load}"
        diffusers_first = f"from diffusers import DiffusionPipeline\nimport diffusionct_pipeline\n{load}"
        assert client(ours_first, cache=tmp_path)["loaded"] == published["folder"]
        before = len(hub.requests)
        assert client(diffusers_first, cache=tmp_path, HF_HUB_OFFLINE="1")["loaded"] == published["folder"]
        assert len(hub.requests) == before


class TestRegistration:
    def test_every_public_name_is_there(self):
        for name in set(diffusionct_pipeline.__all__) - {"__version__"}:
            assert getattr(diffusionct_pipeline, name).__name__ == name
        with pytest.raises(AttributeError, match="no_such_name"):
            diffusionct_pipeline.no_such_name  # noqa: B018

    def test_editors_see_the_names_that_are_imported_on_first_use(self):
        tree = ast.parse(Path(diffusionct_pipeline.__file__).read_text())
        guarded = next(node for node in tree.body if isinstance(node, ast.If))
        assert ast.unparse(guarded.test) == "TYPE_CHECKING"
        names = [alias.name for node in guarded.body for alias in node.names]
        assert sorted(names) == sorted(diffusionct_pipeline._HOMES)
        assert {*names, "__version__"} == set(diffusionct_pipeline.__all__)

    def test_the_index_names_the_package_not_a_file(self, checkpoint):
        index = (Path(checkpoint) / "model_index.json").read_text()
        assert '"_class_name": "DiffusionCTPipeline"' in index
        assert index.count('"diffusionct_pipeline"') == 2
