"""The rows of the comparison: systems by name, and what they are held against."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ... import pipeline
from ..systems import ALL_SYSTEMS, SYSTEMS, DiffusionCT, FittingPair, System, load_system
from ..systems.as_pipeline import system_id
from ..systems.in_scan import standardize_in_scan
from .code import code_hash
from .options import StudyOptions
from .test_sets import Case, TestSet

ORACLE, REPEAT, REGRESSION = "encoder-decoder, of the target", "repeat scan", "DiffusionCT, regression"
SEED = 0  # of the noise of every scan
INPUT, TARGET_ROW = "input", "target"
LEAKED = "U-Net, L1"  # is also trained on the phantoms of the test, as the paper splits
LEAKY = f"{LEAKED}, leaky split"
# Of the tables: without training, rivals, ours, and what no system can pass.
ROWS = (
    INPUT,
    *(name for name in SYSTEMS if not name.startswith("DiffusionCT") and name != INPUT),
    *(name for name in ALL_SYSTEMS if name not in SYSTEMS),
    LEAKY,
    ORACLE,
    *(name for name in SYSTEMS if name.startswith("DiffusionCT")),
    REGRESSION,
    REPEAT,
)
COSTLY = ("DDPM", "DiffusionCT (literal)")  # tens of times the seconds of the others: measured last


class Contender(Protocol):
    """A row.

    Attributes:
        name: Of the row.
        identity: Hash of what its images depend on beside what it is given.
        parameters: Weights of its networks.
        trained_seconds: What the training of a checkpoint took, all stages; 0 where that is not known here.
    """

    name: str
    identity: str
    parameters: int
    trained_seconds: float

    def can(self, test_set: TestSet) -> bool:
        """Whether it gives what a test set asks for."""

    def learn(self, pairs: Sequence[FittingPair]) -> None:
        """Fit."""

    def standardize(self, case: Case) -> np.ndarray:
        """(S, H, W) float32 HU."""


class OfSystem:
    """A system of the comparison.

    Args:
        name: Of the row.
        system: Loaded or new.
        folder: Where it was loaded from; None for one without files.
        of_target: Whether it is given the target: what it does to a slice that is right already.
    """

    def __init__(self, name: str, system: System, folder: Path | None = None, of_target: bool = False):
        self.name, self.system, self.of_target = name, system, of_target
        module = type(system).__module__.partition(".")[2]
        code = code_hash(module, "comparison.systems.in_scan", "comparison.study.measuring")
        self.identity = f"{system_id(name, folder, system)} {code} {torch.__version__}"
        self.parameters = sum(p.numel() for network in networks(system) for p in network.parameters())
        is_embedded = name in SYSTEMS and isinstance(system, DiffusionCT)
        self.trained_seconds = training_seconds(pipeline.PRETRAINED / "metrics.json") if is_embedded else 0.0

    def can(self, test_set: TestSet) -> bool:
        """A system with a fixed target gives that only."""
        return self.of_target or self.system.target_kernel in ("", test_set.target_kernel)

    def learn(self, pairs: Sequence[FittingPair]) -> None:
        """Fit."""
        self.system.fit(pairs)

    def standardize(self, case: Case) -> np.ndarray:
        """(S, H, W) float32 HU."""
        hu = case.target if self.of_target else case.source
        places = zip(hu, case.positions_mm)
        scan = (case.thickness_mm, SEED)
        return np.stack([standardize_in_scan(self.system, one, case.spacing_mm, z, *scan) for one, z in places])


class ScanOfCase:
    """Nothing of the source: a scan that the case holds.

    Args:
        name: Of the row: "target", the truth, or `REPEAT`, the target's kernel, the same tumour and other noise: what the
            source does not hold cannot come closer than this.
    """

    parameters = 0
    trained_seconds = 0.0

    def __init__(self, name: str):
        self.name, self.identity = name, f"{name} {code_hash('comparison.study.measuring')}"

    def can(self, test_set: TestSet) -> bool:
        """Whether there are such scans."""
        return all(self._scan(case) is not None for case in test_set.cases)

    def learn(self, pairs: Sequence[FittingPair]) -> None:
        """Nothing."""

    def standardize(self, case: Case) -> np.ndarray:
        """(S, H, W) float32 HU."""
        return self._scan(case)

    def _scan(self, case: Case) -> np.ndarray | None:
        return {TARGET_ROW: case.target, REPEAT: case.repeat}[self.name]


def contenders(options: StudyOptions, record: dict[str, Path]) -> Iterator[Contender]:
    """Those that are asked for and there, one by one, in the order of `ROWS`, but for `COSTLY`, which come last.

    Args:
        options: Of the study.
        record: Name of the row -> folder of each system that was trained.
    """
    wanted = options.systems or ROWS
    for name in sorted((name for name in ROWS if name in wanted), key=COSTLY.__contains__):
        if name in SYSTEMS:
            yield OfSystem(name, SYSTEMS[name]())
        elif name in record:
            yield OfSystem(name, load_system(LEAKED if name == LEAKY else name, record[name]), record[name])
        elif name == ORACLE and "encoder-decoder" in record:
            folder = record["encoder-decoder"]
            yield OfSystem(name, load_system("encoder-decoder", folder), folder, of_target=True)
        elif name == REGRESSION and options.regression is not None:
            yield OfSystem(name, DiffusionCT(options.regression, num_inference_steps=1))
        elif name == REPEAT:
            yield ScanOfCase(REPEAT)


def networks(system: System) -> list[torch.nn.Module]:
    """Of a system; none, where it is not made of any."""
    pipe = getattr(system, "pipe", None)
    return [part for part in ([system] if pipe is None else pipe.models) if isinstance(part, torch.nn.Module)]


def training_seconds(metrics: Path) -> float:
    """Of a checkpoint: scans, encoding and all stages of training, as its metrics.json has them; 0 without one."""
    if not metrics.is_file():
        return 0.0
    return sum(stage["seconds"] for stage in json.loads(metrics.read_text())["training"]["stages"])
