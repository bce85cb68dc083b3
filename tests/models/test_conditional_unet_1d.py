import pytest
import torch

from diffusionct_pipeline.models import ConditionalUNet1DModel

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = ConditionalUNet1DModel(4, (16, 32), layers_per_block=1, head_channels=16)
    torch.nn.init.normal_(model.conv_out.weight, std=0.1)  # zero at first
    return model.eval()


def inputs(length, batch=2):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(batch, 4, length), 10, draw(batch, 4, length)


class TestConditionalUNet1DModel:
    @pytest.mark.parametrize("length", [1, 2, 7, 16, 33])
    def test_any_length(self, model, length):
        noisy, timestep, latent_a = inputs(length)
        assert model(noisy, timestep, latent_a).sample.shape == (2, 4, length)

    @pytest.mark.parametrize("changed", range(3))
    def test_every_input_counts(self, model, changed):
        before = list(inputs(8))
        after = list(before)
        after[changed] = after[changed] + 1
        assert (model(*before).sample - model(*after).sample).abs().max() > 1e-4

    def test_every_residual_block_sees_the_time(self, model):
        layers = [layer for group in [*model.down_blocks, model.mid_block, *model.up_blocks] for layer in group]
        assert len(layers) == 6
        seen = []
        hooks = [layer.register_forward_hook(lambda _, args, __: seen.append(args[1])) for layer in layers]
        model(*inputs(8))
        for hook in hooks:
            hook.remove()
        assert len(seen) == 6 and all(torch.equal(one, seen[0]) for one in seen)

    def test_one_timestep_each_or_one_for_all(self, model):
        noisy, _, latent_a = inputs(8)
        each = model(noisy, torch.tensor([10, 10]), latent_a).sample
        torch.testing.assert_close(model(noisy, 10, latent_a).sample, each)


def test_defaults_run():
    model = ConditionalUNet1DModel()
    noisy = torch.zeros(1, 32, 256)
    assert model(noisy, 0, noisy).sample.shape == noisy.shape
