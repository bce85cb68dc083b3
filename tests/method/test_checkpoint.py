"""A damaged checkpoint is refused by the name of its file or weight; nothing in one is run."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tiny import tiny_pipeline
from safetensors.torch import load_file, save_file

from diffusionct_pipeline import DiffusionCTPipeline


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint folder, its weights in shards."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_pipeline().save_pretrained(folder, max_shard_size="30KB")
    assert len(list(folder.rglob("*-of-*.safetensors"))) > 2
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to damage."""
    return shutil.copytree(whole, tmp_path / "checkpoint")


def shard(folder):
    return sorted(folder.glob("denoiser/*.safetensors"))[0]


def with_index(folder, **entries):
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def with_weights(folder, change):
    weights = load_file(shard(folder))
    name = sorted(weights)[0]
    change(weights, name)
    save_file(weights, shard(folder), metadata={"format": "pt"})
    return name


def refused(folder, *words):
    """Load, and look for the words in the message."""
    with pytest.raises((ValueError, OSError)) as caught:
        DiffusionCTPipeline.from_pretrained(folder)
    assert all(word in str(caught.value) for word in (str(folder), *words)), caught.value


class TestFiles:
    @pytest.mark.parametrize("length", [0, 5, 200, -1])
    def test_a_cut_shard(self, folder, length):
        path = shard(folder)
        path.write_bytes(path.read_bytes()[:length])
        refused(folder, path.name)

    @pytest.mark.parametrize("name", ["model_index.json", "denoiser/config.json", "scheduler/scheduler_config.json"])
    def test_cut_json(self, folder, name):
        (folder / name).write_text((folder / name).read_text()[:30])
        refused(folder, Path(name).name)

    def test_a_shard_index_that_leads_elsewhere(self, folder):
        path = next(folder.glob("denoiser/*.index.json"))
        path.write_text(json.dumps({"metadata": {}, "weight_map": {"conv_out.weight": "../../secret.safetensors"}}))
        refused(folder)

    def test_what_is_missing(self, folder):
        name = shard(folder).name
        shard(folder).unlink()
        refused(folder, name)
        shutil.rmtree(folder / "autoencoder")
        refused(folder)


class Marker:
    """Leaves a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class TestCode:
    def test_pickles_are_not_read(self, folder, tmp_path):
        for path in folder.glob("autoencoder/*model*"):
            path.unlink()
        (folder / "autoencoder/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Marker(tmp_path / "run")))
        refused(folder, "safetensors")
        with pytest.raises(ValueError, match="`use_safetensors` must be True"):
            DiffusionCTPipeline.from_pretrained(folder, use_safetensors=False)
        assert not (tmp_path / "run").exists()

    def test_nor_are_pickles_without_code(self, folder):
        for path in folder.glob("autoencoder/*model*"):
            path.unlink()
        weights = tiny_pipeline().autoencoder.state_dict()
        torch.save(weights, folder / "autoencoder/diffusion_pytorch_model.bin")
        refused(folder, "safetensors")

    @pytest.mark.parametrize(
        "entry", [["os", "system"], ["diffusers", "AutoencoderKL"], ["foreign", "Net"], [None, None], 3, ["a"], "text"]
    )
    @pytest.mark.parametrize("component", ["autoencoder", "denoiser", "scheduler"])
    def test_foreign_classes(self, folder, tmp_path, component, entry):
        for place in (folder, folder / component):
            (place / "foreign.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
        with_index(folder, **{component: entry})
        refused(folder, "model_index.json", component, "must be")
        assert not (tmp_path / "run").exists()

    def test_a_foreign_pipeline_class(self, folder, tmp_path):
        (folder / "foreign.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
        with_index(folder, _class_name=["foreign", "Pipeline"])
        refused(folder)
        assert not (tmp_path / "run").exists()


class TestWeights:
    def test_of_another_shape(self, folder):
        name = with_weights(folder, lambda weights, name: weights.update({name: torch.zeros(3, 3, 3)}))
        refused(folder, name)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_that_are_not_finite(self, folder, value):
        name = with_weights(folder, lambda weights, name: weights[name].view(-1)[:1].fill_(value))
        refused(folder, name, "denoiser")

    def test_that_are_missing(self, folder):
        name = with_weights(folder, lambda weights, name: weights.pop(name))
        refused(folder, name)

    def test_that_are_unknown(self, folder):
        path = next(folder.glob("autoencoder/*.safetensors"))
        save_file(load_file(path) | {"stranger": torch.zeros(1)}, path, metadata={"format": "pt"})
        refused(folder, "autoencoder", "stranger")


@pytest.mark.parametrize("seed", [*range(40), *(pytest.param(n, marks=pytest.mark.slow) for n in range(40, 1040))])
def test_flipped_bytes(folder, seed):
    """Refused by the name of the checkpoint, or loaded with finite weights."""
    rng = np.random.default_rng(seed)
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".safetensors")]
    path = files[seed % len(files)]
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, min(len(data), 3000), 1 + seed % 3):
        data[at] ^= 1 << rng.integers(8)
    path.write_bytes(data)
    try:
        pipe = DiffusionCTPipeline.from_pretrained(folder)
    except (ValueError, OSError) as error:
        assert str(folder) in str(error)
    else:
        assert all(weight.isfinite().all() for model in pipe.models for weight in model.state_dict().values())
