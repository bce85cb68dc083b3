"""The array job of docs/how-to/cluster.md on a real SLURM: a task is killed, the same job again completes the rest."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.runs import HU, REPORT, tree, write_scans

from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.series_list import read_list

ROOT = Path(__file__).parents[1]
DAEMONS = ("munged", "slurmctld", "slurmd")
LONG = 400  # slices of the series whose task is killed
# Times, and what a report says of the slices that its own run has written.
VARYING = (
    "started",
    "ended",
    "seconds",
    "seconds_to_load",
    "written",
    "finished_before",
    "clipped_pixels",
    "unlike_training",
)
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CryptoType=crypto/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=6000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def slurm(tmp_path):
    """Environment of a SLURM of one node."""
    missing = [name for name in (*DAEMONS, "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"{missing[0]} is not installed" if missing else "the daemons of SLURM are started as root")
    folder = Path(f"/tmp/slurm{os.getpid()}")  # tmp_path is too long for a socket, and open to nobody else
    for name in ("", "state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o400)
    (folder / "slurm.conf").write_text(CONFIG.format(host=os.uname().nodename.split(".")[0], folder=folder))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    places = [f"--{name}={folder}/munge.{name[:3]}" for name in ("pid-file", "log-file", "seed-file")]
    subprocess.run(["munged", f"--key-file={folder}/key", f"--socket={folder}/munge.sock", *places], check=True)
    pids = [folder / "munge.pid", folder / "slurmctld.pid", folder / "slurmd.pid"]
    try:
        subprocess.run(["slurmctld", "-c"], env=environment, check=True)
        subprocess.run(["slurmd", "-c"], env=environment, check=True)
        wait_until(lambda: " idle " in ask(environment, "sinfo", "-h", "-o", " %t "), 60)
        yield environment
    finally:
        for pid in reversed(pids):
            if pid.exists():
                os.kill(int(pid.read_text()), signal.SIGTERM)
        time.sleep(2)
        shutil.rmtree(folder)


def ask(environment, *command):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def blocks():
    """The job script of the page, and the lines that submit it."""
    found = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/how-to/cluster.md").read_text(), re.DOTALL)
    (script,) = [block for block in found if "#SBATCH" in block]
    (submit,) = [block for block in found if "sbatch --parsable" in block]
    return script, submit


def timeless(report):
    entries = [
        {key: value for key, value in entry.items() if key not in (*VARYING, "seconds_per_slice")}
        for entry in report["series"]
    ]
    return {key: value for key, value in report.items() if key not in VARYING} | {"series": entries}


def test_a_killed_task_is_made_up_for_by_the_same_job(slurm, tmp_path, model):
    slices = [(series, number) for series in range(1, 11) for number in range(1, LONG + 1 if series == 3 else 3)]
    write_scans(tmp_path / "scans", slices, hu=HU)
    whole = standardize_folder(tmp_path / "scans", tmp_path / "whole", model=model)
    # The commands of the page, with the model of the tests.
    script, submit = blocks()
    (tmp_path / "standardize.sbatch").write_text(
        script.replace("diffusionct standardize", f"diffusionct standardize --model {model}")
    )
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/diffusionct"
    code = "import sys; from diffusionct_pipeline.commands._main import main; sys.exit(main())"
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    environment = {**slurm, "PATH": path, "PYTHONPATH": str(ROOT), "SLURM_MEM_PER_NODE": "2000"}
    submit = submit.replace("CHUNK=4", "CHUNK=1").replace("--parsable", "--parsable --mem=1G").splitlines()

    def run_array(while_it_runs=lambda job: None):
        lines = [line for line in submit if "--dependency" not in line]
        done = subprocess.run(["bash", "-ec", "\n".join([*lines, "echo $array"])], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        job = done.stdout.strip()
        while_it_runs(job)
        wait_until(lambda: not ask(slurm, "squeue", "-h", "-j", job), 900)
        return job

    def merge():
        command = [program, "merge", tmp_path / "standardized", "--input", tmp_path / "scans"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    out = tmp_path / "standardized"

    def kill_the_long_one(job):
        wait_until(lambda: len(list((out / "3").glob("*.dcm"))) > 2, 600)
        listed = [item.path for item in read_list(tmp_path / "series.tsv")]
        ask(slurm, "scancel", "--signal=KILL", "--full", f"{job}_{listed.index('3') + 1}")

    run_array(kill_the_long_one)
    made = len(list((out / "3").glob("*.dcm")))
    assert 2 < made < LONG, "the kill must strike while there is work"
    first = merge()
    assert first.returncode == 1 and f"of {len(slices)} slices" in first.stdout, first
    run_array()
    again = merge()
    assert again.returncode in (0, 3), again
    report = json.loads((out / REPORT).read_text())
    print(
        f"{made} of {LONG} slices at the kill; then {report['finished_before']} found finished, {report['written']} written"
    )
    assert timeless(report) == timeless(whole) and report["finished_before"] + report["written"] == len(slices)
    assert {name: data for name, data in tree(out).items() if name[0] != "."} == tree(tmp_path / "whole")
