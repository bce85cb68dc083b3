"""The module of 3D Slicer: what it does without Slicer, and its calls of Slicer against stand-ins."""

import importlib
import os
import sys
import time
import types
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from helpers.runs import tree
from helpers.volumes import affine_ras, nrrd, phantom, volume_of

from diffusionct_pipeline.standardize.folder import standardize_folder

ROOT = Path(__file__).parents[1]
MODULE = ROOT / "examples/slicer/DiffusionCT"


@pytest.fixture(autouse=True)
def in_path(monkeypatch):
    """As Slicer puts the folder of a module on the path."""
    monkeypatch.syspath_prepend(str(MODULE))


@pytest.fixture
def lib():
    return importlib.import_module("DiffusionCTLib.command_line")


@pytest.fixture
def volume(tmp_path):
    """A CT in a file."""
    path = tmp_path / "in/volume.nrrd"
    path.parent.mkdir()
    path.write_bytes(nrrd(volume_of(phantom()), affine_ras()))
    return path


def program_of(folder, code):
    """A command that is a Python script."""
    path = folder / "bin/diffusionct"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!{sys.executable}\nimport sys\n{code}")
    path.chmod(0o755)
    return path


@pytest.fixture
def program(tmp_path, model):
    """The real command, with the model of the tests."""
    code = "from diffusionct_pipeline.commands._main import main\n"
    return program_of(
        tmp_path, f"sys.path.insert(0, {str(ROOT)!r})\n{code}sys.argv += ['--model', {model!r}]\nsys.exit(main())"
    )


class TestSettings:
    def test_become_options(self, lib, tmp_path):
        assert lib.Settings().arguments() == ["--noise=keep"]
        full = lib.Settings(target="Br40", noise="30", series_uid="1.2", slice_thickness_mm=2.5)
        assert full.arguments() == ["--target=Br40", "--noise=30", "--series-uid=1.2", "--slice-thickness=2.5"]
        assert lib.Settings(reference=tmp_path / "r.nrrd").arguments()[0] == f"--reference={tmp_path}/r.nrrd"

    @pytest.mark.parametrize("noise", ["", "loud", "0", "-3", "nan", "inf"])
    def test_a_noise_that_is_none_is_refused(self, lib, noise):
        with pytest.raises(lib.CommandLineError, match="number of HU above 0, got"):
            lib.Settings(noise=noise).arguments()

    def test_two_targets_are_refused(self, lib, tmp_path):
        with pytest.raises(lib.CommandLineError, match="not both"):
            lib.Settings(target="Br40", reference=tmp_path).arguments()


class TestProgram:
    def test_is_found_by_its_path_its_environment_and_in_path(self, lib, tmp_path, monkeypatch):
        program = program_of(tmp_path, "")
        assert lib.find_program(str(program)) == lib.find_program(f" {tmp_path} ") == program
        monkeypatch.setenv("PATH", str(program.parent))
        assert lib.find_program("") == program

    def test_is_missed_by_name(self, lib, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(lib.CommandLineError, match="not in PATH"):
            lib.find_program("")
        with pytest.raises(lib.CommandLineError, match="neither diffusionct nor an environment"):
            lib.find_program(str(tmp_path))


class TestRun:
    def test_is_the_command_line(self, lib, program, volume, tmp_path, model):
        said = []
        settings = lib.Settings(target="Br40", series_uid="1.2.3")
        result = lib.standardize(
            program, volume, tmp_path / "out", settings, go_on=lambda line: said.append(line) or True
        )
        standardize_folder(volume, tmp_path / "plain", model=model, target="Br40", series_uid="1.2.3")
        assert result.path == tmp_path / "out/volume.nrrd" and tree(tmp_path / "out") == tree(tmp_path / "plain")
        assert result.kernel == "uncertain synth" and result.remarks, "a tiny network reaches nothing, and says so"
        assert any(line.startswith("standardize: 3 of 3 slices") for line in said)

    def test_fails_in_the_words_of_the_command(self, lib, program, volume, tmp_path):
        volume.write_bytes(volume.read_bytes()[:-5])
        with pytest.raises(lib.CommandLineError, match="^failed: .*damaged"):
            lib.standardize(program, volume, tmp_path / "out", lib.Settings())

    def test_shows_of_a_wrong_option_what_is_wrong(self, lib, volume, tmp_path):
        said = "print('usage: ...')\nprint('diffusionct standardize: error: target is Br4O')\nsys.exit(2)"
        with pytest.raises(lib.CommandLineError, match="^diffusionct standardize: error: target is Br4O$"):
            lib.standardize(program_of(tmp_path, said), volume, tmp_path / "out", lib.Settings())

    def test_says_how_it_ended_where_the_command_says_nothing(self, lib, volume, tmp_path):
        with pytest.raises(lib.CommandLineError, match="exit code 7"):
            lib.standardize(program_of(tmp_path, "sys.exit(7)"), volume, tmp_path / "out", lib.Settings())
        with pytest.raises(lib.CommandLineError, match="no report"):
            lib.standardize(program_of(tmp_path, ""), volume, tmp_path / "out", lib.Settings())
        with pytest.raises(lib.CommandLineError, match="cannot be started"):
            lib.standardize(tmp_path / "none", volume, tmp_path / "out", lib.Settings())

    def test_is_cancelled(self, lib, volume, tmp_path):
        code = f"import time, os\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\nprint('on', flush=True)\ntime.sleep(60)"
        begun = time.monotonic()
        with pytest.raises(lib.CommandLineError, match="Cancelled"):
            lib.standardize(
                program_of(tmp_path, code), volume, tmp_path / "out", lib.Settings(), go_on=lambda line: line != "on"
            )
        assert time.monotonic() - begun < 30
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)

    def test_gets_the_environment_that_is_given(self, lib, volume, tmp_path, monkeypatch):
        monkeypatch.setenv("OF_SLICER", "1")
        code = "import os\nprint('failed:', 'OF_SLICER' in os.environ, os.environ.get('MINE'))\nsys.exit(1)"
        with pytest.raises(lib.CommandLineError, match="failed: False 1"):
            lib.standardize(program_of(tmp_path, code), volume, tmp_path / "out", lib.Settings(), {"MINE": "1"})


