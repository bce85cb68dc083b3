"""Generate a procedural chest: `ChestPhantom(seed).slice_hu(z_mm)` paints one axial slice in HU, layer upon layer.

Coordinates are mm as in DICOM: x to the patient's left, y posterior, z cranial (0 near the lower pulmonary veins).
Every structure is an implicit shape, so a slice can be evaluated at any height and on any grid. Anatomy is drawn from
the seed; nothing here comes from a patient's image.
"""

from __future__ import annotations

import math

import torch

from . import skeleton, soft_tissue
from .anatomy import Anatomy
from .shapes import AIR_HU, Canvas, SmoothNoise
from .tumours import place_tumours
from .vessels import grow_tree

STYLES = ("human", "lungman")
Z_RANGE_MM = (-158.0, 158.0)  # 63 slices of 5 mm
SUBSLICE_MM = 1.0  # a slab is the mean of at least two point slices, at most this far apart


class ChestPhantom:
    """Generate a chest with bones, mediastinum, liver, vessel trees, airways and tumours.

    Args:
        seed: Seed of the whole anatomy; the same seed gives the same phantom.
        style: "human" (parenchyma near -870 HU with texture, fat, half of them with contrast-enhanced blood) or
            "lungman" (a plastic phantom: air and vessels in the lungs, uniform soft tissue, round inserts).
        tumours: Number of lung tumours.
        size: Pixels along each side of the default grid. spacing_mm: Its pixel size.
        device: Device on which slices are computed.

    Raises:
        ValueError: for an unknown style, or if the tumours do not fit.
    """

    def __init__(
        self,
        seed: int,
        style: str = "human",
        *,
        tumours: int = 3,
        size: int = 1024,
        spacing_mm: float = 0.35,
        device: torch.device | str = "cpu",
    ):
        if style not in STYLES:
            raise ValueError(f"`style` must be one of {', '.join(STYLES)}, got {style!r}")
        self.seed, self.style, self.device = seed, style, torch.device(device)
        self.size, self.spacing_mm, self.z_range_mm = size, spacing_mm, Z_RANGE_MM
        generator = torch.Generator().manual_seed(seed)
        self.anatomy = Anatomy(style, generator)
        self._fine = SmoothNoise(1.2, generator, device=self.device)
        self._coarse = SmoothNoise(5.0, generator, device=self.device)
        self._grow_lungs(generator, tumours)

    def slice_hu(self, z_mm: float) -> torch.Tensor:
        """Return a noise-free slice without thickness.

        Args:
            z_mm: Height in `z_range_mm`.

        Returns:
            float32 (size, size) HU on pixels of `spacing_mm`; the centre is pixel (size // 2, size // 2).

        Raises:
            ValueError: if z_mm is outside `z_range_mm`.
        """
        if not self.z_range_mm[0] <= z_mm <= self.z_range_mm[1]:
            raise ValueError(f"`z_mm` must be between {self.z_range_mm[0]} and {self.z_range_mm[1]}, got {z_mm}")
        canvas, anatomy = Canvas(self._axis(), z_mm), self.anatomy
        tissue = 0.0 if self.style == "lungman" else 1.0  # no tissue texture in plastic
        fine, coarse = self._fine.plane(canvas.x[0], z_mm), self._coarse.plane(canvas.x[0], z_mm)  # [M,M]
        texture = (tissue * fine, tissue * coarse)
        # 1. From the outside in; later layers cover earlier ones.
        skin = soft_tissue.paint_body_wall(canvas, anatomy, tissue * fine, coarse, tissue)
        soft_tissue.paint_mediastinum(canvas, anatomy, *texture)
        soft_tissue.paint_abdomen(canvas, anatomy, self.liver_vessels, *texture)
        lung, parenchyma = self._paint_lungs(canvas, fine, coarse)
        # 2. Inside the lungs.
        self._paint_vessels(canvas, lung, parenchyma)
        for tumour in self.tumours:
            tumour.paint(canvas, *texture, lung)
        self._paint_airways(canvas)
        # 3. Bones and the table.
        skeleton.paint_ribs(canvas, anatomy, texture[0], skin)
        skeleton.paint_spine_and_sternum(canvas, anatomy, *texture)
        skeleton.paint_shoulder_girdle(canvas, anatomy, skin)
        skeleton.paint_table(canvas, anatomy, skin)
        return canvas.hu

    def slab_hu(self, z_mm: float, thickness_mm: float) -> torch.Tensor:
        """Return a noise-free slice of a thickness, centred on `z_mm`: the mean of point slices, float32 (size, size) HU."""
        heights = self._subslices(z_mm, thickness_mm)
        total = torch.zeros((), device=self.device)
        for z in heights:
            total = total + self.slice_hu(z)
        return total / len(heights)

    def tumour_mask(
        self,
        z_mm: float,
        thickness_mm: float = 0.0,
        *,
        spacing_mm: float | None = None,
        size: int | None = None,
        centre_mm: tuple[float, float] = (0.0, 0.0),
    ) -> torch.Tensor:
        """Return tumour labels on any grid: uint8 (size, size), 0 outside, 1.. inside the tumour of that label.

        A pixel belongs to a tumour if at least half of the slab's thickness at its centre does. Spicules do not count.
        """
        spacing_mm, size = spacing_mm or self.spacing_mm, size or self.size
        axis = (torch.arange(size, device=self.device) - size // 2) * spacing_mm
        x, y = axis[None, :] + centre_mm[0], axis[:, None] + centre_mm[1]
        heights = self._subslices(z_mm, thickness_mm)
        mask = torch.zeros(size, size, dtype=torch.uint8, device=self.device)
        for tumour in self.tumours:
            if abs(z_mm - tumour.centre_mm[2]) > thickness_mm / 2 + 2 * tumour.radius_mm:
                continue
            inside = sum((tumour.distance(x, y, z) < 0).float() for z in heights) / len(heights)
            mask[inside >= 0.5] = tumour.label
        return mask

    def _grow_lungs(self, generator: torch.Generator, tumours: int) -> None:
        span = torch.tensor([2 * self.anatomy.cavity[0], 2.3 * self.anatomy.cavity[1], 260.0])
        points = (torch.rand(90000, 3, generator=generator) - 0.5) * span + torch.tensor([0.0, 0.0, 5.0])
        depth = self.anatomy.lung_distance(points[:, 0], points[:, 1], points[:, 2])
        vessels, bronchi = [], []
        for side in (-1, 1):
            inside = points[(depth < -1.5) & (points[:, 0] * side > 0)]
            hilum = torch.tensor([side * 30.0, 8.0, 18.0])
            number = min(len(inside) // 3, 5000)
            arteries, veins, airways = inside[:number], inside[number : 2 * number], inside[2 * number :][:110]
            vein_root, bronchus_root = hilum + torch.tensor([-2.0 * side, -8, -18]), hilum + torch.tensor([0.0, 6, 4])
            # leaf radius .25 mm and exponent 2.7 give hilar vessels of 6 to 7 mm radius
            vessels.append(grow_tree(hilum, arteries, 0.25, 2.7, 7.0, generator))
            vessels.append(grow_tree(vein_root, veins, 0.25, 2.7, 6.5, generator))
            bronchi.append(grow_tree(bronchus_root, airways, 0.5, 2.6, 3.4, generator))
        self.vessels, self.bronchi = torch.cat(vessels).to(self.device), torch.cat(bronchi).to(self.device)
        liver = (torch.rand(90, 3, generator=generator) - 0.5) * torch.tensor([150.0, 120, 80])
        liver = liver + torch.tensor([-60.0, 0, -115])
        self.liver_vessels = grow_tree(torch.tensor([-20.0, 15, -70]), liver, 0.8, 2.6, 5.0, generator).to(self.device)
        if self.style == "human":
            self.bronchus_walls = self.bronchi.clone()
            self.bronchus_walls[:, 6:] = 1.16 * self.bronchi[:, 6:] + 0.35  # wall: .35 mm and a sixth of the radius
        deep = points[(depth < -17) & (points[:, 2] > -45) & (points[:, 2] < 85)]
        self.tumours = place_tumours(deep, tumours, self.style, generator, self.device)

    def _axis(self) -> torch.Tensor:
        return (torch.arange(self.size, device=self.device) - self.size // 2) * self.spacing_mm

    @staticmethod
    def _subslices(z_mm: float, thickness_mm: float) -> list[float]:
        if thickness_mm == 0:
            return [z_mm]
        number = max(2, math.ceil(thickness_mm / SUBSLICE_MM - 1e-6))
        step = thickness_mm / number
        return [z_mm - thickness_mm / 2 + step * (i + 0.5) for i in range(number)]

    def _paint_lungs(
        self, canvas: Canvas, fine: torch.Tensor, coarse: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x, y, z = canvas.x, canvas.y, canvas.z
        distance = self.anatomy.lung_distance(x, y, z) + 0.6 * coarse
        lung = canvas.coverage(distance)
        if self.style == "lungman":
            parenchyma = torch.full_like(lung, -985.0)
            canvas.blend(parenchyma, lung)
            return lung, parenchyma
        parenchyma = -872 + 0.28 * (y + 20) + 14 * coarse + 22 * fine  # denser at the back: gravity
        bullae = canvas.coverage(1.2 * (2.2 - self.anatomy.emphysema - coarse - 0.25 * fine))
        parenchyma = parenchyma + (-965 - parenchyma) * bullae * (self.anatomy.emphysema > 0)
        canvas.blend(parenchyma, lung)
        fissure = (0.62 * y + 0.78 * z - 14 - 5 * torch.cos(x / 38)).abs() - 0.25 + 0.3 * coarse
        minor = (z - 14 - 6 * torch.cos(x / 40) - 0.1 * y).abs() - 0.3  # horizontal fissure, right lung in front
        minor = torch.where((x < 0) & (0.62 * y + 0.78 * z < 14), minor, 99.0)
        plate = canvas.coverage(torch.minimum(fissure, minor)) * (lung > 0.99)
        canvas.hu = canvas.hu + 170 * plate
        return lung, parenchyma

    def _paint_vessels(self, canvas: Canvas, lung: torch.Tensor, parenchyma: torch.Tensor) -> None:
        def add(segments: torch.Tensor, hu: float) -> None:  # vessels add to the tissue and never darken it
            weight = canvas.capsules(segments) * lung
            denser = torch.maximum(canvas.hu, parenchyma + (hu - parenchyma) * weight)
            canvas.hu = torch.where(weight > 0, denser, canvas.hu)

        if self.style == "lungman":
            add(self.vessels, 45.0)
            return
        add(self.vessels, self.anatomy.blood_hu)
        add(self.bronchus_walls, 20.0)
        canvas.blend(AIR_HU, canvas.capsules(self.bronchi) * lung)

    def _paint_airways(self, canvas: Canvas) -> None:
        if canvas.z > 42:
            canvas.paint(60.0, canvas.ellipse(-3, 4, 10.5, 10.0))
            canvas.paint(AIR_HU, canvas.ellipse(-3, 4, 8.8, 8.2))
            return
        t = (42 - canvas.z) / 26  # main bronchi leave the trachea sideways
        if t < 1:
            for shape, hu in ((8.5, 55.0), (6.8, AIR_HU)):
                for side in (-1, 1):
                    canvas.paint(hu, canvas.disc(-3 + side * (7 + 22 * t), 4 + 6 * t, shape))
