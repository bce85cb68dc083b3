import json

import torch
from helpers.tiny import tiny_pipeline
from safetensors.torch import load_file

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.train.export import export_checkpoint


def test_exported_checkpoint_is_half_the_size_and_loads(tmp_path):
    pipe = tiny_pipeline()
    pipe.save_pretrained(tmp_path / "trained")
    card = tmp_path / "card.md"
    card.write_text("# Card")
    size = export_checkpoint(tmp_path / "trained", tmp_path / "exported", card=card, metrics={"scores": {}})
    assert size == sum(path.stat().st_size for path in (tmp_path / "exported").rglob("*") if path.is_file())
    folders = {"autoencoder": pipe.autoencoder, "denoiser": pipe.denoiser}
    for folder, model in folders.items():
        weights = load_file(tmp_path / "exported" / folder / "diffusion_pytorch_model.safetensors")
        exact = {name for name, weight in weights.items() if weight.dtype == torch.float32}
        kept = set(model._keep_in_fp32_modules or ())
        assert exact == {name for name in weights if kept & set(name.split("."))}
    loaded = DiffusionCTPipeline.from_pretrained(tmp_path / "exported")
    for name, model in folders.items():
        for before, after in zip(model.parameters(), getattr(loaded, name).parameters(), strict=True):
            torch.testing.assert_close(before, after, atol=1e-3, rtol=1e-3)
    texts = [path.read_text() for path in (tmp_path / "exported").rglob("*.json")]
    assert texts and not any(str(tmp_path) in text for text in texts)
    assert json.loads((tmp_path / "exported" / "metrics.json").read_text()) == {"scores": {}}
