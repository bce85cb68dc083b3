"""The options of a study, and the tiny study of `--quick`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StudyOptions:
    """Settings of `run_study`.

    Attributes:
        tumours: Tumours of each simulated test set, each in a phantom of its own.
        slices: Maximum number of slices of a tumour. Features span up to 7 slices: with fewer than 8, some are undefined.
        size: Side of a slice in pixels; below 512, the field of view is reduced around the tumour.
        systems: Names of rows, see `rows.ROWS`; empty for all.
        sets: Names of test sets, see `test_sets.PROTOCOLS`, "re-kernelled" and "pair"; empty for all that have data.
        pair: Folders of a real soft and a real sharp series of one scan, with equal file names and equal slices.
        rekernel: Folder of a real sharp series, which the simulator scans again.
        trained: Folder of the rivals, as training/train_systems.sh writes it; None for `OUT/systems`.
        regression: Checkpoint of DiffusionCT's network trained as a regression.
        budget_seconds: Training time of each rival that is missing in `trained`; 0 leaves their rows out.
        objects: Sharp CT to train rivals on, beside phantoms.
        network_size: Of rivals that are trained: "published"; "small", half the width, for a CPU; or "tiny".
        training: Further options of the trainings, see `RivalsOptions`.
        any_to_any: Tumours of the figure of six kernels; 0 leaves it out.
        max_seconds: Time after which no further case is measured. The report names unfinished rows, and the next call
            continues.
        seed: Of the trainings. Test data have the seeds of the split.

    Raises:
        ValueError: for values outside their range.
    """

    tumours: int = 24
    slices: int = 8
    size: int = 512
    systems: Sequence[str] = ()
    sets: Sequence[str] = ()
    pair: tuple[Path, Path] | None = None
    rekernel: Path | None = None
    trained: Path | None = None
    regression: Path | None = None
    budget_seconds: float = 0.0
    objects: Sequence[str] = ()
    network_size: str = "published"
    training: Mapping[str, Any] = field(default_factory=dict)
    any_to_any: int = 8
    max_seconds: float = float("inf")
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, high in (
            ("tumours", 3, 1000), ("slices", 1, 64), ("size", 64, 1024), ("any_to_any", 0, 1000),
            ("budget_seconds", 0, float("inf")), ("max_seconds", 0, float("inf")),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"`{name}` must be between {low} and {high}, got {value}.")

    def quick(self) -> StudyOptions:
        """Return the same study at tiny sizes, which shows that everything runs; its figures mean nothing."""
        training = {
            "max_steps": 2, "batch_size": 2, "phantom_slices": 1, "validation_steps": 0, **self.training,
        }  # fmt: skip
        return replace(
            self, tumours=3, slices=2, size=96, any_to_any=2, budget_seconds=60, network_size="tiny", training=training
        )
