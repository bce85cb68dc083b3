"""Kill or interrupt a command at random times, then let it finish; prints what was found as JSON.

    python kill_commands.py WORK TRIALS SEED COMMAND ...    # COMMAND as after "diffusionct", with OUT for its output

A process that has everything imported forks the runs, as in kills.py. Commands that start anew find OUT absent or whole
after a kill; those that resume find what was finished.
"""

import csv
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
from helpers.runs import tree

import diffusionct_pipeline.adapt  # noqa: F401  before the fork
import diffusionct_pipeline.characterise.folder  # noqa: F401
import diffusionct_pipeline.evaluation  # noqa: F401
import diffusionct_pipeline.publishing  # noqa: F401
import diffusionct_pipeline.simulation  # noqa: F401
import diffusionct_pipeline.standardize  # noqa: F401
from diffusionct_pipeline.commands import _main as cli

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
LONGEST = 600  # seconds of a run
VARIES = re.compile(rb"\d+(\.\d+)?( ?s\b| seconds?)|\d{4}-\d\d-\d\d[T ][\d:]+")  # times in reports


def start(command, out):
    """Process number of a new run of the command."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        sys.argv = ["diffusionct", *(str(out) if word == "OUT" else word for word in command)]
        with open(os.devnull, "w") as silence:
            os.dup2(silence.fileno(), 1)
            os.dup2(silence.fileno(), 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = cli.main()
    except SystemExit as error:
        code = error.code
    finally:
        os._exit(code)


def exit_code(child):
    """Of a run, when it ends; minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(out):
    """Relative path -> what a file holds, but for times of reports, which are never the same."""
    names = [name for name in tree(out, report=True) if not name.endswith("run_report.json")]
    return {name: without_times(Path(out, name)) for name in names}


def without_times(path):
    """Bytes of a file but for times; of a table without its column of seconds."""
    data = path.read_bytes()
    if path.suffix == ".csv" and b",seconds," in data.partition(b"\n")[0]:
        rows = csv.DictReader(data.decode().splitlines())
        return json.dumps([{key: value for key, value in row.items() if key != "seconds"} for row in rows]).encode()
    return VARIES.sub(b"", data)


def main(work, trials, seed, command):
    torch.set_num_threads(1)
    work, found = (
        Path(work),
        {"ended by the signal": 0, "finished before it": 0, "left something whole": 0, "problems": []},
    )
    work.mkdir(parents=True, exist_ok=True)
    for name in ("cold", "undisturbed"):
        begun = time.monotonic()
        code = exit_code(start(command, work / name))
        seconds = time.monotonic() - begun
        if code:
            sys.exit(f"the undisturbed run ended with {code}")
    expected = contents(work / "undisturbed")
    draw = random.Random(seed)
    for trial in range(trials):
        out, ends = work / f"trial {trial}", SIGNALS[trial % len(SIGNALS)]
        child = start(command, out)
        time.sleep(draw.uniform(0, seconds))
        os.kill(child, ends)
        code = exit_code(child)
        key = "finished before it" if code == 0 else "ended by the signal"
        found[key] += 1
        if code not in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, cli.EXIT_INTERRUPTED):
            found["problems"].append(f"trial {trial}: {ends.name} gave exit code {code}")
        left = {name: data for name, data in contents(out).items() if not any(p[0] == "." for p in Path(name).parts)}
        found["left something whole"] += bool(left)
        if half := [name for name, data in left.items() if expected.get(name) != data]:
            found["problems"].append(f"trial {trial}: {ends.name} left half-written {half}")
        if left.keys() == expected.keys() and command[0] in ("adapt", "characterise", "evaluate", "publish"):
            shutil.rmtree(out)  # whole; these refuse to write over it
        code = exit_code(start(command, out))
        if code or contents(out) != expected:
            differing = sorted(contents(out).items() ^ expected.items(), key=str)[:2]
            found["problems"].append(
                f"trial {trial}: the second run ended with {code}; differing {str(differing)[:300]}"
            )
        shutil.rmtree(out, ignore_errors=True)
    hidden = [str(path.relative_to(work)) for path in work.rglob(".*") if path.is_dir() or path.suffix == ".part"]
    print(json.dumps({**found, "temporaries beside OUT": len(hidden), "seconds of a run": round(seconds, 2)}))


if __name__ == "__main__":
    work, trials, seed, *command = sys.argv[1:]
    main(work, int(trials), int(seed), command)
