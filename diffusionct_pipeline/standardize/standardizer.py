"""Define what a run over a folder needs of `DiffusionCTPipeline`, or of a system of the comparison in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ..image_processor import CTImageProcessor, HUSlice
from ..method.provenance import Derivation
from ..method.step import Step, Target


class Standardizer(Protocol):
    """Standardize slices in HU, and say what their headers note about it.

    Attributes:
        image_processor: Reads slices and places them in their scan.
        config: Its `default_num_inference_steps` are the denoising steps where the user names none; None where there are none.
    """

    image_processor: CTImageProcessor

    @property
    def config(self) -> Any:
        """Return the configuration of the checkpoint."""

    @property
    def device(self) -> torch.device:
        """Return where networks run."""

    def check_inputs(
        self,
        num_inference_steps: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        batch_size: int | None,
        output_type: str,
        callback_on_step_end_tensor_inputs: Sequence[str],
        num_samples: int = 1,
    ) -> None:
        """Raise ValueError or TypeError, naming the argument."""

    def resolve_target(
        self, target: str | None = None, references: Sequence[HUSlice] = (), batch_size: int | None = None
    ) -> Target | None:
        """Find the target of a kernel by name or of references; None where it is fixed.

        Raises:
            ValueError: naming the argument.
        """

    def require_no_target(self, target: str | None, noise: str | float, source: Any) -> None:
        """Raise ValueError on options that have no effect where the target is fixed."""

    def derivation(self, num_inference_steps: int, target: Target | None = None) -> Derivation:
        """Return what derived images say about how they were made."""

    def batches(self, slices: Sequence[HUSlice], batch_size: int | None) -> list[list[int]]:
        """Return the indices of slices that go through the networks together."""

    def noise_seeds(self, slices: Sequence[HUSlice], generator: torch.Generator) -> list[int]:
        """Return one noise seed for each slice."""

    def encode_batch(self, slices: Sequence[HUSlice]) -> Any:
        """Encode what the samples of a batch share; `standardize_batch` takes it as `encoded`."""

    def standardize_batch(
        self,
        slices: Sequence[HUSlice],
        seeds: Sequence[int],
        num_inference_steps: int | None = None,
        step: Step | None = None,
        *,
        encoded: Any = None,
    ) -> list[np.ndarray]:
        """Standardize slices with their noise seeds: (H, W) float32 HU each."""
