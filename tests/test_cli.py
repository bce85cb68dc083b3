"""The command line: exit codes, messages without traceback, and help that answers at once."""

import logging
import subprocess
import sys

import pytest
import torch
from helpers.dicom import make_slice, ramp, save

from diffusionct_pipeline import __version__, commands
from diffusionct_pipeline.commands._main import build_parser, main
from diffusionct_pipeline.commands._shared import ProgressBar
from diffusionct_pipeline.utils.stages import stage

COMMANDS = (
    "demo", "standardize", "app", "simulate", "features", "evaluate", "characterise", "adapt", "study", "publish", "mercure",
    "info", "plan", "merge", "serve",
)  # fmt: skip


@pytest.fixture
def scan(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    for number in (1, 2):
        save(make_slice(ramp(48, 64), number=number), folder / f"{number}.dcm")
    return folder


class TestHelp:
    def test_does_not_wait_for_torch(self):
        code = (
            "import sys; from diffusionct_pipeline.commands._main import build_parser; build_parser().format_help();"
            "print(sorted({'torch', 'diffusers', 'pydicom', 'numpy', 'matplotlib'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_each_command_has_an_example_that_parses(self, command, capsys):
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
        example = capsys.readouterr().out.split("example:\n")[1].strip()
        assert example.startswith(f"diffusionct {command}")
        assert build_parser().parse_args(example.split()[1:]).command == command

    def test_version(self, capsys):
        with pytest.raises(SystemExit):
            main(["--version"])
        assert __version__ in capsys.readouterr().out


class TestCommands:
    def test_are_listed_in_the_order_of_a_first_day(self):
        assert tuple(commands.available())[: len(COMMANDS)] == COMMANDS

    @pytest.mark.parametrize("name", commands.available())
    def test_each_explains_itself_in_a_line(self, name):
        command = commands.available()[name]
        assert command.TEXT and command.TEXT[0].islower() and "\n" not in command.TEXT and command.TEXT[-1] != "."
        assert command.EXAMPLE.startswith(f"diffusionct {name}")

    def test_a_file_alone_is_enough(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "fly_home.py").write_text(
            'TEXT = "fly home"\n'
            'EXAMPLE = "diffusionct fly-home --speed 3"\n'
            "def add_arguments(parser):\n"
            '    parser.add_argument("--speed", type=int)\n'
            "def run(options):\n"
            "    print(f'flying at {options.speed}')\n"
            "    return options.speed\n"
        )
        (tmp_path / "_helper.py").write_text("raise ImportError('a name with an underscore is no command')")
        monkeypatch.setattr(commands, "__path__", [*commands.__path__, str(tmp_path)])
        monkeypatch.delitem(sys.modules, f"{commands.__name__}.fly_home", raising=False)
        try:
            assert list(commands.available())[-1] == "fly-home", "after those of this package"
            assert "fly home" in build_parser().format_help()
            assert main(["fly-home", "--speed", "3"]) == 3
            assert "flying at 3" in capsys.readouterr().out
        finally:
            sys.modules.pop(f"{commands.__name__}.fly_home", None)


class TestProgressBar:
    def test_appears_with_the_first_call_and_counts(self, capsys, monkeypatch):
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        with ProgressBar("fly", unit="mile") as progress:
            assert progress.bar is None
            progress(0, 5)
            progress(3, 5)
            assert (progress.bar.n, progress.bar.total, progress.bar.unit) == (3, 5, "mile")
        assert "3/5" in capsys.readouterr().err

    def test_a_log_gets_a_line_at_the_start_a_minute_and_the_end(self, capsys, monkeypatch):
        clock = iter(range(10**6))
        monkeypatch.setattr("diffusionct_pipeline.commands._shared.time.monotonic", lambda: next(clock) * 0.2)
        with ProgressBar("standardize") as progress:
            for done in range(449):
                progress(done, 448)
        lines = capsys.readouterr().err.splitlines()
        assert progress.bar is None
        assert lines == ["standardize: 0 of 448 slices, 0 s", "standardize: 1 of 448 slices, 0 s, about 89 s left",
                         "standardize: 301 of 448 slices, 60 s, about 29 s left", "standardize: 448 of 448 slices, 90 s"]  # fmt: skip

    def test_says_what_is_being_done(self, capsys, caplog, monkeypatch):
        with ProgressBar("fly") as progress:
            for _ in range(2):
                stage("boarding")
            monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
            progress(0, 5)
            stage("starting the engines")
        with caplog.at_level(logging.INFO):
            stage("after the landing")
        assert caplog.messages == ["after the landing"]  # logging in Python sees stages again
        told = capsys.readouterr().err
        assert told.count("boarding") == 1 and "starting the engines" in told and "landing" not in told

    def test_that_never_appeared_closes(self):
        with ProgressBar("fly"):
            pass


class TestWrongUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["fly"],
            ["standardize"],
            ["standardize", "in"],
            ["standardize", "in", "out", "--steps", "many"],
            ["standardize", "in", "out", "--colour"],
            ["simulate", "out", "--mas", "1,2,3"],
            ["simulate", "out", "--smoothing", "Br40"],
            ["simulate", "out", "--phantoms", "0"],
            ["simulate", "out", "--thickness", "-1"],
            ["standardize", "in", "out", "--steps", "0"],
            ["standardize", "in", "out", "--batch-size", "-1"],
            ["standardize", "in", "out", "--seed", str(2**63)],
            ["standardize", "in", "out", "--slice-thickness", "nan"],
            ["standardize", "in", "out", "--noise", "loud"],
            ["characterise", "in", "--slices", "0"],
            ["app", "--port", "65536"],
            ["app", "--most-gb", "0"],
        ],
    )
    def test_exits_with_2_and_usage(self, arguments, capsys):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "usage: diffusionct" in capsys.readouterr().err

    def test_a_wrong_path_is_2_in_one_line_before_torch_is_imported(self, scan, tmp_path):
        """So that it is said at once: `--help` imports as little."""
        scan, full = str(scan), str(tmp_path)  # a folder with something in it
        lines = {
            "standardize nowhere OUT": "nowhere",
            f"standardize {scan} OUT --reference nowhere": "nowhere",
            f"standardize {scan} OUT --source nowhere.json": "nowhere.json",
            f"standardize {scan} OUT --model nowhere": "nowhere",
            f"standardize {scan} {scan}/1.dcm": "1.dcm",
            f"standardize {scan} {scan}/out": "inside",
            f"standardize {scan} OUT --target Br40 --reference {scan}": "--reference",
            "evaluate --standard nowhere --candidate b --mask c": "nowhere",
            f"evaluate --standard {scan} --candidate {scan} {scan}/nowhere --mask {scan}/1.dcm": "nowhere",
            f"evaluate --standard {scan} --candidate {scan} --mask nowhere.nii": "nowhere.nii",
            f"evaluate --standard {scan} --candidate {scan} --mask {scan}/1.dcm --out {full}": "exists already",
            "characterise nowhere": "nowhere",
            f"characterise {scan} --out {full}": "exists already",
            f"characterise {scan} --model nobody/s/model": "nobody/s/model",
            "adapt --source a --target b --out OUT": '"a"',
            f"adapt --source {scan} --target {scan} --out {full}": "exists already",
            "publish nowhere user/repo": "nowhere",
            f"demo --out {scan}/1.dcm": "1.dcm",
            f"demo --out OUT --model {scan}": "model_index.json",
            f"simulate {scan}/1.dcm": "1.dcm",
            "study --pair nowhere elsewhere": "nowhere",
            "app nowhere": "nowhere",
        }
        code = (
            "import sys; from diffusionct_pipeline.commands._main import main\n"
            "codes = [main(line.split()) for line in sys.argv[1:]]\n"
            "print(codes, sorted({'torch', 'diffusers', 'pydicom', 'numpy'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code, *lines], capture_output=True, text=True, cwd=tmp_path)
        assert done.stdout.strip() == f"{[2] * len(lines)} []", done
        said = done.stderr.splitlines()
        assert len(said) == len(lines) and all(word in line for word, line in zip(lines.values(), said)), done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["scan"]


class TestStandardize:
    def test_done_is_0_and_says_what_was_written(self, scan, tmp_path, model, capsys):
        assert main(["standardize", str(scan), str(tmp_path / "out"), "--model", model]) == 0
        assert "2 of 2 slices in 1 series" in capsys.readouterr().out
        assert (tmp_path / "out/2.dcm").is_file()

    def test_a_warning_names_the_series_by_kernel_and_folder(self, scan, tmp_path, model, capsys):
        (tmp_path / "scans").mkdir()
        scan.rename(tmp_path / "scans/lung sharp")
        assert main(["standardize", str(tmp_path / "scans"), str(tmp_path / "out"), "--model", model]) in (0, 3)
        (warning,) = [line for line in capsys.readouterr().err.splitlines() if "bare skin" in line]
        assert warning.startswith("warning: series 1 of 1 (") and ', "lung sharp"): too little' in warning

    def test_a_bad_file_is_1_and_is_named(self, scan, tmp_path, model, capsys):
        save(make_slice(ramp(48, 64), number=3, PixelSpacing=None), scan / "3.dcm")
        assert main(["standardize", str(scan), str(tmp_path / "out"), "--model", model]) == 1
        captured = capsys.readouterr()
        assert "3.dcm" in captured.err and "pixel spacing" in captured.err
        assert "2 of 2 slices" in captured.out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["IN", "IN/out"], "inside"),
            (["nowhere", "OUT"], "nowhere"),
            (["IN", "OUT", "--steps", "1001"], "1001"),
            (["IN", "OUT", "--model", "nonsense"], "nonsense"),
            (["IN", "OUT", "--device", "abacus"], "abacus"),
            (["IN", "OUT", "--device", "mps"], "mps"),
            (["IN", "OUT", "--target", "Zz99"], "Zz99"),
            (["IN", "OUT", "--system", "pix3pix"], "pix3pix"),
            (["IN", "OUT", "--system", "pix2pix", "--model", "nowhere"], "nowhere"),
            (["IN", "OUT", "--slice-thickness", "2"], "slice_thickness"),
            (["IN", "OUT", "--series-uid", "1.2"], "series_uid"),
            (["IN", "OUT", "--source", "IN/1.dcm"], "run_report.json"),
        ],
    )
    def test_a_wrong_path_or_value_is_2_with_one_clear_line(self, scan, tmp_path, model, capsys, arguments, message):
        if "mps" in arguments and torch.backends.mps.is_available():
            pytest.skip("there is one")
        arguments = [part.replace("IN", str(scan)).replace("OUT", str(tmp_path / "out")) for part in arguments]
        if not {"--model", "--system"} & set(arguments):
            arguments += ["--model", model]
        assert main(["standardize", *arguments]) == 2
        *stages, error = capsys.readouterr().err.splitlines()
        assert "diffusionct standardize: error:" in error and message in error
        assert all(line.startswith("standardize: ") for line in stages)  # what it was doing before
        assert not (tmp_path / "out").exists()

    def test_a_file_that_cannot_be_used_is_1(self, scan, tmp_path, model, capsys):
        (scan / "notes.txt").write_text("no image")
        assert main(["standardize", str(scan / "notes.txt"), str(tmp_path / "out"), "--model", model]) == 1
        assert "notes.txt" in capsys.readouterr().err

    def test_an_interruption_is_130(self, scan, tmp_path, monkeypatch, capsys):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("diffusionct_pipeline.standardize.folder.standardize_folder", interrupt)
        assert main(["standardize", str(scan), str(tmp_path / "out")]) == 130
        assert "interrupted" in capsys.readouterr().err

    def test_one_before_the_arguments_are_read_too(self, monkeypatch, capsys):
        def interrupt():
            raise KeyboardInterrupt

        monkeypatch.setattr("diffusionct_pipeline.commands._main.build_parser", interrupt)
        assert main([]) == 130
        assert capsys.readouterr().err == "diffusionct: interrupted\n"

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_a_signal_leaves_whole_files_and_a_report(self, scan, tmp_path, model, name):
        code = (
            "import os, signal, sys; from diffusionct_pipeline.commands import _main as cli\n"
            "from diffusionct_pipeline.standardize import series_run as module\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
            "def write(dataset, path, whole=module.write_slice):\n"
            "    whole(dataset, path)\n"
            f"    os.kill(os.getpid(), signal.{name})\n"
            "module.write_slice = write\n"
            "sys.exit(cli.main())"
        )
        arguments = ["standardize", str(scan), str(tmp_path / "out"), "--model", model]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
        assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
        assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["1.dcm", "run_report.json"]
        assert '"stopped": "interrupted"' in (tmp_path / "out/run_report.json").read_text()


