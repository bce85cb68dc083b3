"""DiffusionCT as a system of the comparison: to its checkpoint's standard, to a reference, or adapted; and its ablations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ...adapt.pairs import SlicePair, adapted_pipeline
from ...estimation.scan_estimate import ScanEstimate
from ...image_processor import HUSlice
from ...method.step import Step
from ...pipeline import DiffusionCTPipeline
from ...utils.files import write_whole
from .protocol import FittingPair, System

REFERENCE_FILE = "reference.json"
WHOLE, NO_DIFFUSION, NO_SYNTHESIS = "", "diffusion", "synthesis"


class DiffusionCT(System):
    """The pipeline as it is; nothing is trained.

    Args:
        model: Checkpoint folder or "user/repo" on the Hub; None for the embedded checkpoint.
        by_reference: Whether `fit` uses the texture of the pairs' targets as the reference and ignores the sources.
            Otherwise the target is the checkpoint's standard, and `fit` does nothing.
        num_inference_steps: Denoising steps; None takes the number that the checkpoint recommends.
        seed: Seed of the noise of `standardize`.
        without: What an ablation leaves out: "" for nothing; "diffusion": the slice's own power, shifted by one curve,
            replaces what is sampled; "synthesis": no texture is synthesized either, and the curve acts as a filter.
        by_pairs: Whether `fit` adapts the checkpoint to the pairs.
        noise: "keep" the noise level (dose) of a scan, or take over that of the "target".

    Raises:
        ValueError: for any other `without`.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        by_reference: bool = False,
        num_inference_steps: int | None = None,
        seed: int = 0,
        without: str = WHOLE,
        by_pairs: bool = False,
        noise: str = "keep",
    ):
        if without not in (WHOLE, NO_DIFFUSION, NO_SYNTHESIS):
            raise ValueError(f'`without` must be "", "diffusion" or "synthesis", got {without!r}.')
        self.pipe = DiffusionCTPipeline.from_pretrained(model)
        self.pipe.set_progress_bar_config(disable=True)
        self.checkpoint = self.pipe  # what `fit` adapts
        self.by_reference, self.by_pairs, self.seed, self.without = by_reference, by_pairs, seed, without
        self.noise = noise
        self.num_inference_steps = num_inference_steps
        self.reference: ScanEstimate | None = None

    @property
    def target_kernel(self) -> str:
        """Kernel of the checkpoint's standard; "" where a reference or pairs decide."""
        return "" if self.by_reference or self.by_pairs else self.pipe.config["standard_name"]

    def fit(self, pairs: Iterable[FittingPair]) -> DiffusionCT:
        """Take the targets as the reference, adapt to the pairs, or do nothing; return the system itself."""
        load = self.pipe.image_processor.load
        if self.by_reference:
            references = [
                item for pair in pairs for item in load(pair.target, pair.spacing_mm, "reference", judge=False)
            ]
            self.reference = self.pipe.estimate(references)
        elif self.by_pairs:
            loaded = [load(hu, pair.spacing_mm, judge=False)[0] for pair in pairs for hu in (pair.source, pair.target)]
            self.pipe = adapted_pipeline(self.checkpoint, list(map(SlicePair, loaded[::2], loaded[1::2])))
        return self

    def standardize(self, hu: np.ndarray, pixel_spacing: float) -> np.ndarray:
        """Standardize (H, W) HU with pixels of `pixel_spacing` mm; return (H, W) float32 HU.

        Raises:
            ValueError: if the reference is missing, or for HU and spacings that the pipeline refuses.
        """
        return self.standardize_volume(hu[None], pixel_spacing)[0]

    def standardize_slice(
        self, hu: np.ndarray, pixel_spacing: float, position_mm: float, thickness_mm: float | None, seed: int
    ) -> np.ndarray:
        """Standardize one slice of a scan, whose noise is a field in space; see `System.standardize_slice`."""
        return self.standardize_volume(hu[None], pixel_spacing, [position_mm], thickness_mm, seed)[0]

    @torch.no_grad()
    def standardize_volume(
        self,
        hu: np.ndarray,
        pixel_spacing: float,
        positions_mm: Sequence[float] | None = None,
        thickness_mm: float | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Standardize slices of one scan, whose noise is a field in space.

        Args:
            hu: (N, H, W) HU.
            pixel_spacing: mm.
            positions_mm: Of each slice along their normal; None: all at 0.
            thickness_mm: Of a slice; None is 1.
            seed: Of the scan; None: `seed` of the constructor.

        Returns:
            (N, H, W) float32 HU.

        Raises:
            ValueError: as `standardize`.
        """
        if self.by_reference and self.reference is None:
            raise ValueError("DiffusionCT has no reference; call `fit` with pairs first.")
        if self.by_pairs and not self.pipe.denoiser.is_calibrated:
            raise ValueError("DiffusionCT is not adapted; call `fit` with pairs first.")
        pipe = self.pipe
        slices = pipe.image_processor.place(
            pipe.image_processor.load(hu, pixel_spacing, judge=False), positions_mm, thickness_mm
        )
        seeds = pipe.noise_seeds(slices, torch.Generator().manual_seed(self.seed if seed is None else seed))
        step = self._step(slices)
        make = self._without_diffusion if self.without else self._whole
        return np.stack([make(item, seed, step) for item, seed in zip(slices, seeds)])

    def _step(self, slices: Sequence[HUSlice]) -> Step | None:
        target = self.pipe.resolve_target()
        if self.reference is not None:
            target = self.pipe.reference_target(self.reference, "reference", "reference")
        return None if target is None else self.pipe.step(self.pipe.estimate(slices), target, self.noise)

    def _whole(self, item: HUSlice, seed: int, step: Step | None) -> np.ndarray:
        (result,) = self.pipe.standardize_batch([item], [seed], self.num_inference_steps, step)
        assert isinstance(result, np.ndarray)  # latents were not asked for
        return result

    def _without_diffusion(self, item: HUSlice, seed: int, step: Step | None) -> np.ndarray:
        if step is None:
            raise ValueError(f'`without` must be "" for a checkpoint with a fixed target, got {self.without!r}.')
        latent_a, skips, shape = self.pipe.encode_batch([item])  # [1,C,L]
        moved = self.pipe.denoiser.baseline(latent_a, step.shift)
        noise = None if self.without == NO_SYNTHESIS else self.pipe.noise([item], [seed], "texture", shape)
        (result,) = self.pipe.image_processor.postprocess(self.pipe.decode(moved, skips, noise), [item])
        return result

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the checkpoint and, beside it, the settings of this system."""
        self.pipe.save_pretrained(folder)
        reference = None if self.reference is None else self.reference.to_json()
        settings = {
            "by_reference": self.by_reference, "num_inference_steps": self.num_inference_steps, "seed": self.seed,
            "without": self.without, "by_pairs": self.by_pairs, "noise": self.noise, "reference": reference,
        }  # fmt: skip
        write_whole(Path(folder) / REFERENCE_FILE, json.dumps(settings, indent=2) + "\n")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DiffusionCT:
        """Load what `save_pretrained` wrote, or any checkpoint folder, whose standard is then the target.

        Raises:
            ValueError, OSError: naming the folder and the reason.
        """
        path = Path(folder) / REFERENCE_FILE
        settings = json.loads(path.read_text()) if path.is_file() else {}
        reference = settings.pop("reference", None)
        system = cls(folder, **settings)
        system.reference = None if reference is None else ScanEstimate.from_json(reference)
        return system