@pytest.fixture
def slicer(monkeypatch, tmp_path):
    """Stand-ins of Slicer's modules; a volume node holds the bytes of its file in `data`."""
    slicer = MagicMock(name="slicer")
    bases = types.ModuleType("slicer.ScriptedLoadableModule")

    def init(self, parent=None):
        self.parent, self.layout = parent, MagicMock()

    for name in ("", "Widget", "Logic"):
        members = {"__init__": init, "setup": lambda self: None}
        setattr(bases, f"ScriptedLoadableModule{name}", type(name or "Module", (), members))
    storage = slicer.mrmlScene.CreateNodeByClass.return_value

    def write(node):
        Path(storage.SetFileName.call_args.args[0]).write_bytes(node.data)
        return True

    storage.WriteData.side_effect = write
    slicer.app.temporaryPath = str(tmp_path)
    slicer.app.settings.return_value.value.return_value = None
    slicer.util.startupEnvironment.return_value = dict(os.environ)
    slicer.util.loadVolume.side_effect = lambda path, properties: MagicMock(
        data=Path(path).read_bytes(), called=properties["name"]
    )
    slicer.dicomDatabase.instanceValue.side_effect = lambda uid, tag: {"0020,000E": "1.2.3", "0018,0050": "2.5"}[tag]
    for name, module in {
        "slicer": slicer,
        "slicer.ScriptedLoadableModule": bases,
        "qt": MagicMock(name="qt"),
        "ctk": MagicMock(name="ctk"),
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "DiffusionCT", raising=False)
    return slicer


def node_of(path, uids=""):
    """A volume node."""
    node = MagicMock(data=path.read_bytes())
    node.GetName.return_value = "chest"
    node.GetAttribute.side_effect = lambda name: {"DICOM.instanceUIDs": uids}[name]
    return node


@pytest.fixture
def copier(tmp_path):
    """A command that copies its input, and writes a report that holds its options."""
    return program_of(
        tmp_path,
        """
import json, pathlib, shutil
source, out, *options = sys.argv[2:]
pathlib.Path(out).mkdir()
shutil.copy(source, out)
files = [open(option.split("=")[1], "rb").read(4).decode() for option in options if option.startswith("--reference")]
entry = {"path": "volume.nrrd", "kernel_out": "Br40 synthetic", "remarks": options + files, "unlike_training": ["KVP"]}
(pathlib.Path(out) / "run_report.json").write_text(json.dumps({"series": [entry]}))
""",
    )


class TestInSlicer:
    def test_a_node_becomes_a_node(self, slicer, copier, volume):
        logic = importlib.import_module("DiffusionCT").DiffusionCTLogic()
        given = node_of(volume, "1.2.3.4 1.2.3.5")
        result, node = logic.run(copier, given, target="Br40")
        assert node.data == given.data and node.called == "chest Br40 synthetic"
        options = ("--target=Br40", "--noise=keep", "--series-uid=1.2.3", "--slice-thickness=2.5")
        assert result.remarks == (*options, "KVP"), "the values of the DICOM that it was loaded from"
        assert not result.path.exists(), "nothing is left behind"
        slicer.mrmlScene.RemoveNode.assert_called_once_with(node.GetStorageNode())

    def test_a_reference_is_written_too(self, slicer, copier, volume):
        logic = importlib.import_module("DiffusionCT").DiffusionCTLogic()
        result, _ = logic.run(copier, node_of(volume), reference=node_of(volume), noise="target")
        assert result.remarks[0].startswith("--reference=") and result.remarks[1:] == ("--noise=target", "NRRD", "KVP")

    def test_the_panel_runs_and_shows_what_failed(self, slicer, copier, volume, monkeypatch):
        module = importlib.import_module("DiffusionCT")
        monkeypatch.setattr(module, "volume_selector", lambda tip, none=False: MagicMock())
        panel = module.DiffusionCTWidget(MagicMock())
        panel.setup()
        panel.apply, panel.cancel = MagicMock(), MagicMock()
        panel.target.text, panel.noise.currentText = "", "keep"
        panel.program.currentPath = str(copier)
        panel.volume.currentNode.return_value, panel.reference.currentNode.return_value = node_of(volume), None
        panel.on_apply(True)
        slicer.util.errorDisplay.assert_not_called()
        assert panel.status.setText.call_args.args == ("Kernel: Br40 synthetic\n--noise=keep\nKVP",)
        assert slicer.util.setSliceViewerLayers.called and panel.apply.enabled and not panel.cancel.enabled
        panel.volume.currentNode.return_value = None
        panel.on_apply(True)
        assert slicer.util.errorDisplay.call_args.args == ("Choose a volume.",)
        panel.on_cancel()
        assert panel.go_on("") is False
