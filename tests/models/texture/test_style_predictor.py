import pytest
import torch
from diffusionct_pipeline.models import StylePredictor


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def inputs(length=6, batch=3):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(batch, 4, length), draw(batch, 4), torch.tensor([0.5, 0.7, 0.9]), draw(batch, 4)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = StylePredictor(4, rings=2, hidden=16, heads=2)
    torch.nn.init.normal_(model.change[-1].weight)  # zero at first
    return model


def test_untrained_goes_halfway_to_the_reference():
    latent_a, source, spacing, reference = inputs()
    torch.testing.assert_close(StylePredictor(4, rings=2)(latent_a, source, spacing, reference), (source + reference) / 2)


def test_goes_no_way_to_a_reference_of_the_same_style(model):
    """What is left is what the network adds, which the reference does not scale."""
    latent_a, source, spacing, _ = inputs()
    model.change[-1].weight.data[4:] = 0
    torch.testing.assert_close(model(latent_a, source, spacing, source), source)


@pytest.mark.parametrize("changed", range(4))
def test_every_input_counts(model, changed):
    before = list(inputs())
    after = list(before)
    after[changed] = after[changed] + 1
    assert (model(*before) - model(*after)).abs().min(1).values.min() > 1e-6


def test_order_of_the_positions_does_not_count(model):
    latent_a, source, spacing, reference = inputs()
    torch.testing.assert_close(model(latent_a.flip(2), source, spacing, reference), model(latent_a, source, spacing, reference))


def test_the_standard_stands_in_for_a_reference(model):
    latent_a, source, spacing, reference = inputs()
    model.standard.copy_(reference[0])
    torch.testing.assert_close(model(latent_a, source, spacing), model(latent_a, source, spacing, reference[:1]))


def test_predict_takes_the_power_of_a_reference_as_it_is_where_noise_dominates(model):
    latent_a, source, spacing, reference = inputs()
    predicted, style = model(latent_a, source, spacing, reference), model.predict(latent_a, source, spacing, reference)
    # Channels: weight of the pool, power at 0 lp/cm, power at 12 lp/cm, features.
    torch.testing.assert_close(style[:, [0, 1, 3]], predicted[:, [0, 1, 3]])
    share = model.config.reference_share
    torch.testing.assert_close(style[:, 2], (1 - share) * predicted[:, 2] + share * reference[:, 2])


def test_predict_without_a_reference_is_what_the_network_says(model):
    latent_a, source, spacing, _ = inputs()
    torch.testing.assert_close(model.predict(latent_a, source, spacing), model(latent_a, source, spacing))
