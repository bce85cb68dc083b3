"""Paint implicit shapes on one axial slice: signed distances in mm, one-pixel ramps at the borders."""

from __future__ import annotations

import torch

AIR_HU = -1000.0


class Canvas:
    """Hold one axial slice of HU that shapes are painted on.

    Attributes:
        x, y: Pixel centres in mm, (1, M) and (M, 1); x to the patient's left, y posterior.
        z: Slice position in mm, cranial.
        hu: float32 (M, M).
    """

    def __init__(self, axis_mm: torch.Tensor, z_mm: float, background_hu: float = AIR_HU):
        self.x, self.y, self.z = axis_mm[None, :], axis_mm[:, None], float(z_mm)
        self.spacing_mm = float(axis_mm[1] - axis_mm[0])
        self.hu = torch.full((len(axis_mm), len(axis_mm)), background_hu, device=axis_mm.device)

    def coverage(self, distance_mm: torch.Tensor) -> torch.Tensor:
        """Return the covered share of each pixel in [0, 1] for a signed distance that is negative inside."""
        return (0.5 - distance_mm / self.spacing_mm).clamp(0, 1)

    def paint(
        self, value_hu: torch.Tensor | float, distance_mm: torch.Tensor, within: torch.Tensor | float = 1.0
    ) -> None:
        """Replace the HU inside a shape; `within` (coverage) limits the paint to another shape."""
        self.blend(value_hu, self.coverage(distance_mm) * within)

    def blend(self, value_hu: torch.Tensor | float, weight: torch.Tensor) -> None:
        """Blend in `value_hu` with a weight (M, M) of 0 to 1."""
        self.hu = self.hu + (value_hu - self.hu) * weight

    def disc(self, x_mm: float, y_mm: float, radius_mm: float) -> torch.Tensor:
        """Return the signed distance (M, M) in mm to a circle."""
        return torch.sqrt((self.x - x_mm) ** 2 + (self.y - y_mm) ** 2) - radius_mm

    def ellipse(self, x_mm: float, y_mm: float, half_width_mm: float, half_depth_mm: float) -> torch.Tensor:
        """Return the approximate signed distance (M, M) in mm to an ellipse."""
        r = torch.sqrt(((self.x - x_mm) / half_width_mm) ** 2 + ((self.y - y_mm) / half_depth_mm) ** 2)
        return (r - 1) * min(half_width_mm, half_depth_mm)

    def ball(self, centre_mm: tuple[float, float, float], half_axes_mm: tuple[float, float, float]) -> torch.Tensor:
        """Return the approximate signed distance (M, M) in mm to an ellipsoid cut by the slice."""
        (cx, cy, cz), (a, b, c) = centre_mm, half_axes_mm
        r = torch.sqrt(((self.x - cx) / a) ** 2 + ((self.y - cy) / b) ** 2 + ((self.z - cz) / c) ** 2)
        return (r - 1) * min(a, b, c)

    def capsules(self, segments: torch.Tensor) -> torch.Tensor:
        """Return the share of each pixel (M, M) covered by the union of capsules (n, 8): x0 y0 z0 x1 y1 z1 r0 r1 in mm."""
        size = self.hu.shape[0]
        flat = torch.zeros(size * size, device=self.hu.device)
        reach = segments[:, 6:8].amax(1) + self.spacing_mm
        low, high = segments[:, [2, 5]].amin(1) - reach, segments[:, [2, 5]].amax(1) + reach
        crossing = (low < self.z) & (high > self.z)
        segments, reach = segments[crossing], reach[crossing]
        if len(segments) == 0:
            return flat.reshape(size, size)
        # 1. The part of each axis that can touch the slice bounds a small square patch of pixels.
        start, step = segments[:, :3], segments[:, 3:6] - segments[:, :3]
        rise = torch.where(step[:, 2].abs() < 1e-6, torch.full_like(step[:, 2], 1e-6), step[:, 2])
        t0, t1 = (self.z - reach - start[:, 2]) / rise, (self.z + reach - start[:, 2]) / rise
        first = start + torch.minimum(t0, t1).clamp(0, 1)[:, None] * step
        last = start + torch.maximum(t0, t1).clamp(0, 1)[:, None] * step
        origin = float(self.x[0, 0])
        corner = ((torch.minimum(first, last)[:, :2] - reach[:, None] - origin) / self.spacing_mm).floor().long()
        extent = ((torch.maximum(first, last)[:, :2] + reach[:, None] - origin) / self.spacing_mm).ceil().long()
        side = (extent - corner).amax(1) + 1
        # 2. Patches of similar size are drawn together; where they overlap, the larger coverage is used.
        bound = 4
        while True:
            members = ((side <= bound) & (side > (bound // 2 if bound > 4 else 0))).nonzero()[:, 0]
            for part in members.split(max(1, 2**21 // bound**2)):
                self._draw_patches(flat, segments[part], corner[part], bound)
            if bound >= int(side.max()):
                return flat.reshape(size, size)
            bound *= 2

    def _draw_patches(self, flat: torch.Tensor, segments: torch.Tensor, corner: torch.Tensor, side: int) -> None:
        size = self.hu.shape[0]
        offset = torch.arange(side, device=flat.device)
        column, row = corner[:, 0, None] + offset, corner[:, 1, None] + offset  # [n,side]
        origin = float(self.x[0, 0])
        dx = column * self.spacing_mm + origin - segments[:, 0, None]
        dy = row * self.spacing_mm + origin - segments[:, 1, None]
        dz = (self.z - segments[:, 2])[:, None, None]
        ax, ay, az = (segments[:, 3:6] - segments[:, :3]).T[..., None, None]  # [n,1,1]
        dx, dy = dx[:, None, :], dy[:, :, None]
        t = ((dx * ax + dy * ay + dz * az) / (ax**2 + ay**2 + az**2 + 1e-9)).clamp(0, 1)  # [n,side,side]
        radius = segments[:, 6, None, None] + t * (segments[:, 7] - segments[:, 6])[:, None, None]
        distance = torch.sqrt((dx - t * ax) ** 2 + (dy - t * ay) ** 2 + (dz - t * az) ** 2) - radius
        inside = ((column >= 0) & (column < size))[:, None, :] & ((row >= 0) & (row < size))[:, :, None]
        index = row.clamp(0, size - 1)[:, :, None] * size + column.clamp(0, size - 1)[:, None, :]
        flat.scatter_reduce_(0, index.flatten(), (self.coverage(distance) * inside).flatten(), "amax")


class SmoothNoise:
    """Generate band-limited periodic noise in three dimensions with unit standard deviation.

    Args:
        grain_mm: Distance between the random nodes; structures are about twice as large.
        generator: CPU generator that the nodes are drawn from.
        nodes: Nodes along each side; the pattern repeats after `nodes * grain_mm`.
    """

    def __init__(
        self, grain_mm: float, generator: torch.Generator, nodes: int = 96, device: torch.device | str = "cpu"
    ):
        self.grain_mm, self.nodes = grain_mm, nodes
        volume = torch.randn(nodes, nodes, nodes, generator=generator)
        for dim in range(3):
            volume = volume.roll(1, dim) + 2 * volume + volume.roll(-1, dim)
        self.volume = (volume / volume.std()).to(device)

    def _weights(self, position_mm: torch.Tensor) -> torch.Tensor:
        """Return periodic linear interpolation as a matrix (len(position_mm), nodes)."""
        u = torch.remainder(position_mm / self.grain_mm, self.nodes)
        lower = u.floor()
        weights = torch.zeros(len(u), self.nodes, device=u.device)
        rows = torch.arange(len(u), device=u.device)
        weights[rows, lower.long() % self.nodes] = 1 - (u - lower)
        weights[rows, (lower.long() + 1) % self.nodes] += u - lower
        return weights

    def plane(self, axis_mm: torch.Tensor, z_mm: float) -> torch.Tensor:
        """Return the noise (M, M) on the slice at `z_mm`."""
        z_weights = self._weights(torch.tensor([float(z_mm)], device=axis_mm.device))[0]
        plane = torch.einsum("z,zyx->yx", z_weights, self.volume)
        in_plane = self._weights(axis_mm)
        return in_plane @ plane @ in_plane.T
