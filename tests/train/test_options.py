import pytest
from diffusionct_pipeline.train import AutoencoderOptions, LatentOptions, parse_options


def test_every_field_is_an_option():
    options = parse_options(AutoencoderOptions, argv=["--batch_size", "4", "--objects", "a", "b", "--paper_literal"])
    assert (options.batch_size, options.objects, options.paper_literal) == (4, ["a", "b"], True)


@pytest.mark.parametrize("cls", [AutoencoderOptions, LatentOptions])
def test_help_explains_every_option(cls, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(cls, argv=["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert text.count("(default:") == len(cls.__dataclass_fields__)


@pytest.mark.parametrize("wrong", [["--batch_size", "3"], ["--crop", "100"], ["--max_steps", "0"], ["--no_such", "1"]])
def test_wrong_usage_exits_with_2(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(AutoencoderOptions, argv=wrong)
    assert stop.value.code == 2
    assert wrong[0].lstrip("-") in capsys.readouterr().err


def test_scans_of_objects_need_objects(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_options(LatentOptions, argv=["--stored_object_scans", "1"])
    assert stop.value.code == 2 and "objects" in capsys.readouterr().err
