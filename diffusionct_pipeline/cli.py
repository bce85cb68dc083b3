"""The command `diffusionct`: parses arguments and prints. The work is done elsewhere, and imported when needed."""

import argparse
import logging
import signal
import sys

from . import __version__

EXIT_OK, EXIT_FAILURE, EXIT_INTERRUPTED = 0, 1, 130  # wrong usage is argparse's 2; 130 is a shell's 128 + SIGINT
MODEL_HELP = 'checkpoint folder or "user/repo" on the Hub; default: the embedded one'
LISTED_FAILURES = 10  # on the screen; the report has them all


def main(argv=None):
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        Exit code: 0 done, 1 something failed, 130 interrupted. Wrong usage raises SystemExit(2).
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if argv is None:  # a process of its own: a batch system's SIGTERM ends it as cleanly as Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = build_parser().parse_args(argv)
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print(f"diffusionct {options.command}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, OSError, ImportError) as error:
        print(f"diffusionct {options.command}: error: {describe(error)}", file=sys.stderr)
        return EXIT_FAILURE


def build_parser():
    """Parser of all subcommands; each stores its function in `run`."""
    parser = argparse.ArgumentParser(
        prog="diffusionct",
        description="Standardize CT images between reconstruction kernels. Research use, not a medical device.",
        epilog="Each command explains itself: diffusionct standardize --help",
    )
    parser.add_argument("--version", action="version", version=f"diffusionct {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    add_demo(commands)
    add_standardize(commands)
    add_simulate(commands)
    add_evaluate(commands)
    add_info(commands)
    return parser


def add_command(commands, name, run, text, example):
    """A subcommand with an example in its help."""
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_demo(commands):
    parser = add_command(
        commands,
        "demo",
        run_demo,
        "simulate a scan with a tumour, standardize its Br40 series, and compare the result with its Bl64 series",
        "diffusionct demo --out demo_output",
    )
    add = parser.add_argument
    add("--out", default="demo_output", metavar="DIR", help="folder for the results (default: %(default)s)")
    add("--model", metavar="M", help=MODEL_HELP)


def add_standardize(commands):
    parser = add_command(
        commands,
        "standardize",
        run_standardize,
        "standardize a DICOM file or all CT series of a folder; other files in it are skipped",
        "diffusionct standardize scans/patient_01 standardized/patient_01 --preview",
    )
    add = parser.add_argument
    add("input", metavar="IN", help="DICOM file or folder; only read")
    add("output", metavar="OUT", help="folder outside of IN; mirrors the paths of IN and gets run_report.json")
    add("--model", metavar="M", help=MODEL_HELP)
    add("--reference", metavar="R", help="DICOM file, or folder with one series, whose texture to take; default: the "
        "checkpoint's own standard")  # fmt: skip
    add("--steps", type=int, metavar="N", help="denoising steps; default: what the checkpoint recommends")
    add("--seed", type=int, default=0, metavar="S", help="seed of the noise that the slices of a series share "
        "(default: %(default)s)")  # fmt: skip
    add("--device", metavar="D", help='"cpu", "cuda", "cuda:1"; default: the first GPU, else the CPU')
    add("--batch-size", type=int, metavar="B", help="slices at a time on a GPU (default: 8); a CPU takes one by one")
    add("--preview", action="store_true", help="also write pictures (input, output, difference) to OUT/preview: the "
        "middle slice of each series and one a quarter to either side")  # fmt: skip


def add_simulate(commands):
    parser = add_command(
        commands,
        "simulate",
        run_simulate,
        "simulate paired CT series of phantoms, one series for each kernel, with tumour masks",
        "diffusionct simulate phantoms --kernels Br40,Bl64 --thickness 1 --phantoms 3 --seed 0",
    )
    add = parser.add_argument
    add("output", metavar="OUT", help="folder; each phantom gets a new one in it")
    add("--kernels", type=names, default="Br40,Bl64", metavar="A,B", help="kernel names, which `diffusionct info` "
        "lists (default: %(default)s)")  # fmt: skip
    add("--thickness", type=float, default=1.0, metavar="MM", help="of a slice, and distance (default: %(default)s)")
    add("--phantoms", type=int, default=3, metavar="N", help="how many (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="S", help="phantom i has seed S + i (default: %(default)s)")
    add("--slices", type=int, metavar="N", help="slices around the first tumour; default: all that show a tumour")
    add("--style", choices=("human", "lungman"), default="human", help="kind of phantom (default: %(default)s)")
    add("--mas", type=number_or_range, default="100", metavar="X[,Y]", help="tube load, or a range to draw one from "
        "for each phantom (default: %(default)s)")  # fmt: skip
    add("--spacing", type=number_or_range, default="0.7", metavar="X[,Y]", help="pixel size in mm, or a range "
        "(default: %(default)s)")  # fmt: skip
    add("--kernel-jitter", type=float, default=0.0, metavar="F", help="vary each kernel's frequencies by up to this "
        "share (default: %(default)s)")  # fmt: skip
    add("--smoothing", type=strengths, default={}, metavar="K=F", help="edge-preserving smoothing of a kernel's "
        "images, as by iterative reconstruction, 0 to 1: Br40=0.6 or Br40=0.6,Bl64=0.2")  # fmt: skip
    add("--device", default="cpu", metavar="D", help="where to compute (default: %(default)s)")


def add_evaluate(commands):
    parser = add_command(
        commands,
        "evaluate",
        run_evaluate,
        "compare series with a standard series of the same scan by the radiomic features of its tumours",
        "diffusionct evaluate --standard phantom/Bl64 --baseline phantom/Br40 --candidate standardized "
        "--mask phantom/tumours.npz",
    )
    add = parser.add_argument
    add("--standard", required=True, metavar="DIR", help="folder with the series that the others should look like")
    add("--candidate", required=True, nargs="+", metavar="DIR", help="folders with the series to judge")
    add("--mask", required=True, metavar="FILE", help="tumours on the grid of the standard: NIfTI, NRRD, DICOM SEG or "
        "RTSTRUCT, or .npz with the array `mask` (slices, rows, columns)")  # fmt: skip
    add("--baseline", metavar="DIR", help="folder with the unconverted series, to which gains refer")
    add("--label", nargs="+", metavar="L", help="labels of the mask to measure, by number or name; default: all")
    add("--combat", action="store_true", help="also compare after ComBat, a correction of features without images")
    add("--out", default="evaluation_output", metavar="DIR", help="new folder for report.md, features.csv, "
        "agreement.csv and figures (default: %(default)s)")  # fmt: skip


def add_info(commands):
    text = "show versions, the embedded checkpoint, kernels, systems and devices"
    add_command(commands, "info", run_info, text, "diffusionct info")


def run_demo(options):
    from .demo import demo

    with Progress("demo") as progress:
        text = demo(options.out, model=options.model, progress=progress)
    print(text)
    return EXIT_OK


def run_standardize(options):
    from .standardize_folder import standardize_folder

    with Progress("standardize") as progress:
        report = standardize_folder(
            options.input, options.output, model=options.model, reference=options.reference,
            num_inference_steps=options.steps, seed=options.seed, device=options.device, batch_size=options.batch_size,
            preview=options.preview, progress=progress,
        )  # fmt: skip
    done = f"{report['written']} of {report['slices']} slices in {len(report['series'])} series"
    print(f"{done} written to {report['output']}")
    if report["skipped"]:
        print(f"{len(report['skipped'])} other files skipped; run_report.json lists them")
    failures = [item for entry in report["series"] for item in entry["failures"]] + report["unusable"]
    for item in failures[:LISTED_FAILURES]:
        print(f"failed: {item['reason']}", file=sys.stderr)
    if len(failures) > LISTED_FAILURES:
        print(f"... and {len(failures) - LISTED_FAILURES} more in run_report.json", file=sys.stderr)
    if report["stopped"]:
        print(f"stopped early: {report['stopped']}", file=sys.stderr)
    return EXIT_FAILURE if failures or report["stopped"] else EXIT_OK


def run_simulate(options):
    from .files import require_writable
    from .simulation import simulate

    require_writable(options.output)
    with Progress("simulate") as progress:
        folders = simulate(
            options.output, options.kernels, options.thickness, options.phantoms, options.seed, options.slices,
            style=options.style, mas=options.mas, spacing_mm=options.spacing, kernel_jitter=options.kernel_jitter,
            smoothing=options.smoothing, device=options.device, progress=progress,
        )  # fmt: skip
    for folder in folders:
        print(folder)
    return EXIT_OK


def run_evaluate(options):
    from .evaluation import evaluate_series

    with Progress("evaluate", unit="region") as progress:
        evaluation = evaluate_series(
            options.standard, options.candidate, options.mask, options.out, baseline=options.baseline,
            labels=options.label, use_combat=options.combat, progress=progress,
        )  # fmt: skip
    for remark in evaluation.remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"{len(evaluation.regions)} regions in {len(evaluation.features)} series compared: {options.out}/report.md")
    return EXIT_OK


def run_info(options):
    from .info import info

    print(info())
    return EXIT_OK


class Progress:
    """A tqdm bar that appears with the first call of `progress(done, total)`."""

    def __init__(self, description, unit="slice"):
        self.description, self.unit, self.bar = description, unit, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.bar is not None:
            self.bar.close()

    def __call__(self, done, total):
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.description, unit=self.unit)
        self.bar.update(done - self.bar.n)


def describe(error):
    """Message of an error for the screen."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f'"{error.filename}": {error.strerror}'
    return str(error) or type(error).__name__


def names(text):
    """"A,B" -> ("A", "B")."""
    return tuple(name.strip() for name in text.split(","))


def number_or_range(text):
    """"1.5" -> 1.5; "1,2" -> (1.0, 2.0)."""
    values = tuple(float(value) for value in text.split(","))
    if len(values) > 2:
        raise ValueError
    return values if len(values) == 2 else values[0]


def strengths(text):
    """"A=0.5,B=1" -> {"A": 0.5, "B": 1.0}."""
    return {name: float(value) for name, value in (item.split("=") for item in text.split(","))}
