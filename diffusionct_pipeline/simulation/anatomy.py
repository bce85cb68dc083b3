"""Draw the parameters of one chest, and define the surfaces that several of its layers share."""

from __future__ import annotations

import math

import torch

from .shapes import Canvas


class Anatomy:
    """Describe one chest: sizes in mm, HU, and signed distances (mm, negative inside) for any broadcastable x, y, z.

    Args:
        style: "human" or "lungman".
        generator: CPU generator that the parameters are drawn from.
    """

    def __init__(self, style: str, generator: torch.Generator):
        self.style = style

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand(1, generator=generator).item()

        human = style == "human"
        # Half axes in mm of the body and of the cavity inside the ribs.
        self.body = (uniform(148, 163), uniform(99, 112))
        self.cavity = (self.body[0] - uniform(24, 31), self.body[1] - uniform(19, 23))
        self.fat_mm = uniform(5, 13) if human else 3.0
        self.breasts_mm = uniform(10, 26) if human and uniform(0, 1) < 0.5 else 0.0
        enhanced = human and uniform(0, 1) < 0.5
        self.blood_hu = uniform(110, 260) if enhanced else uniform(38, 46)
        self.muscle_hu, self.liver_hu = 52.0, uniform(50, 64) + (40 if enhanced else 0)
        self.heart_centre = (uniform(20, 30), uniform(-28, -20), uniform(-45, -35))
        self.heart_axes = (uniform(58, 66), uniform(42, 48), uniform(50, 58))
        self.heart_turn = math.radians(uniform(25, 40))  # long axis points to the left and forward
        self.domes_mm = (uniform(-70, -52), uniform(-82, -64))  # tops of the diaphragm, right and left
        self.rib_spacing, self.rib_phase, self.rib_drop = uniform(23, 26), uniform(0, 24), uniform(62, 78)
        self.disc_spacing, self.disc_phase = uniform(23, 26), uniform(0, 24)
        self.emphysema = max(0.0, uniform(-1.0, 1.0)) if human else 0.0
        nodes = torch.rand(26, 3, generator=generator) * torch.tensor([56.0, 56.0, 130.0])
        self.lymph_nodes = (nodes - torch.tensor([28.0, 32.0, 40.0])).tolist()
        self.lymph_node_radii = (1.5 + 4 * torch.rand(26, generator=generator) ** 2).tolist()

    def taper(self, z: torch.Tensor | float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the size of the cavity's section relative to the largest, and the backward shift of its centre in mm."""
        rise = (torch.as_tensor(z) / 138).clamp(0, 1)
        scale = (1 - rise**2.4).clamp(min=0.03) ** 0.5
        return scale, 0.55 * self.cavity[1] * (1 - scale)

    def cavity_distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor | float) -> torch.Tensor:
        """Return the signed distance in mm to the wall of the chest cavity, negative inside."""
        scale, shift = self.taper(z)
        a, b = self.cavity[0] * scale, self.cavity[1] * scale
        r = ((x.abs() / a) ** 2.3 + ((y - shift).abs() / b) ** 2.3) ** (1 / 2.3)
        return (r - 1) * torch.minimum(a, b) * 0.92

    def heart_radius(
        self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor | float, growth_mm: float = 0.0
    ) -> torch.Tensor:
        """Return the relative radius, 1 on the heart's surface; the long axis is turned in the axial plane."""
        dx, dy, dz = x - self.heart_centre[0], y - self.heart_centre[1], z - self.heart_centre[2]
        cos, sin = math.cos(self.heart_turn), math.sin(self.heart_turn)
        along, across = cos * dx - sin * dy, sin * dx + cos * dy
        a, b, c = (axis + growth_mm for axis in self.heart_axes)
        return torch.sqrt((along / a) ** 2 + (across / b) ** 2 + (dz / c) ** 2)

    def dome_height(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the height in mm of the diaphragm above (x, y)."""
        right = x < 0
        top = torch.where(right, self.domes_mm[0], self.domes_mm[1])
        centre = torch.where(right, -0.5, 0.5) * self.cavity[0]
        r2 = ((x - centre) / (0.62 * self.cavity[0])) ** 2 + 1.1 * ((y + 8) / self.cavity[1]) ** 2
        return top - 30 * r2 - 12 * r2**2

    def lung_distance(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor | float) -> torch.Tensor:
        """Return the signed distance in mm to the lungs, negative inside."""
        z = torch.as_tensor(z, dtype=x.dtype, device=x.device)
        distance = self.cavity_distance(x, y, z) + 1.5
        _, shift = self.taper(z)
        # Half width of the mediastinum: wide at the hila and at the inlet, narrow behind the sternum.
        width = (
            17
            + 11 * torch.exp(-(((y - 5) / 30) ** 2))
            + 8 * torch.exp(-(((z - 12) / 28) ** 2)) * torch.exp(-(((y - 5) / 22) ** 2))
            - 9 * torch.exp(-(((y - shift + self.cavity[1]) / 26) ** 2))
            + 6 * torch.exp(-(((z - 75) / 30) ** 2))
        )
        distance = torch.maximum(distance, width - x.abs())
        heart = (1 - self.heart_radius(x, y, z, growth_mm=5.0)) * min(self.heart_axes)
        distance = torch.maximum(distance, heart)
        spine = (1 - torch.sqrt((x / 26) ** 2 + ((y - self.cavity[1] + 20) / 28) ** 2)) * 26
        distance = torch.maximum(distance, spine)
        aorta = 15 - torch.sqrt((x - 22) ** 2 + (y - 38) ** 2)
        distance = torch.maximum(distance, aorta.clamp(max=48 - z))  # it ends at the arch
        return torch.maximum(distance, self.dome_height(x, y) - z)

    def around_chest(self, canvas: Canvas) -> torch.Tensor:
        """Return the angle round the cavity, 0 at the spine and pi at the sternum, (M, M)."""
        scale, shift = self.taper(canvas.z)
        return torch.atan2(
            canvas.x.abs() / (self.cavity[0] * scale + 4.2), (canvas.y - shift) / (self.cavity[1] * scale + 4.2)
        )
