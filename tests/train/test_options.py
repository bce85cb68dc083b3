import pytest
from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, parse_options


def test_every_field_is_an_option():
    options = parse_options(AutoencoderOptions, argv=["--batch-size", "4", "--objects", "a", "b", "--paper-literal"])
    assert (options.batch_size, options.objects, options.paper_literal) == (4, ["a", "b"], True)


def test_snake_case_is_understood_too():
    options = parse_options(AutoencoderOptions, argv=["--batch_size=4", "--objects", "my_folder", "--no-cpu"])
    assert (options.batch_size, options.objects, options.cpu) == (4, ["my_folder"], False)


@pytest.mark.parametrize("cls", [AutoencoderOptions, LatentOptions])
def test_help_explains_every_option(cls, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(cls, argv=["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.count("(default:") == len(cls.__dataclass_fields__)


@pytest.mark.parametrize("wrong", [["--batch-size", "3"], ["--crop", "100"], ["--max-steps", "0"], ["--no-such", "1"]])
def test_wrong_usage_exits_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(AutoencoderOptions, argv=wrong)
    assert stop.value.code == 2
    assert wrong[0].lstrip("-") in capsys.readouterr().err.replace("_", "-")


def test_scans_of_objects_need_objects(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(LatentOptions, argv=["--stored-object-scans", "1"])
    assert stop.value.code == 2 and "objects" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cls", "together"),
    [
        (AutoencoderOptions, {"init": "folder", "latent_channels": 8}),
        (AutoencoderOptions, {"paper_literal": True, "rings": 8}),
        (AutoencoderOptions, {"skip_mode": "none"}),
        (LatentOptions, {"stored_scans": 2, "stored_pairs": 8}),
        (LatentOptions, {"stored_scans": 2, "crop": 256}),
        (LatentOptions, {"scan_size": 256}),
        (LatentOptions, {"fixed_target": True, "style_only": True}),
        (LatentOptions, {"paper_literal": True, "beta_schedule": "sigmoid"}),
        (LatentOptions, {"init": "folder", "block_out_channels": [32]}),
    ],
)
def test_options_that_would_override_others_in_silence_are_refused(cls, together):
    with pytest.raises(ValueError, match="no effect|needs") as error:
        cls(**together)
    assert any(name in str(error.value) for name in together)


def test_paper_literal_stands_for_the_papers_choices():
    options = LatentOptions(paper_literal=True)
    assert (options.fixed_target, options.prediction_type, options.beta_schedule) == (True, "epsilon", "linear")
    assert AutoencoderOptions(paper_literal=True).loss_weights == {"l2": 1.0}


def test_losses_are_weighted_by_name():
    assert AutoencoderOptions(losses=["l2=1", "filter-spectrum=0.2"]).loss_weights == {"l2": 1.0, "filter_spectrum": 0.2}
    with pytest.raises(ValueError, match="spectrum=0.4"):
        AutoencoderOptions(losses=["l2=much"])
