"""The learnt eye: log T of patches, how sure it is, and that two filters of a patch differ by exactly their curves."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..estimation.eye import PATCHES, ask_eye, error_moments
from ..image_processor import to_hu
from ..models.kernel_eye import KernelEye
from ..training_data.eye_patches import EyePatches, PatchSource, scan_sources, series_source
from ..training_data.scans import stored_groups
from .options import EyeOptions

logger = logging.getLogger(__name__)

SQUARE_WEIGHT, DIFFERENCE_WEIGHT = 0.3, 0.5  # beside the likelihood
LIKELIHOOD_POWER = 0.5  # of the variance by which it is weighted: hard patches must not be given up
LEVEL_LP_CM = (2.0, 5.0)  # where kernels differ and doses are told
STATED_FLOOR = 0.02  # of stated deviations
CALIBRATION_VERSIONS = 3  # times those of a validation
SHRINKAGE = 8.0  # versions that the unit matrix counts as many as


class EyeObjective(nn.Module):
    """Likelihood of log T, and the error of differences between two kernels of one place."""

    def __init__(self, model: KernelEye):
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: torch.Tensor,
        nyquist: torch.Tensor,
        log_mtf: torch.Tensor,
        told: torch.Tensor,
        trusted: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The fields of an `EyeBatch` -> losses by name."""
        mean, log_variance = (each.float() for each in self.model(sample, nyquist))
        error = mean - log_mtf
        weight = (told & trusted[:, None]).float()
        # Gaussian likelihood, weighted by a power of the variance (Seitzer et al. 2022, beta-NLL).
        likelihood = 0.5 * (error**2 * torch.exp(-log_variance) + log_variance)
        likelihood = _mean(likelihood * torch.exp(LIKELIHOOD_POWER * log_variance.detach()), weight)
        square = _mean(error**2, weight)
        difference = _mean((error[::2] - error[1::2]) ** 2, (told[::2] & told[1::2]).float())
        loss = likelihood + SQUARE_WEIGHT * square + DIFFERENCE_WEIGHT * difference
        return {"likelihood": likelihood, "square": square, "difference": difference, "loss": loss}


@dataclass(frozen=True, eq=False)
class EyeErrors:
    """What an eye said of series that it never learnt from, beside the truth.

    Attributes:
        error, deviation: (versions, frequencies) of log T, NaN where the pixels end; stated by the eye.
        sources: (versions,) index of each source.
    """

    error: np.ndarray
    deviation: np.ndarray
    sources: np.ndarray

    def scores(self, eye: KernelEye) -> dict[str, float]:
        """Errors of log T and of the level, 2 log T, over `LEVEL_LP_CM`, and of the stated level in deviations."""
        frequency = np.arange(1.0, self.error.shape[1] + 1)
        band = (frequency >= LEVEL_LP_CM[0]) & (frequency <= LEVEL_LP_CM[1])
        moments, levels, stated = error_moments(eye), [], []
        for error, deviation in zip(self.error, self.deviation):
            told = band & np.isfinite(error)
            levels.append(2 * error[told].mean())
            stated.append(2 * np.sqrt((moments * np.outer(deviation, deviation))[np.ix_(told, told)].mean()))
        return {
            "rms_log_mtf": float(np.sqrt(np.nanmean(self.error[:, band] ** 2))),
            "rms_level": float(np.sqrt(np.mean(np.square(levels)))),
            "rms_level_z": float(np.sqrt(np.mean((np.array(levels) / stated) ** 2))),
        }

    def moments(self) -> np.ndarray:
        """(N, N) second moments of error over deviation, shrunk to the unit matrix."""
        z = self.error / self.deviation.clip(STATED_FLOOR)
        seen = np.isfinite(z).astype(float)
        z = np.nan_to_num(z)
        return (z.T @ z + SHRINKAGE * np.eye(z.shape[1])) / (seen.T @ seen + SHRINKAGE)


class EyePhase:
    """What loop.train needs to know of the learnt eye."""

    def __init__(self, options: EyeOptions, device: torch.device):
        self.options, self.device = options, device
        eye = KernelEye.from_pretrained(options.init) if options.init else KernelEye(width=options.width)
        eye.error_moments.copy_(torch.eye(eye.config.frequencies))
        self.grid = {"pixel_mm": eye.config.pixel_mm, "patch_pixels": eye.config.patch_pixels}
        simulated, held_out = self._simulated()
        self.held_out = [*self._real(options.held_out), *held_out]
        self.patches = EyePatches(self._real(options.series), simulated, eye.config.frequencies, **self.grid)
        self.objective = EyeObjective(eye).to(device)

    def batch(self, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Arguments of the objective for a step."""
        drawn = self.patches.batch(self.options.batch_size, generator)
        fields = (drawn.sample, drawn.nyquist, drawn.log_mtf, drawn.told, drawn.trusted)
        return tuple(each.to(self.device) for each in fields)

    def validate(self, objective: nn.Module) -> dict[str, float]:
        """Errors on series that were held out, nothing without any."""
        if not self.held_out:
            return {}
        return self.errors(objective.model, self.options.validation_pairs).scores(objective.model)

    def errors(self, eye: KernelEye, versions: int) -> EyeErrors:
        """Ask the eye about versions of every held-out source whose log T is known; the first one is as it is."""
        rng, error, deviation, sources = np.random.default_rng(self.options.seed), [], [], []
        for index, source in enumerate(self.held_out):
            for version in range(versions if source.trusted else 0):
                drawn = self.patches.series(source, PATCHES, rng, plain=version == 0)
                found, stated = ask_eye(eye, to_hu(drawn.sample)[:, 0].numpy(), 5 / float(drawn.nyquist[0]))
                error.append(np.where(drawn.told[0], found - drawn.log_mtf[0].numpy(), np.nan))
                deviation.append(stated)
                sources.append(index)
        return EyeErrors(np.array(error), np.array(deviation), np.array(sources))

    def save(self, objective: nn.Module, folder: Path, summary: dict) -> None:
        """Write the eye with what is known of its errors, and the summary."""
        eye = objective.model
        if self.held_out and self.options.validation_pairs:
            errors = self.errors(eye, CALIBRATION_VERSIONS * self.options.validation_pairs)
            eye.error_moments.copy_(torch.from_numpy(errors.moments()))
            summary = summary | {"validation": errors.scores(eye)}
        summary = summary | {"parameters": sum(p.numel() for p in eye.parameters())}
        eye.save_pretrained(folder / "eye")
        (folder / "metrics.json").write_text(json.dumps({"eye": summary}, indent=2) + "\n")

    def _simulated(self) -> tuple[list[PatchSource], list[PatchSource]]:
        """Sources to learn from, and those held out."""
        options = self.options
        if not options.scans:
            return [], []
        groups = stored_groups(options.scans)[: options.groups or None]
        found = [sources for group in groups if (sources := scan_sources(options.scans, group, **self.grid))]
        split = max(len(found) - options.held_out_groups, 0)
        return sum(found[:split], []), sum(found[split:], [])

    def _real(self, folders: Sequence[str]) -> list[PatchSource]:
        sources = []
        for folder in folders:
            found = series_source(folder, **self.grid)
            if found is None:
                logger.warning('"%s" is left out: nothing tells its kernel, or no patch lies within the body', folder)
                continue
            source, estimate = found
            words = "its kernel is known by" if source.trusted else "differences only, not sure enough by"
            logger.info('"%s": %d patches, %s %s', folder, len(source.hu), words, estimate.told_by)
            sources.append(source)
        return sources


def _mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)
