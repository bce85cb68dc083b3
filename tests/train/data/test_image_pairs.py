import pytest
import torch

from diffusionct_pipeline.models.texture.frequency import radial_frequency
from diffusionct_pipeline.simulation import mtf
from diffusionct_pipeline.train.data.image_pairs import PairGenerator
from diffusionct_pipeline.train.data.objects import TrainingObject, load_objects, save_objects


def draw(batch=4, seed=0, objects=(), **options):
    return PairGenerator(objects, 64, **options)(batch, torch.Generator().manual_seed(seed))


class TestPairGenerator:
    def test_shapes_and_range(self):
        pairs = draw()
        assert pairs.a.shape == pairs.b.shape == (4, 1, 64, 64)
        assert pairs.a.isfinite().all() and pairs.b.isfinite().all()
        assert ((pairs.spacing >= 0.4) & (pairs.spacing <= 1.0)).all()

    def test_same_seed_same_pairs(self):
        first, again, other = draw(seed=1), draw(seed=1), draw(seed=2)
        assert torch.equal(first.a, again.a) and torch.equal(first.b, again.b)
        assert not torch.equal(first.a, other.a)

    def test_any_number_of_pairs(self):
        assert draw(batch=3).b.shape == (3, 1, 64, 64)

    def test_both_sides_show_the_same_object(self, monkeypatch):
        monkeypatch.setattr(PairGenerator, "_noise", lambda self, spacing, dose, frequency: 0.0)
        pairs = draw(seed=3)
        low = torch.nn.functional.avg_pool2d
        a, b = low(pairs.a, 16).flatten(), low(pairs.b, 16).flatten()
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.99
        assert not torch.equal(pairs.a, pairs.b)

    def test_no_kernel_drowns_the_object(self):
        """The table has kernels for detectors of a tenth of a millimetre, under which this scan would be all noise."""
        pairs = draw(batch=48, seed=4)
        alike = [torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item() for a, b in zip(pairs.a, pairs.b)]
        assert min(alike) > 0.3 and sorted(alike)[4] > 0.6

    def test_noise_is_uneven_and_has_the_level_of_a_scan(self):
        """18 HU with Br40 in 20 cm of water at 200 mAs (dose 1), on the whole; otherwise here than there."""
        generator = PairGenerator([], 128)
        generator.g = torch.Generator().manual_seed(5)
        spacing = torch.full((8,), 0.35)
        frequency = radial_frequency(generator.fine, generator.fine, spacing)[:, None]
        noise = generator._noise(spacing, torch.ones(8), frequency) * mtf(frequency, "Br40")
        noise = torch.fft.irfft2(noise, s=(generator.fine, generator.fine))
        assert 14 < noise.std((1, 2, 3)).median() < 26
        local = noise.unfold(2, 48, 48).unfold(3, 48, 48).std((4, 5)).flatten(1)
        assert (local.amax(1) / local.amin(1)).median() > 1.3

    def test_standard_share(self):
        assert draw(standard_share=1.0).standard.all()
        assert not draw(standard_share=0.0).standard.any()

    def test_objects_are_used(self):
        bright = TrainingObject(torch.full((256, 256), 2000, dtype=torch.int16), 0.7)
        assert max(draw(8, seed, [bright]).a.max().item() for seed in range(3)) > 4.0  # (2000 + 150) / 500 = 4.3


def test_packs_keep_their_slices(tmp_path):
    objects = [TrainingObject(torch.randint(-1000, 400, (8, 8), dtype=torch.int16), 0.7 + 0.1 * i) for i in range(2)]
    save_objects(objects, tmp_path / "pack.npz")
    for before, after in zip(objects, load_objects([tmp_path / "pack.npz"]), strict=True):
        assert torch.equal(before.hu, after.hu) and after.spacing_mm == pytest.approx(before.spacing_mm)


def test_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no CT slice"):
        load_objects([tmp_path])
