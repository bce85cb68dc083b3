"""The rows of the comparison: systems by name, and the scans that they are compared with."""

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
from .code import code_hash
from .options import StudyOptions
from .test_sets import Case, TestSet

ORACLE, REPEAT_SCAN, REGRESSION = "encoder-decoder, of the target", "repeat scan", "DiffusionCT, regression"
SEED = 0  # of the noise of every scan
INPUT, TARGET_ROW = "input", "target"
MEASURING = "comparison.study.measuring"  # module that the measurements of all rows depend on
LEAKED = "U-Net, L1"  # also trained on the phantoms of the test, as the paper splits its data
LEAKY = f"{LEAKED}, leaky split"
# In the order of the tables: without training, rivals, ours, and the bound for all systems.
ROWS = (
    INPUT,
    *(name for name in SYSTEMS if not name.startswith("DiffusionCT") and name != INPUT),
    *(name for name in ALL_SYSTEMS if name not in SYSTEMS),
    LEAKY,
    ORACLE,
    *(name for name in SYSTEMS if name.startswith("DiffusionCT")),
    REGRESSION,
    REPEAT_SCAN,
)
COSTLY = ("DDPM", "DiffusionCT (literal)")  # tens of times slower than the others: measured last


class Row(Protocol):
    """A row of the tables.

    Attributes:
        name: Name of the row.
        identity: Hash of everything that its images depend on, apart from its input.
        parameters: Number of weights of its networks.
        trained_seconds: Duration of all training stages of its checkpoint; 0 where it is not known here.
    """

    name: str
    identity: str
    parameters: int
    trained_seconds: float

    def can(self, test_set: TestSet) -> bool:
        """Return whether it produces the target of a test set."""

    def learn(self, pairs: Sequence[FittingPair]) -> None:
        """Fit to pairs."""

    def standardize(self, case: Case) -> np.ndarray:
        """Return (S, H, W) float32 HU."""


class SystemRow:
    """A system of the comparison.

    Args:
        name: Name of the row.
        system: The system, loaded or new.
        folder: Where it was loaded from; None for one without files.
        of_target: Whether its input is the target, to show what it does to a slice that is right already.
    """

    def __init__(self, name: str, system: System, folder: Path | None = None, of_target: bool = False):
        self.name, self.system, self.of_target = name, system, of_target
        module = type(system).__module__.partition(".")[2]
        code = code_hash(module, MEASURING)
        self.identity = f"{system_id(name, folder, system)} {code} {torch.__version__}"
        self.parameters = sum(p.numel() for network in networks_of(system) for p in network.parameters())
        is_embedded = name in SYSTEMS and isinstance(system, DiffusionCT)
        self.trained_seconds = training_seconds(pipeline.PRETRAINED / "metrics.json") if is_embedded else 0.0

    def can(self, test_set: TestSet) -> bool:
        """Return whether its target is that of the test set; a fixed target is the only one of a system."""
        return self.of_target or self.system.target_kernel in ("", test_set.target_kernel)

    def learn(self, pairs: Sequence[FittingPair]) -> None:
        """Fit the system to pairs."""
        self.system.fit(pairs)

    def standardize(self, case: Case) -> np.ndarray:
        """Return (S, H, W) float32 HU."""
        hu = case.target if self.of_target else case.source
        places = zip(hu, case.positions_mm)
        scan = (case.thickness_mm, SEED)
        return np.stack([self.system.standardize_slice(one, case.spacing_mm, z, *scan) for one, z in places])


class ScanRow:
    """A scan that the case holds, in place of a result.

    Args:
        name: Name of the row: "target", the truth; or `REPEAT_SCAN`, the same tumour under the target's kernel with other
            noise, which no system can come closer than in what the source does not contain.
    """

    parameters = 0
    trained_seconds = 0.0

    def __init__(self, name: str):
        self.name, self.identity = name, f"{name} {code_hash(MEASURING)}"

    def can(self, test_set: TestSet) -> bool:
        """Return whether all cases have such a scan."""
        return all(self._scan(case) is not None for case in test_set.cases)

    def learn(self, pairs: Sequence[FittingPair]) -> None:
        """Do nothing."""

    def standardize(self, case: Case) -> np.ndarray:
        """Return (S, H, W) float32 HU.

        Raises:
            ValueError: if the case has no such scan.
        """
        scan = self._scan(case)
        if scan is None:
            raise ValueError(f'"{case.name}" has no {self.name}.')
        return scan

    def _scan(self, case: Case) -> np.ndarray | None:
        return {TARGET_ROW: case.target, REPEAT_SCAN: case.repeat}[self.name]


def make_rows(options: StudyOptions, record: dict[str, Path]) -> Iterator[Row]:
    """Yield the requested rows that are available, in the order of `ROWS`, with `COSTLY` ones last.

    Args:
        options: Options of the study.
        record: Name of the row -> folder of each system that was trained.
    """
    wanted = options.systems or ROWS
    for name in sorted((name for name in ROWS if name in wanted), key=COSTLY.__contains__):
        if name in SYSTEMS:
            yield SystemRow(name, SYSTEMS[name]())
        elif name in record:
            yield SystemRow(name, load_system(LEAKED if name == LEAKY else name, record[name]), record[name])
        elif name == ORACLE and "encoder-decoder" in record:
            folder = record["encoder-decoder"]
            yield SystemRow(name, load_system("encoder-decoder", folder), folder, of_target=True)
        elif name == REGRESSION and options.regression is not None:
            yield SystemRow(name, DiffusionCT(options.regression, num_inference_steps=1))
        elif name == REPEAT_SCAN:
            yield ScanRow(REPEAT_SCAN)


def networks_of(system: System) -> list[torch.nn.Module]:
    """Return the networks of a system; none where it has none."""
    if isinstance(system, DiffusionCT):
        return system.pipe.models
    return [system] if isinstance(system, torch.nn.Module) else []


def training_seconds(metrics: Path) -> float:
    """Return the duration of a checkpoint's scans, encoding and training from its metrics.json.

    0 stands for a duration that is not known: without that file, and where the weights were not trained in one go.
    """
    if not metrics.is_file():
        return 0.0
    training = json.loads(metrics.read_text())["training"]
    seconds = [stage.get("seconds") for stage in training["stages"]]
    return 0.0 if "not in one go" in training or None in seconds else float(sum(seconds))
