"""Publishing to a Hub: the real huggingface_hub client against a local server, in processes of their own."""

import json
import subprocess
import sys
import textwrap

import pytest
from helpers.hub_server import READER, environment, serve
from helpers.tiny import tiny_pipeline

WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"

# `publish(...)` is the command; imports take seconds, therefore a process publishes many times.
PREAMBLE = """
import contextlib, io, json, os
from diffusionct_pipeline.commands._main import main

def publish(*arguments, **settings):
    os.environ.update(settings)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["publish", os.environ["CHECKPOINT"], *arguments])
    lines = [line for line in err.getvalue().splitlines() if "error: " in line]
    return {"code": code, "out": out.getvalue(), "error": lines[-1] if lines else ""}

found = {}
"""


@pytest.fixture(scope="module")
def hub():
    with serve() as hub:
        hub.repos["user/other"] = {".gitattributes": b"", "train.py": b"pass"}
        hub.repos["user/foreign"] = {"model_index.json": b'{"_class_name": "StableDiffusionPipeline"}'}
        hub.repos["user/card"] = {".gitattributes": b"", "README.md": b"---\nlicense: mit\n---\n"}
        yield hub


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_pipeline().save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    return folder


@pytest.fixture(scope="module")
def client(hub, checkpoint, tmp_path_factory):
    """Runs code in a fresh process whose Hub is the local server; returns what it put into `found`."""

    def run(code, preamble=PREAMBLE):
        variables = environment(hub, tmp_path_factory.mktemp("cache"), CHECKPOINT=str(checkpoint))
        whole = preamble + textwrap.dedent(code) + "\nprint(json.dumps(found))"
        done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, env=variables, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def published(client, hub):
    """Everything that goes well, and the repositories after it."""
    hub.repos["user/earlier"] = {
        "model_index.json": b'{"_class_name": "DiffusionCTPipeline"}',
        "denoiser/diffusion_pytorch_model-00001-of-00002.safetensors": b"\0",
        "picture.png": b"\0",
    }
    return client(
        """
        found["new"] = publish("user/new")
        found["private"] = publish("user/private", "--private")
        found["branch"] = publish("user/new", "--revision", "v2", "--license", "mit")
        found["earlier"] = publish("user/earlier")
        found["card"] = publish("user/card")
        """
    )


@pytest.fixture(scope="module")
def refused(client, hub, published):
    hub.damaged.add("denoiser/diffusion_pytorch_model.fp16.safetensors")
    before = {name: dict(files) for name, files in hub.repos.items()}
    found = client(
        f"""
        found["damaged"] = publish("user/damaged")
        found["other"] = publish("user/other")
        found["foreign"] = publish("user/foreign")
        found["public"] = publish("user/new", "--private")
        found["name"] = publish("nobody")
        found["reader"] = publish("user/unwritten", HF_TOKEN="{READER}")
        found["token"] = publish("user/new", HF_TOKEN="hf_wrong")
        found["no token"] = publish("user/new", HF_TOKEN="")
        """
    )
    hub.damaged.clear()
    assert {name: files for name, files in hub.repos.items() if name != "user/damaged"} == before
    return found


class TestPublish:
    def test_is_done_and_says_where(self, published, hub):
        assert [done["code"] for done in published.values()] == [0] * len(published), published
        assert f"{hub.url}/user/new/tree/main" in published["new"]["out"]
        assert "(public)" in published["new"]["out"] and "(private)" in published["private"]["out"]
        assert "weights and a standardized slice are the same" in published["new"]["out"]

    def test_uploads_weights_byte_for_byte(self, published, hub, checkpoint):
        for repository in ("user/new", "user/private", "user/card"):
            assert hub.repos[repository][WEIGHTS] == (checkpoint / WEIGHTS).read_bytes()

    def test_a_new_repository_becomes_public_unless_it_is_to_be_private(self, published, hub):
        assert hub.private == {"user/private"}

    def test_a_branch_leaves_main_alone(self, published, hub):
        assert b"license: apache-2.0" in hub.repos["user/new"]["README.md"]
        assert b"license: mit" in hub.branches["user/new", "v2"]["README.md"]

    def test_replaces_the_components_of_an_earlier_one_and_nothing_else(self, published, hub):
        names = set(hub.repos["user/earlier"])
        assert WEIGHTS in names and "picture.png" in names and not any("00001" in name for name in names)

    def test_plain_diffusers_loads_it_without_a_flag(self, published, client):
        found = client(
            """
            import json, os
            from pathlib import Path
            import diffusionct_pipeline
            from diffusers import DiffusionPipeline
            from safetensors.torch import load_file

            found = {}
            for revision in ("main", "v2"):
                pipe = DiffusionPipeline.from_pretrained("user/new", revision=revision)
                found[revision] = [type(pipe).__name__]
                for component in ("autoencoder", "denoiser"):
                    (path,) = Path(os.environ["CHECKPOINT"], component).glob("*.safetensors")
                    weights, loaded = load_file(path), getattr(pipe, component).state_dict()
                    equal = [bool((weights[name] == loaded[name]).all()) for name in weights]
                    found[revision] += [weights.keys() == loaded.keys(), all(equal)]
            """,
            preamble="",
        )
        assert found == {revision: ["DiffusionCTPipeline", *[True] * 4] for revision in ("main", "v2")}


class TestRefused:
    @pytest.mark.parametrize(
        ("case", "words"),
        [
            ("damaged", ["of user/damaged, which is private, is not the checkpoint: ", "its variant fp16"]),
            ("other", ["user/other holds other contents", "train.py", "must be a new or empty repository"]),
            ("foreign", ["user/foreign holds other contents", "model_index.json"]),
            ("public", ["`private` must not be given", "user/new is public"]),
            ("name", ['`repo_id` must be "user/repo"', 'got "nobody"']),
            ("reader", ["user/unwritten", "no write access", "HF_TOKEN"]),
            ("token", ["user/new", "the token was rejected", "HF_TOKEN"]),
            ("no token", ["there is no token", "HF_TOKEN"]),
        ],
    )
    def test_in_one_line_that_says_what_to_do(self, refused, case, words):
        assert refused[case]["code"] == (2 if case == "name" else 1)
        assert [word for word in words if word not in refused[case]["error"]] == [], refused[case]

    def test_what_does_not_load_back_is_never_public(self, refused, hub):
        assert "user/damaged" in hub.private and "user/unwritten" not in hub.repos
