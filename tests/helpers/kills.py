"""Kill runs of `standardize_folder` at random times, then let each finish; prints what was found as JSON.

    python kills.py MODEL SCANS WORK TRIALS

A process that has everything imported forks the runs, so that a trial takes the time of a run and not of an import. It
must not have used torch before it forks.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from helpers.runs import REPORT, tree

from diffusionct_pipeline.standardize.folder import standardize_folder
from diffusionct_pipeline.standardize.report import REPORT_FILE

OPTIONS = {"num_samples": 2, "num_inference_steps": 1, "device": "cpu"}


def start(model, scans, out):
    """Process number of a new run; its exit code is 0 if it finished and nothing failed, 2 if another run was there."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        report = standardize_folder(scans, out, model=model, **OPTIONS)
        code = 1 if report["failures"] or report["stopped"] else 0
    except BlockingIOError:
        code = 2
    finally:
        os._exit(code)


def exit_code(child):
    """Of a run, when it ends; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(model, scans, work, trials):
    torch.set_num_threads(1)
    work, found = Path(work), {"killed": 0, "killed midway": 0, "temporaries": 0, "reports": 0, "problems": []}
    # 1. An undisturbed run, twice: the second tells how long one takes without a cold cache.
    for name in ("0", "undisturbed"):
        begun = time.monotonic()
        code = exit_code(start(model, scans, work / name))
        found["problems"] += [f"undisturbed run: {code}"] if code else []
        seconds = time.monotonic() - begun
    expected = tree(work / "undisturbed")
    # 2. Killed at a random time, then left alone.
    draw = random.Random(0)
    trial = 0
    while trial < trials or (not found["killed midway"] and trial < 10 * trials):
        trial += 1
        out = work / f"trial {trial}"
        child = start(model, scans, out)
        time.sleep(draw.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        found["killed"] += exit_code(child) == -signal.SIGKILL
        left = tree(out)
        done = {name for name in left if expected.get(name) == left[name]}
        found["killed midway"] += 0 < len(done) < len(expected)
        hidden = {name for name in left if Path(name).name.startswith(".")}
        found["temporaries"] += any(name.endswith(".part") for name in hidden)
        if half := set(left) - done - hidden:
            found["problems"].append(f"trial {trial}: half-written {sorted(half)}")
        if (out / REPORT_FILE).exists():
            report = json.loads((out / REPORT_FILE).read_text())
            found["reports"] += report["ended"] is None and report["stopped"].startswith("not ended")
        code = exit_code(start(model, scans, out))
        report = json.loads((out / REPORT).read_text())
        if code or tree(out) != expected or report["ended"] is None:
            found["problems"].append(f"trial {trial}: the second run ended with {code} and {sorted(tree(out))}")
        shutil.rmtree(out)
    # 3. Two at a time: one of them may be turned away, none may do harm.
    for trial in range(max(trials // 10, 1)):
        out = work / f"two {trial}"
        codes = sorted(exit_code(child) for child in [start(model, scans, out) for _ in range(2)])
        if codes not in ([0, 0], [0, 2]) or tree(out) != expected:
            found["problems"].append(f"two at a time, {trial}: {codes} and {sorted(tree(out))}")
    print(json.dumps({**found, "seconds of a run": round(seconds, 2)}))


if __name__ == "__main__":
    model, scans, work, trials = sys.argv[1:]
    main(model, scans, work, int(trials))
