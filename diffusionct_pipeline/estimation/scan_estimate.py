"""Describe a scan for all its slices: its kernel, its noise, and positions of its latent."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from . import KernelEstimate

ID_DIGITS = 16  # hexadecimal, of SHA-256


@dataclass(frozen=True, eq=False)
class ScanEstimate:
    """Describe a scan as `DiffusionCTPipeline.estimate` does; the source of a standardization, or a reference.

    Results depend on the estimate. Pass the same one to standardize slices of one scan in several calls.

    Attributes:
        kernel: MTF and noise; None if neither skin nor homogeneous tissue shows them.
        tokens: Positions of the latents of some slices, (T, C) float16, not normalized.
    """

    kernel: KernelEstimate | None
    tokens: torch.Tensor

    @property
    def smoothed(self) -> float:
        """Return the probability that the noise was smoothed, 0 to 1; 0 where nothing is known."""
        return 0.0 if self.kernel is None else self.kernel.smoothed

    @property
    def told_by(self) -> str:
        """Return the evidence for the kernel in words."""
        return "nothing" if self.kernel is None else self.kernel.told_by

    def digest(self) -> str:
        """Return a hash of the estimate, as derived images name it."""
        kernel = "" if self.kernel is None else self.kernel.digest()
        return hashlib.sha256(kernel.encode() + self.tokens.cpu().numpy().tobytes()).hexdigest()[:ID_DIGITS]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, from which `from_json` creates the same estimate, bit for bit."""
        data = base64.b64encode(self.tokens.cpu().numpy().astype("<f2").tobytes()).decode()
        kernel = None if self.kernel is None else self.kernel.to_json()
        return {"kernel": kernel, "tokens": {"shape": list(self.tokens.shape), "float16": data}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ScanEstimate:
        """Read what `to_json` returned.

        Raises:
            ValueError: for any other value.
        """
        try:
            kernel, tokens = values["kernel"], values["tokens"]
            array = np.frombuffer(base64.b64decode(tokens["float16"], validate=True), "<f2").reshape(tokens["shape"])
            if array.ndim != 2 or not np.isfinite(array).all():
                raise ValueError(f"`tokens` must be finite and of shape (T, C), got shape {array.shape}")
            return cls(None if kernel is None else KernelEstimate.from_json(kernel), torch.from_numpy(array.copy()))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the estimate of the source cannot be read: {error}") from error
