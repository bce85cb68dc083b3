"""Collect what the trainings of the comparison say of themselves; train_systems.sh calls it last.

    python training/record_systems.py runs/systems/record.json 3600 pix2pix runs/systems/pix2pix [NAME FOLDER ...]
"""

import argparse
import json
from pathlib import Path

from diffusionct_pipeline.files import write_whole

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("budget", type=float, help="seconds that each system had")
    parser.add_argument("systems", nargs="*", help="name and folder of each, in turn")
    arguments = parser.parse_args()
    systems = {}
    for name, folder in zip(arguments.systems[::2], arguments.systems[1::2], strict=True):
        (summary,) = json.loads((Path(folder) / "metrics.json").read_text()).values()
        relative = Path(folder).resolve().relative_to(arguments.record.resolve().parent)
        systems[name] = {"folder": str(relative), **summary}
    if "DiffusionCT (literal)" in systems:  # both phases
        systems["DiffusionCT (literal)"]["seconds"] += systems["encoder-decoder"]["seconds"]
    write_whole(arguments.record, json.dumps({"budget_seconds": arguments.budget, "systems": systems}, indent=2) + "\n")
    print(f"{arguments.record}: {len(systems)} systems")