class TestSimulate:
    def test_options_reach_the_simulator(self, tmp_path, monkeypatch, capsys):
        calls = []

        def simulate(*arguments, **options):
            calls.append((arguments, options))
            return [tmp_path / "phantom_0007"]

        monkeypatch.setattr("diffusionct_pipeline.simulation.simulate", simulate)
        line = f"simulate {tmp_path} --kernels Br40,Bl57 --seed 7 --mas 50,150 --smoothing Br40=0.6"
        assert main(line.split()) == 0
        (((_, series), _),) = calls
        assert (series.kernels, series.thickness_mm, series.phantoms, series.seed) == (("Br40", "Bl57"), 1.0, 3, 7)
        assert (series.slices, series.mas, series.smoothing) == (None, (50.0, 150.0), {"Br40": 0.6})
        assert "phantom_0007" in capsys.readouterr().out

    def test_an_unknown_device_is_2(self, tmp_path, capsys):
        assert main(["simulate", str(tmp_path / "out"), "--device", "abacus"]) == 2
        assert "abacus" in capsys.readouterr().err and not (tmp_path / "out").exists()

    def test_an_unknown_kernel_is_2_and_the_legal_ones_are_listed(self, tmp_path, capsys):
        assert main(["simulate", str(tmp_path), "--kernels", "Br40,Zz99"]) == 2
        error = capsys.readouterr().err
        assert "Zz99" in error and "Bl64" in error


