"""What is uploaded: only what belongs to a checkpoint, float16 that is float16, a card the Hub can read, no secrets."""

import json
import shutil

import pytest
import torch
from helpers.tiny import tiny_pipeline
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.pipeline import PRETRAINED
from diffusionct_pipeline.publishing import prepare
from diffusionct_pipeline.publishing.comparing import require_same

WEIGHTS = "diffusion_pytorch_model"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A checkpoint with sharded weights, card and metrics, and with what a training run leaves beside them."""
    folder = tmp_path_factory.mktemp("whole")
    tiny_pipeline().save_pretrained(folder, max_shard_size="30KB")
    (folder / "README.md").write_text("---\nlicense: mit\ntags: [mine]\n---\n\n# Mine\n\nUse `from_pretrained()`.\n")
    ours = {"DDPM, 3 steps": {"CCC": 0.96, "within 15 %": 0.89}}
    systems = {"input": {"CCC": 0.25, "regions": 38}, **ours, "other": {"CCC": 1}}
    (folder / "metrics.json").write_text(json.dumps({"scores": {"test": {"Br40 to Bl64": systems}, "slices": 98}}))
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/optimizer.bin").write_bytes(b"\x80")
    (folder / "patients.txt").write_text("Doe Jane")
    return folder


@pytest.fixture
def checkpoint(whole, tmp_path):
    """A copy to change."""
    return shutil.copytree(whole, tmp_path / "checkpoint")


@pytest.fixture(scope="module")
def prepared(whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare(whole, folder, "user/tiny")
    return folder


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class TestContents:
    def test_are_the_checkpoints_and_nothing_else(self, whole, prepared):
        own = {name for name in files(whole) if not name.startswith(("checkpoints", "patients"))}
        half = {f"{component}/{WEIGHTS}.fp16.safetensors" for component in ("autoencoder", "denoiser")}
        assert files(prepared) == own | half

    def test_weights_are_copied_byte_for_byte(self, whole, prepared):
        names = [name for name in files(whole) if name.endswith(".safetensors")]
        assert len(names) > 2
        assert all((prepared / name).read_bytes() == (whole / name).read_bytes() for name in names)

    @pytest.mark.parametrize("component", ["autoencoder", "denoiser"])
    def test_float16_is_float16_but_for_what_must_be_exact(self, prepared, component):
        model = getattr(tiny_pipeline(), component)
        stored = load_file(prepared / component / f"{WEIGHTS}.fp16.safetensors")
        exact = set(model._keep_in_fp32_modules)
        assert exact and stored.keys() == model.state_dict().keys()
        for name, weight in model.state_dict().items():
            kept = exact & set(name.split("."))
            assert stored[name].dtype == (torch.float32 if kept else torch.float16), name
            assert torch.equal(stored[name], weight if kept else weight.half()), name

    def test_a_variant_that_lacks_a_weight_is_refused(self, prepared, tmp_path):
        folder = shutil.copytree(prepared, tmp_path / "damaged")
        path = folder / f"denoiser/{WEIGHTS}.fp16.safetensors"
        weights = load_file(path)
        name = min(weights)
        save_file({key: weight for key, weight in weights.items() if key != name}, path, metadata={"format": "pt"})
        DiffusionCTPipeline.from_pretrained(folder)
        with pytest.raises(ValueError, match=f"lacks '{name}'"):
            DiffusionCTPipeline.from_pretrained(folder, variant="fp16")

    def test_no_checkpoint_is_refused(self, tmp_path):
        with pytest.raises(
            ValueError, match=r"`checkpoint` must be a folder with model_index.json, .* got \".*nowhere\""
        ):
            prepare(tmp_path / "nowhere", tmp_path, "user/tiny")

    @pytest.mark.parametrize("name", ["noslash", "a/b/c", "user/my repo", "/x"])
    def test_no_name_of_a_repository_is_refused_before_anything_is_written(self, whole, tmp_path, capsys, name):
        assert main(["publish", str(whole), name, "--dry-run", str(tmp_path / "new/out")]) == 2
        assert (
            f'`repo_id` must be "user/repo" of letters, digits, "-", "_" and ".", got "{name}".'
            in capsys.readouterr().err
        )
        assert not (tmp_path / "new").exists()
        with pytest.raises(ValueError, match="`repo_id` must be"):
            prepare(whole, tmp_path, name)

    def test_weights_that_do_not_load_are_refused(self, checkpoint, tmp_path):
        path = min(checkpoint.glob("denoiser/*.safetensors"))
        path.write_bytes(path.read_bytes()[:-1])
        (tmp_path / "out").mkdir()
        with pytest.raises((ValueError, OSError), match=path.name):
            prepare(checkpoint, tmp_path / "out", "user/tiny")


class TestCard:
    def test_has_what_the_hub_reads_and_keeps_what_it_had(self, prepared):
        card = ModelCard.load(prepared / "README.md")
        data = card.data.to_dict()
        assert (data["license"], data["library_name"], data["pipeline_tag"]) == ("mit", "diffusers", "image-to-image")
        assert data["tags"][0] == "mine" and {"diffusers", "diffusionct"} <= set(data["tags"])
        assert "# Mine" in card.text and 'Use `from_pretrained("user/tiny")`.' in card.text

    def test_model_index_has_the_checkpoints_own_scores_beside_the_inputs(self, prepared):
        results = ModelCard.load(prepared / "README.md").data.eval_results
        found = {result.metric_name: result.metric_value for result in results}
        assert found == {"CCC (input: 0.25)": 0.96, "within 15 %": 0.89}

    def test_python_in_it_names_the_repository(self, prepared):
        text = (prepared / "README.md").read_text()
        assert 'DiffusionPipeline.from_pretrained("user/tiny")' in text and "Research use only" in text

    def test_of_a_published_checkpoint_does_not_grow(self, prepared, tmp_path):
        prepare(prepared, tmp_path, "user/tiny")
        assert (tmp_path / "README.md").read_text() == (prepared / "README.md").read_text()
        assert files(tmp_path) == set(files(prepared))

    def test_without_one_it_is_written_and_needs_a_licence(self, checkpoint, tmp_path, capsys):
        (checkpoint / "README.md").unlink()
        (checkpoint / "metrics.json").unlink()
        arguments = ["publish", str(checkpoint), "user/tiny", "--dry-run", str(tmp_path / "out")]
        assert main(arguments) == 1
        assert "`license` must be given" in capsys.readouterr().err
        assert main([*arguments, "--license", "apache-2.0"]) == 0
        card = ModelCard.load(tmp_path / "out/README.md")
        assert card.data.license == "apache-2.0" and card.data.eval_results is None
        assert all(word in card.text for word in ("# tiny", "TextureAutoencoder", "3 steps", "Not a medical device"))

    @pytest.mark.parametrize("name", ["README.md", "metrics.json"])
    def test_that_cannot_be_read_is_named(self, checkpoint, tmp_path, name):
        (checkpoint / name).write_text("---\n{[\n---\n")
        (tmp_path / "out").mkdir()
        with pytest.raises(ValueError, match=name):
            prepare(checkpoint, tmp_path / "out", "user/tiny")

    @pytest.mark.skipif(not (PRETRAINED / "metrics.json").is_file(), reason="no embedded checkpoint")
    def test_of_the_embedded_checkpoint_quotes_its_metrics(self, tmp_path):
        prepare(PRETRAINED, tmp_path, "user/bl64")
        steps = json.loads((PRETRAINED / "model_index.json").read_text())["default_num_inference_steps"]
        scores = json.loads((PRETRAINED / "metrics.json").read_text())["scores"]
        tables = {  # data set -> system -> score
            f"{study}: {name}": systems
            for study, data_sets in scores.items() if isinstance(data_sets, dict)
            for name, systems in data_sets.items() if isinstance(systems, dict)
        }  # fmt: skip
        expected = {
            name: (systems[f"DDPM, {steps} steps"]["CCC"], f"CCC (input: {systems['input']['CCC']:.2f})")
            for name, systems in tables.items()
            if "CCC" in systems.get(f"DDPM, {steps} steps", {})
        }
        found = {
            result.dataset_name: (result.metric_value, result.metric_name)
            for result in ModelCard.load(tmp_path / "README.md").data.eval_results or ()
            if result.metric_type == "ccc" and result.dataset_name in expected
        }
        assert found.keys() == expected.keys()
        for name, (value, text) in expected.items():
            assert found[name] == (pytest.approx(value, abs=1e-4), text)


class TestPrivateText:
    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("trained on /home/jane/scans", 'an absolute path "/home/jane/scans"'),
            (r"C:\Users\Jane", "an absolute path"),
            (r"\\server\scans", "an absolute path"),
            ("~/scans", "an absolute path"),
            ("file:///scans", "an absolute path"),
            ("hf_" + "a" * 34, "a token"),
        ],
    )
    @pytest.mark.parametrize("file", ["metrics.json", "README.md", "weights"])
    def test_is_refused_by_file_and_place(self, checkpoint, tmp_path, text, what, file):
        if file == "metrics.json":
            (checkpoint / file).write_text(json.dumps({"training": {"data": ["phantoms", text]}}))
        elif file == "README.md":
            (checkpoint / file).write_text(f"---\nlicense: mit\n---\n# Card\n\n{text}\n")
        else:
            file = str(min(checkpoint.glob("denoiser/*.safetensors")).relative_to(checkpoint))
            save_file(load_file(checkpoint / file), checkpoint / file, metadata={"format": "pt", "from": text})
        (tmp_path / "out").mkdir()
        with pytest.raises(ValueError) as caught:
            prepare(checkpoint, tmp_path / "out", "user/tiny")
        assert file in str(caught.value) and what in str(caught.value)
        assert what != "a token" or text not in str(caught.value)

    def test_urls_and_shares_are_no_paths(self, checkpoint, tmp_path):
        text = "https://example.org/a/b, CC BY/SA, 5 /cm or km/h, [x](docs/paper.md), <br/>, .91/.92/.93"
        (checkpoint / "metrics.json").write_text(json.dumps({"training": text}))
        (tmp_path / "out").mkdir()
        prepare(checkpoint, tmp_path / "out", "user/tiny")

    def test_where_the_pipeline_was_loaded_from_is_left_out(self, whole, checkpoint, tmp_path):
        DiffusionCTPipeline.from_pretrained(whole).save_pretrained(checkpoint, max_shard_size="30KB")
        assert str(whole) in (checkpoint / "denoiser/config.json").read_text()
        (tmp_path / "out").mkdir()
        prepare(checkpoint, tmp_path / "out", "user/tiny")
        assert "_name_or_path" not in (tmp_path / "out/denoiser/config.json").read_text()


class TestComparison:
    def test_names_the_weight_the_setting_and_the_class(self):
        expected, found = tiny_pipeline(), tiny_pipeline()
        require_same(expected, found, "the copy")
        found.denoiser.conv_out.bias.data[0] += 1
        with pytest.raises(ValueError, match="weight 'conv_out.bias' of the denoiser of the copy"):
            require_same(expected, found, "the copy")
        found = tiny_pipeline()
        found.scheduler.register_to_config(beta_end=0.5)
        with pytest.raises(ValueError, match="scheduler of the copy must be"):
            require_same(expected, found, "the copy")
        with pytest.raises(ValueError, match="the copy must be a DiffusionCTPipeline, got a object"):
            require_same(expected, object(), "the copy")


class TestDryRun:
    def test_writes_the_folder_and_lists_it(self, checkpoint, tmp_path, capsys):
        assert main(["publish", str(checkpoint), "user/tiny", "--dry-run", str(tmp_path / "out")]) == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in files(tmp_path / "out"))
        assert "nothing was uploaded" in printed

    def test_leaves_nothing_behind_when_it_fails(self, checkpoint, tmp_path, capsys):
        (checkpoint / "metrics.json").write_text('{"data": "/home/jane/scans"}')
        assert main(["publish", str(checkpoint), "user/tiny", "--dry-run", str(tmp_path / "out/there")]) == 1
        assert "metrics.json of the checkpoint holds an absolute path" in capsys.readouterr().err
        assert not list((tmp_path / "out").iterdir())

    def test_keeps_a_folder_that_is_not_empty(self, checkpoint, capsys):
        assert main(["publish", str(checkpoint), "user/tiny", "--dry-run", str(checkpoint)]) == 2
        assert "exists already" in capsys.readouterr().err
