"""Fill the measured tables of README.md and docs/results.md from the record of the embedded checkpoint.

    python benchmarks/results.py            # or: make results
    python benchmarks/results.py --check    # exit code 1 if a page differs from the record

The record is `metrics.json` beside the weights. A table stands between `<!-- measured: NAME -->` and `<!-- end -->`,
NAME being one of `TABLES`; everything outside of these marks is written by hand. A test runs `--check`.
"""

import argparse
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "diffusionct_pipeline/pretrained/metrics.json"
PAGES = (ROOT / "README.md", ROOT / "docs/results.md")
MARKS = re.compile(r"(<!-- measured: ([a-z ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

# Descriptions of the scans in the record; scans that are not listed keep their own names.
SCANS = {
    "soft and sharp": "FC13 and FC51, two kernels of one phantom scan",
    "soft": "FC13 (phantom)",
    "sharp": "FC51 (phantom)",
    "C3N-00247_B70f re-kernelled": "B70f chest, re-kernelled to five kernels",
    "CMB-CRC-MSB-01068_LUNG re-kernelled": "GE LUNG chest, re-kernelled to five kernels",
    "LungFCP-01-0001_B31f": "B31f",
    "C3N-00247_B70f": "B70f",
    "CMB-CRC-MSB-01068_LUNG": "GE LUNG",
    "LIDC-IDRI-0314_D": "Philips D",
    "LUNG1-001_B19f": "B19f",
    "LungFCP-01-0001_B31f smoothed": "B31f",
    "C3N-00247_B70f smoothed": "B70f",
    "LIDC-IDRI-0314_D smoothed": "Philips D",
    "LUNG1-001_B19f smoothed": "B19f",
    "STS_014_STANDARD smoothed": "GE STANDARD",
    "STS_045_SOFT smoothed": "GE SOFT",
    "soft smoothed": "FC13 (phantom), beside FC51",
    "sharp smoothed": "FC51 (phantom), beside FC13",
}
RECONSTRUCTIONS = "two_reconstructions_to_"
BESIDE = "plain and "
README_SCANS = 3  # rows of real scans in README.md; the fourth row is for simulated scans


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a page is out of date")
    parser.add_argument("--record", type=Path, default=RECORD, help="default: that of the embedded checkpoint")
    parser.add_argument("--pages", type=Path, nargs="+", default=PAGES, help="default: README.md and docs/results.md")
    arguments = parser.parse_args()
    record, stale = json.loads(arguments.record.read_text()), []
    for page in arguments.pages:
        before = page.read_text()
        after = filled(before, record)
        if after != before:
            stale.append(page.name)
            if not arguments.check:
                page.write_text(after)
    unused = sorted(name for name in record["scores"] if not is_shown(name))
    if unused:
        print(f"without a table: {', '.join(unused)}")
    if stale:
        print(f"{'out of date' if arguments.check else 'written'}: {', '.join(stale)}")
    sys.exit(arguments.check and bool(stale))


def filled(text, record):
    """Return a page with every table generated from the record.

    Raises:
        KeyError: if the page asks for a table that there is not.
    """
    return MARKS.sub(lambda mark: f"{mark[1]}{TABLES[mark[2]](record)}\n{mark[3]}", text)


def is_shown(name):
    """Return whether a part of the record's scores has a table."""
    others = ("kernels_to_standard", "ablation", "smoothed", "real_series", "commands")
    return name.startswith(RECONSTRUCTIONS) or name in others


# ---------------------------------------------------------------- tables, each from the whole record
def readme_rows(record):
    """Return four rows: real scans first, then the mean over simulated ones."""
    header, rows = agreement_of_two(record)
    table = record["scores"].get("kernels_to_standard", {})
    if table:
        before, after = (mean_over(table, *keys) for keys in (("as they are", "CCC"), ("standardized", "its CCC")))
        at_standard = [after if name == "to Bl64" else "–" for name in header[2:]]
        what = f"simulated scans under {number_word(len(table))} kernels, against the true Bl64"
        rows = [*rows[:README_SCANS], [what, before, *at_standard]]
    return markdown(header, rows)


def two_reconstructions(record):
    """Tabulate the similarity of two reconstructions of one scan, before and after, for every measured target."""
    return with_commands(markdown(*agreement_of_two(record)), record, *targets(record))


def estimates(record):
    """Tabulate the estimate of each reconstruction, and measurements of its result for the first target."""
    rows = []
    for scan, parts in record["scores"][targets(record)[0]].items():
        for name, part in parts.items():
            if "source" in part and part["source"] and part["result"]:
                title = SCANS.get(name, name) if name in SCANS else f"{SCANS.get(scan, scan).split(',')[0]} as {name}"
                rows.append([title, *(cell for side in ("source", "result") for cell in estimate(part[side]))])
    return markdown(["scan", "MTF50 before (90 %)", "noise before", "MTF50 after (90 %)", "noise after"], rows)


def kernels(record):
    """Tabulate simulated scans under several kernels against the true standard."""
    rows = []
    for name, row in record["scores"]["kernels_to_standard"].items():
        rows.append([
            name.replace("_", " "),
            agreement(row["as they are"], row["CCC"]),
            agreement(row["standardized"], row["its CCC"]),
            f"{row['std ratio']:.2f}",
            f"{100 * row['rms']:.1f} %",
            percent(row["dose kept"]),
        ])  # fmt: skip
    header = ["kernel", "as it is", "standardized", "noise, relative to the target's", "error of MTF50 (rms)"]
    header.append("dose kept")
    return with_commands(markdown(header, rows), record, "kernels_to_standard")


def ablation(record):
    """Tabulate what each part adds: one row per test, one column per system."""
    tests = record["scores"]["ablation"]
    systems = list(dict.fromkeys(name for test in tests.values() for name, row in test.items() if "CCC" in row))
    rows = []
    for name, test in tests.items():
        regions = next(row["regions"] for row in test.values() if "regions" in row)
        cells = [agreement(test[s]["within 15 %"], test[s]["CCC"]) if s in test else "" for s in systems]
        rows.append([f"{name}; {regions} regions", *cells])
    return with_commands(markdown(["", *systems], rows), record, "ablation")


def coverage(record):
    """Tabulate how often 90 % intervals over samples contain the target's value, and the widening that they would need."""
    rows = []
    for name, test in record["scores"]["ablation"].items():
        row = test.get("90 % intervals")
        if row:
            cells = (percent(row["coverage"]), percent(row["of the samples alone"]), f"{row['needed widening']:.1f}")
            rows.append([name, *cells])
    return markdown(["", "intervals as given", "the samples' spread alone", "factor that 90 % would need"], rows)


def smoothed(record):
    """Tabulate smoothed real series against themselves or another reconstruction, before and after standardization."""
    table = record["scores"]["smoothed"]
    families = [name.removeprefix(BESIDE) for name in next(iter(table.values())) if name.startswith(BESIDE)]
    rows = []
    for scan, parts in table.items():
        pairs = [parts[BESIDE + family] for family in families]
        cells = (f"{agreement(*pair['as they are'])} to {agreement(*pair['standardized'])}" for pair in pairs)
        rows.append([SCANS.get(scan, scan), *cells])
    return with_commands(markdown(["", *families], rows), record, "smoothed")


def real_series(record):
    """Tabulate resolution and noise of real series before and after."""
    rows = []
    for name, row in record["scores"]["real_series"].items():
        before, after = (
            f"{mtf50:.1f} lp/cm, {noise:.0f} HU" for mtf50, noise in zip(row["MTF50 lp/cm"], row["noise HU"])
        )
        rows.append([SCANS.get(name, name), before, after, f"{row['pixels can show']:.1f} lp/cm", row["label"]])
    header = ["", "before", "after", "what the pixels can show of Bl64", "label in derived images"]
    return with_commands(markdown(header, rows), record, "real_series")


def training(record):
    """Tabulate training data and training time of the checkpoint."""
    facts = record["training"]
    lines = [f"- Hardware: {facts['hardware']}."]
    for stage in facts.get("stages", ()):
        times = ", ".join(f"{value} {name}" for name, value in stage.items() if name != "what")
        lines.append(f"- {stage['what'][0].upper()}{stage['what'][1:]}" + (f" ({times})." if times else "."))
    lines += [f"- Data: {what}." for what in facts.get("data", ())]
    for name in ("smoothing", "chosen_by", "not_blind", "not in one go"):
        if name in facts:
            title = name.replace("_", " ")
            lines.append(f"- {title[0].upper()}{title[1:]}: {facts[name]}.")
    return "\n".join(lines)


TABLES = {
    "readme rows": readme_rows,
    "two reconstructions": two_reconstructions,
    "estimates": estimates,
    "kernels": kernels,
    "ablation": ablation,
    "coverage": coverage,
    "smoothed": smoothed,
    "real series": real_series,
    "training": training,
}


# ---------------------------------------------------------------- parts of tables
def targets(record):
    """Return the names of the scores of two reconstructions, one per target."""
    return [name for name in record["scores"] if name.startswith(RECONSTRUCTIONS)]


def agreement_of_two(record):
    """Return header and rows: scan, unchanged, and standardized to every target."""
    names, rows = targets(record), {}
    for name in names:
        for scan, parts in record["scores"][name].items():
            row = rows.setdefault(scan, {"before": agreement(*parts["mean"]["as they are"])})
            row[name] = agreement(*parts["mean"]["standardized"])
    header = ["", "as they are", *(f"to {name.removeprefix(RECONSTRUCTIONS)}" for name in names)]
    cells = (
        [SCANS.get(scan, scan), row["before"], *(row.get(name, "–") for name in names)] for scan, row in rows.items()
    )
    return header, list(cells)


def estimate(kernel):
    """Return the cells of an estimated kernel: MTF50 with its interval, and noise."""
    low, high = kernel["90 %"]
    noise = kernel["noise HU"]
    return f"{kernel['MTF50']:.1f} ({low:.1f} to {high:.1f}) lp/cm", "–" if noise is None else f"{noise:.0f} HU"


def mean_over(table, share, concordance):
    """Average the agreement over the rows of a table."""
    return agreement(*(sum(row[key] for row in table.values()) / len(table) for key in (share, concordance)))


def agreement(share, concordance):
    """Format a cell: share of figures within 15 %, and mean CCC."""
    return f"{percent(share)}, {short(concordance)}"


def percent(share):
    """Format 0.957 as "96 %"."""
    return f"{100 * share:.0f} %"


def short(value):
    """Format 0.931 as ".93" and 0.999 as "1.00"."""
    return f"{value:.2f}".replace("0.", ".", 1) if abs(round(value, 2)) < 1 else f"{value:.2f}"


def number_word(count):
    """Return small numbers as words."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[count] if count < len(words) else str(count)


def with_commands(table, record, *names):
    """Return a table, and below it the commands that measured it."""
    commands = record["scores"].get("commands", {})
    lines = [commands[name].rstrip(".") for name in names if name in commands]
    return "\n\n".join([table, "Measured by: " + "; ".join(lines) + "."] if lines else [table])


def markdown(header, rows):
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