class TestInfo:
    def test_a_reader_that_stops_is_no_error(self):
        code = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main(['info']))"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process.stdout.close()  # before anything is printed
        assert process.stderr.read() == "" and process.wait() == 1

    def test_shows_versions_kernels_and_devices(self, capsys):
        assert main(["info"]) == 0
        shown = capsys.readouterr().out
        for fact in (__version__, "torch", "embedded checkpoint", "Bl64", "GANai", "cpu:"):
            assert fact in shown
        assert len(shown.splitlines()) <= 40, "it fits a screen"
        assert main(["info", "--all"]) == 0
        everything = capsys.readouterr().out
        assert "scores." in everything and "scores." not in shown


class TestDemo:
    def test_table_says_which_is_nearer(self):
        pytest.importorskip("matplotlib")
        import numpy as np

        from diffusionct_pipeline.demo import agreement_table
        from diffusionct_pipeline.metrics.texture import TEXTURE_FIGURES

        target = np.full((2, len(TEXTURE_FIGURES)), 10.0)
        table = agreement_table({"tumour": [target / 2, target * 1.1, target]})
        assert table.count("50% ->  10%") == len(TEXTURE_FIGURES)
        assert "0% -> 100%" in table, "share of figures within 15 %"

    def test_regions_are_tumours_and_squares_apart_from_them(self):
        import numpy as np

        from diffusionct_pipeline.demo import regions

        hu, masks = np.full((1, 128, 128), -800.0), np.zeros((1, 128, 128), np.uint8)
        hu[:, 64:], masks[:, 70:80, 70:80] = 40.0, 2
        found = regions(hu, masks, spacing_mm=1.0)
        assert {name: len(where) > 0 for name, where in found.items()} == dict.fromkeys(found, True)
        assert set(found) == {"tumour", "lung", "soft tissue"}
        ((index, mask),) = found["tumour"]
        assert mask.sum() == 100 and index == 0
        assert not any(masks[0][square].any() for _, square in found["lung"] + found["soft tissue"])

    @pytest.mark.slow
    def test_runs_again_on_its_own_output(self, tmp_path, model, capsys):
        for _ in range(2):
            assert main(["demo", "--out", str(tmp_path), "--model", model]) == 0
        assert "glcm_entropy" in capsys.readouterr().out
        for result in ("demo.png", "agreement.md", "standardized/run_report.json", "phantom_80000/Br40/0001.dcm"):
            assert (tmp_path / result).is_file()
