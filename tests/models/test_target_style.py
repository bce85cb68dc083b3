import pytest
import torch
from diffusionct_pipeline.models.target_style import TargetStyle


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def inputs(length=6, batch=3):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(batch, 4, length), draw(batch, 4), draw(batch, 4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TargetStyle(4, hidden=16, heads=2)
    torch.nn.init.normal_(model.change[-1].weight)  # zero at first
    return model


def test_untrained_keeps_the_style_of_the_source():
    latent_a, source, reference = inputs()
    torch.testing.assert_close(TargetStyle(4)(latent_a, source, reference), source)


@pytest.mark.parametrize("changed", range(3))
def test_every_input_counts(model, changed):
    before = list(inputs())
    after = list(before)
    after[changed] = after[changed] + 1
    assert (model(*before) - model(*after)).abs().min(1).values.min() > 1e-6


def test_order_of_the_positions_does_not_count(model):
    latent_a, source, reference = inputs()
    torch.testing.assert_close(model(latent_a.flip(2), source, reference), model(latent_a, source, reference))


def test_the_standard_stands_in_for_a_reference(model):
    latent_a, source, reference = inputs()
    model.standard.copy_(reference[0])
    torch.testing.assert_close(model(latent_a, source), model(latent_a, source, reference[:1]))
