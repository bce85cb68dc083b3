import pytest

from diffusionct_pipeline.comparison.training import SystemOptions
from diffusionct_pipeline.train import (
    AutoencoderOptions,
    LatentOptions,
    LiteralAutoencoderOptions,
    LiteralLatentOptions,
    parse_options,
)

ALL = [AutoencoderOptions, LatentOptions, LiteralAutoencoderOptions, LiteralLatentOptions, SystemOptions]


def test_every_field_is_an_option():
    options = parse_options(LiteralAutoencoderOptions, argv=["--batch-size", "4", "--objects", "a", "b", "--cpu"])
    assert (options.batch_size, options.objects, options.cpu) == (4, ["a", "b"], True)


def test_snake_case_is_understood_too():
    options = parse_options(AutoencoderOptions, argv=["--batch_size=4", "--scans", "my_folder", "--no-cpu"])
    assert (options.batch_size, options.scans, options.cpu) == (4, "my_folder", False)


@pytest.mark.parametrize("cls", ALL)
def test_help_explains_every_option(cls, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(cls, argv=["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.count("(default:") == len(cls.__dataclass_fields__)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (AutoencoderOptions, ["--batch-size", "0"]),
        (AutoencoderOptions, ["--max-steps", "0"]),
        (AutoencoderOptions, ["--ema-decay", "1"]),
        (AutoencoderOptions, ["--groups", "-1"]),
        (AutoencoderOptions, ["--standard-share", "1.5"]),
        (AutoencoderOptions, ["--no-such", "1"]),
        (LatentOptions, ["--last-step-share", "2"]),
        (LatentOptions, ["--part", "diffusion"]),
        (LatentOptions, ["--part", "everything"]),
        (LiteralAutoencoderOptions, ["--crop", "100"]),
        (LiteralLatentOptions, ["--crop", "32"]),
        (SystemOptions, ["--system", "encoder-decoder"]),
        (SystemOptions, ["--system", "pix2pix", "--weight-decay", "0.1"]),
        (SystemOptions, ["--system", "pix2pix", "--network", "base_channels"]),
        (SystemOptions, ["--system", "band energies", "--network", "base_channels=8"]),
    ],
)
def test_wrong_usage_exits_with_2(cls, wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(cls, argv=wrong)
    assert stop.value.code == 2
    assert wrong[-2].lstrip("-") in capsys.readouterr().err.replace("_", "-")


@pytest.mark.parametrize(
    ("cls", "together"),
    [
        (AutoencoderOptions, {"init": "folder", "rings": 8}),
        (LatentOptions, {"init": "folder", "block_out_channels": [32]}),
        (LatentOptions, {"init": "folder", "standard_tokens": 8}),
        (LiteralAutoencoderOptions, {"init": "folder", "latent_channels": 8}),
        (LiteralAutoencoderOptions, {"init": "folder", "imagenet": "user/repo"}),
    ],
)
def test_options_that_would_override_others_in_silence_are_refused(cls, together):
    with pytest.raises(ValueError, match="no effect") as error:
        cls(**together)
    assert any(name in str(error.value) for name in together)


def test_losses_are_weighted_by_name():
    assert LiteralAutoencoderOptions().loss_weights == {"l2": 1.0}  # the paper's
    assert LiteralAutoencoderOptions(losses=["l2=1", "spectrum=0.2"]).loss_weights == {"l2": 1.0, "spectrum": 0.2}
    with pytest.raises(ValueError, match="spectrum=0.4"):
        LiteralAutoencoderOptions(losses=["l2=much"])


def test_a_systems_recipe_stands_where_nothing_is_said():
    plain = SystemOptions(system="GANai")
    assert (plain.crop, plain.batch_size, plain.learning_rate, plain.max_grad_norm) == (256, 1, 2e-4, 0)
    said = SystemOptions(system="GANai", crop=128, batch_size=4, network=["base_channels=32", "downs=7"])
    assert (said.crop, said.batch_size) == (128, 4) and said.network_arguments == {"base_channels": 32, "downs": 7}
