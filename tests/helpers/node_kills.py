"""Kill the worker and Orthanc at random times, then let the worker finish; prints what was found as JSON.

    python node_kills.py WORK MODEL SERIES WORKER_KILLS ORTHANC_KILLS

A process that has everything imported forks the workers, as in kills.py.
"""

import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import torch
from helpers.dicom import ROOT, dciodvfy_errors, make_slice
from helpers.orthanc_server import Server, wait_until
from helpers.runs import HU

from diffusionct_pipeline.node.orthanc import Orthanc, Unavailable
from diffusionct_pipeline.node.rules import Rule
from diffusionct_pipeline.node.state import all_states
from diffusionct_pipeline.node.worker import serve
from diffusionct_pipeline.standardize.folder import standardize_folder

SLICES = 3
RULES = [Rule("CT", modality=("CT",))]


def fork(work):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def uid_of(data):
    return str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID)


def push(orthanc, folder):
    for path in sorted(folder.rglob("*.dcm")):
        orthanc.store(path.read_bytes())


def main(work, model, series, worker_kills, orthanc_kills):
    torch.set_num_threads(1)
    work, draw, problems = Path(work), random.Random(0), []
    for number in range(1, series + 1):
        for slice in range(1, SLICES + 1):
            folder = work / f"in/{number}"
            folder.mkdir(parents=True, exist_ok=True)
            hu = np.random.default_rng(100 * number + slice).normal(40, 30 * slice, HU.shape).round()
            pydicom.dcmwrite(
                folder / f"{slice}.dcm", make_slice(hu, series=number, number=slice), enforce_file_format=True
            )
    begun = time.monotonic()
    if exit_code(fork(lambda: standardize_folder(work / "in", work / "out", model=model))):
        problems.append("the command failed")
    seconds = time.monotonic() - begun
    expected = {uid_of(data): data for data in (path.read_bytes() for path in (work / "out").rglob("*.dcm"))}
    server = Server(work / "orthanc", "ORTHANC").start()
    orthanc = Orthanc(server.url)
    push(orthanc, work / "in")
    wait_until(lambda: all(orthanc.get(f"/series/{id}")["IsStable"] for id in orthanc.get("/series")))
    killed, done_at_kill = 0, []
    moments = [*(["worker"] * worker_kills), *(["Orthanc"] * orthanc_kills)]
    draw.shuffle(moments)
    for number, victim in enumerate(moments):
        child = fork(lambda: serve(server.url, RULES, work / "node", model=model, poll=0.05))
        time.sleep(draw.uniform(0.05, 0.12) * seconds)
        if number == len(moments) // 2:
            push(orthanc, work / "in")
        if victim == "Orthanc":
            server.kill()
            time.sleep(0.3)
            server.start()
        os.kill(child, signal.SIGKILL)
        killed += exit_code(child) == -signal.SIGKILL
        try:
            done_at_kill.append(sum(state.state == "done" for state in all_states(orthanc).values()))
        except Unavailable as error:
            problems.append(f"Orthanc did not come back: {error}")
    if exit_code(fork(lambda: serve(server.url, RULES, work / "node", model=model, poll=0.05, once=True))):
        problems.append("the last worker failed")
    states = all_states(orthanc)
    kinds = sorted(state.state for state in states.values())
    if kinds != ["done"] * series + ["left alone"] * series:
        problems.append(f"states: {kinds}")
    found, studies = {}, set()
    for state in states.values():
        if not state.result:
            continue
        studies.add(orthanc.get(f"/series/{state.result}/study")["MainDicomTags"]["StudyInstanceUID"])
        for instance in orthanc.get(f"/series/{state.result}")["Instances"]:
            data = orthanc.download(f"/instances/{instance}/file")
            found[uid_of(data)] = data
    if found != expected:
        problems.append(f"{len(found)} results, {len(found.items() & expected.items())} of {len(expected)} as expected")
    if studies != {f"{ROOT}.900"} or len(orthanc.get("/instances")) != 2 * len(expected):
        problems.append(f"studies {studies}, {len(orthanc.get('/instances'))} instances")
    errors = []
    for data in list(found.values())[::7]:
        (work / "check.dcm").write_bytes(data)
        errors += dciodvfy_errors(work / "check.dcm")
    problems += errors
    server.stop()
    print(json.dumps({"killed": killed, "done at each kill": done_at_kill, "problems": problems}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
