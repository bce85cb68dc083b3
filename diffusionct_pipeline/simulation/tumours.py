"""Define lung tumours as implicit shapes: lobulated spheres, optionally with spicules or a soft border."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .shapes import Canvas

HUMAN_KINDS = ("solid", "ground-glass", "nodule")
LUNGMAN_KINDS = ("insert+100", "insert-630", "insert+100")
# Mean HU and range of radii in mm. The Lungman's inserts have +100, -630 and -800 HU and are 3 to 12 mm across; these are
# larger, so that texture features have enough voxels.
HU_AND_RADIUS = {
    "solid": (40.0, (9.0, 16.0)),
    "ground-glass": (-560.0, (8.0, 13.0)),
    "nodule": (70.0, (4.0, 6.5)),
    "insert+100": (100.0, (5.0, 10.0)),
    "insert-630": (-630.0, (6.0, 10.0)),
}
MIN_DISTANCE_MM = 34.0  # between centres: two of the largest do not touch


@dataclass(frozen=True)
class Tumour:
    """Describe one tumour.

    Attributes:
        label: Value in the mask, 1, 2, ...
        kind: Key of `HU_AND_RADIUS`.
        centre_mm: (x, y, z). radius_mm: Mean radius.
        hu: Mean HU of the core.
        lobes: (m, 5) wave vector, phase and amplitude of the surface's undulation.
        spicules: Capsules (n, 8) or None; they are tissue but not part of the mask.
    """

    label: int
    kind: str
    centre_mm: tuple[float, float, float]
    radius_mm: float
    hu: float
    lobes: torch.Tensor
    spicules: torch.Tensor | None

    def distance(self, x: torch.Tensor, y: torch.Tensor, z: float) -> torch.Tensor:
        """Return the signed distance in mm (approximate: along the ray from the centre), negative inside."""
        dx, dy, dz = x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2]
        r = torch.sqrt(dx**2 + dy**2 + dz**2).clamp(min=1e-3)
        if len(self.lobes) == 0:
            return r - self.radius_mm
        undulation = 0
        for wx, wy, wz, phase, amplitude in self.lobes.tolist():
            undulation = undulation + amplitude * torch.cos((wx * dx + wy * dy + wz * dz) / r + phase)
        return r - self.radius_mm * (1 + undulation)

    def paint(self, canvas: Canvas, fine: torch.Tensor, coarse: torch.Tensor, lung: torch.Tensor) -> None:
        """Paint the tumour on a slice; `fine` and `coarse` are noise planes, `lung` the lung's coverage, all (M, M)."""
        if abs(canvas.z - self.centre_mm[2]) > 2.2 * self.radius_mm:
            return
        # 1. Only the pixels around the tumour.
        columns = _span(canvas.x[0], self.centre_mm[0], 2 * self.radius_mm)
        rows = _span(canvas.y[:, 0], self.centre_mm[1], 2 * self.radius_mm)
        distance = self.distance(canvas.x[:, columns], canvas.y[rows], canvas.z)
        tissue, fine, coarse = canvas.hu[rows, columns], fine[rows, columns], coarse[rows, columns]
        if self.kind == "ground-glass":
            # 2a. Hazy: vessels stay visible and the border is 3.5 mm wide.
            weight = (0.5 - distance / 3.5).clamp(0, 1)
            haze = tissue + (self.hu + 60 * fine + 60 * coarse - tissue) * weight
            canvas.hu[rows, columns] = torch.maximum(tissue, haze)
            return
        # 2b. A core, in solid tumours with texture and a darker centre.
        core: torch.Tensor | float = self.hu
        if self.kind == "solid":
            core = self.hu + 14 * coarse + 12 * fine
            core = core - 22 * canvas.coverage(distance + 0.55 * self.radius_mm + 1.5 * coarse)
        canvas.hu[rows, columns] = tissue + (core - tissue) * canvas.coverage(distance)
        if self.spicules is not None:
            strands = canvas.capsules(self.spicules) * lung
            canvas.hu = torch.maximum(canvas.hu, canvas.hu + (10 - canvas.hu) * strands)


def _span(axis_mm: torch.Tensor, centre_mm: float, reach_mm: float) -> slice:
    """Return the index range of an axis within reach of a centre."""
    near = ((axis_mm - centre_mm).abs() <= reach_mm).nonzero()[:, 0]
    return slice(int(near[0]), int(near[-1]) + 1) if len(near) else slice(0, 0)


def place_tumours(
    candidates_mm: torch.Tensor, number: int, style: str, generator: torch.Generator, device: torch.device | str = "cpu"
) -> list[Tumour]:
    """Draw tumours at candidate points well inside the lungs.

    Args:
        candidates_mm: (N, 3) points at least a tumour radius away from the pleura.
        number: Number of tumours; the kinds of the style are used in turn.

    Raises:
        ValueError: if `number` tumours do not fit.
    """
    kinds = HUMAN_KINDS if style == "human" else LUNGMAN_KINDS
    tumours, free = [], candidates_mm
    for label in range(1, number + 1):
        if len(free) == 0:
            raise ValueError(
                f"`tumours` must be at most {label - 1}, which fit into this phantom's lungs, got {number}"
            )
        kind = kinds[(label - 1) % len(kinds)]
        centre = free[int(torch.randint(len(free), (1,), generator=generator))]
        free = free[(free - centre).norm(dim=1) > MIN_DISTANCE_MM]
        hu, (smallest, largest) = HU_AND_RADIUS[kind]
        radius = smallest + (largest - smallest) * torch.rand(1, generator=generator).item()
        waves = _unit(16, generator) * (2 + 7 * torch.rand(16, 1, generator=generator) ** 1.5)
        phase = 6.283 * torch.rand(16, 1, generator=generator)
        amplitude = torch.full((16, 1), 0.018 if kind == "nodule" or style == "lungman" else 0.035)
        spicules = None
        if kind == "solid":
            direction = _unit(60, generator)
            reach = radius * (1.15 + 0.75 * torch.rand(60, 1, generator=generator) ** 1.5)
            taper = torch.tensor([[1.3, 0.3]]).expand(60, 2)
            spicules = torch.cat([centre + 0.7 * radius * direction, centre + reach * direction, taper], 1).to(device)
        tumours.append(
            Tumour(label, kind, tuple(centre.tolist()), radius, hu, torch.cat([waves, phase, amplitude], 1), spicules)
        )
    return tumours


def _unit(n: int, generator: torch.Generator) -> torch.Tensor:
    vectors = torch.randn(n, 3, generator=generator)
    return vectors / vectors.norm(dim=1, keepdim=True)
