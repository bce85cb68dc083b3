"""What the pages on nodes and clusters tell people to write into files: other programs take it, and it does what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.runs import tree, write_scans

from diffusionct_pipeline.commands._main import build_parser
from diffusionct_pipeline.standardize.folder import standardize_folder

ROOT = Path(__file__).parents[1]
NODE, CLUSTER = (ROOT / f"docs/how-to/{name}.md" for name in ("node", "cluster"))


def block(page, language, mark=""):
    """The one code block of a language that holds a mark."""
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL) if mark in text]
    return found


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


class TestNode:
    def test_systemd_takes_the_unit(self, tmp_path):
        need("systemd-analyze")
        unit = re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", block(NODE, "ini"), flags=re.M)
        (tmp_path / "diffusionct.service").write_text(unit)
        command = ["systemd-analyze", "verify", "--man=no", tmp_path / "diffusionct.service"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and "diffusionct.service" not in done.stderr, done.stderr

    def test_the_firewall_takes_its_table(self, tmp_path):
        need("nft")
        if os.geteuid() != 0:
            pytest.skip("nft asks the kernel, which answers root only")
        (tmp_path / "node.nft").write_text(block(NODE, "text", "table inet"))
        done = subprocess.run(["nft", "--check", "--file", tmp_path / "node.nft"], capture_output=True, text=True)
        if "Operation not permitted" in done.stderr or "Operation not supported" in done.stderr:
            pytest.skip("the kernel has no nftables for us")
        assert done.returncode == 0, done.stderr

    def test_the_commands_of_unit_and_containers_parse(self):
        program, *started = shlex.split(re.search(r"^ExecStart=(.*)$", block(NODE, "ini"), re.M)[1])
        worker = yaml.safe_load(block(NODE, "yaml"))["services"]["worker"]
        assert Path(program).name == "diffusionct"
        for words in (started, shlex.split(worker["command"])):
            options = build_parser().parse_args(words)
            assert (options.command, options.send_to) == ("serve", "pacs")

    def test_containers_have_the_networks_and_volumes_that_they_name(self):
        whole = yaml.safe_load(block(NODE, "yaml"))
        for service in whole["services"].values():
            assert set(service["networks"]) <= set(whole["networks"])
            named = [volume.partition(":")[0] for volume in service["volumes"]]
            assert {name for name in named if not name.startswith("./")} <= set(whole["volumes"])
        assert [name for name, service in whole["services"].items() if "ports" in service] == ["orthanc"]


@pytest.mark.slow
def test_snakemake_runs_the_file_of_the_page(tmp_path, model):
    need("snakemake")
    scans = write_scans(tmp_path / "scans", [(series, number) for series in (1, 2, 3) for number in (1, 2)])
    standardize_folder(scans, tmp_path / "whole", model=model)
    (tmp_path / "Snakefile").write_text(block(CLUSTER, "python", "checkpoint plan"))
    program = tmp_path / "bin/diffusionct"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom diffusionct_pipeline.commands._main import main\n"
        f"if sys.argv[1] == 'standardize':\n    sys.argv += ['--model', {model!r}]\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    environment = {**os.environ, "PATH": os.pathsep.join([str(program.parent), os.environ["PATH"]])}
    environment.pop("PYTHONPATH", None)  # snakemake has an environment of its own
    command = ["snakemake", "--cores", "2"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "standardized"
    assert {name: data for name, data in tree(out).items() if name[0] != "."} == tree(tmp_path / "whole")
    assert (out / "run_report.json").is_file() and len(list((tmp_path / "done").iterdir())) == 3
