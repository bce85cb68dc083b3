"""A procedural chest: `ChestPhantom(seed).slice_hu(z_mm)` paints one axial slice in HU, layer upon layer.

Coordinates are mm as in DICOM: x to the patient's left, y posterior, z cranial (0 near the lower pulmonary veins).
Every structure is an implicit shape, so a slice can be evaluated at any height and on any grid. Anatomy is drawn from
the seed; nothing here comes from a patient's image.
"""

import math

import torch

from .shapes import Canvas, SmoothNoise
from .tumours import place_tumours
from .vessels import grow_tree

STYLES = ("human", "lungman")
Z_RANGE_MM = (-158.0, 158.0)  # 63 slices of 5 mm
SUBSLICE_MM = 0.6  # a slab is the mean of point slices at most this far apart: about the collimation of a scanner
AIR_HU = -1000.0


class ChestPhantom:
    """A chest with bones, mediastinum, liver, vessel trees, airways and tumours.

    Args:
        seed: Draws the whole anatomy; same seed, same phantom.
        style: "human" (parenchyma near -870 HU with texture, fat, half of them with contrast-enhanced blood) or
            "lungman" (a plastic phantom: air and vessels in the lungs, uniform soft tissue, round inserts).
        tumours: Number of lung tumours.
        size: Pixels along each side of the default grid. spacing_mm: Its pixel size.
        device: Where slices are computed.

    Raises:
        ValueError: for an unknown style, or when the tumours do not fit.
    """

    def __init__(self, seed, style="human", *, tumours=3, size=1024, spacing_mm=0.35, device="cpu"):
        if style not in STYLES:
            raise ValueError(f"style is {style!r}; legal is one of {', '.join(STYLES)}")
        self.seed, self.style, self.device = seed, style, torch.device(device)
        self.size, self.spacing_mm, self.z_range_mm = size, spacing_mm, Z_RANGE_MM
        generator = torch.Generator().manual_seed(seed)
        self._draw_anatomy(generator)
        self._fine = SmoothNoise(1.2, generator, device=self.device)
        self._coarse = SmoothNoise(5.0, generator, device=self.device)
        self._grow_lungs(generator, tumours)

    def slice_hu(self, z_mm):
        """Noise-free slice without thickness.

        Args:
            z_mm: Height in `z_range_mm`.

        Returns:
            float32 (size, size) HU on pixels of `spacing_mm`; the centre is pixel (size // 2, size // 2).

        Raises:
            ValueError: when z_mm is outside `z_range_mm`.
        """
        if not self.z_range_mm[0] <= z_mm <= self.z_range_mm[1]:
            raise ValueError(f"z_mm is {z_mm}; this phantom reaches from {self.z_range_mm[0]} to {self.z_range_mm[1]}")
        canvas = Canvas(self._axis(), z_mm)
        plastic = 0.0 if self.style == "lungman" else 1.0  # no tissue texture in plastic
        fine, coarse = self._fine.plane(canvas.x[0], z_mm), self._coarse.plane(canvas.x[0], z_mm)  # [M,M]
        # 1. From the outside in; later layers cover earlier ones.
        body = self._paint_body_wall(canvas, plastic * fine, coarse, plastic)
        self._paint_mediastinum(canvas, plastic * fine, plastic * coarse)
        self._paint_abdomen(canvas, plastic * fine, plastic * coarse)
        lung, parenchyma = self._paint_lungs(canvas, fine, coarse)
        # 2. Inside the lungs.
        self._paint_vessels(canvas, lung, parenchyma)
        for tumour in self.tumours:
            tumour.paint(canvas, plastic * fine, plastic * coarse, lung)
        self._paint_airways(canvas)
        # 3. Bones and the table.
        self._paint_ribs(canvas, fine, body)
        self._paint_spine_and_sternum(canvas, plastic * fine, plastic * coarse)
        self._paint_shoulder_girdle(canvas, body)
        self._paint_table(canvas, body)
        return canvas.hu

    def slab_hu(self, z_mm, thickness_mm):
        """Point slices that make up one reconstructed slice: float32 (K, size, size) HU, K = ceil(thickness / .6)."""
        return torch.stack([self.slice_hu(z) for z in self._subslices(z_mm, thickness_mm)])

    def tumour_mask(self, z_mm, thickness_mm=0.0, *, spacing_mm=None, size=None, centre_mm=(0.0, 0.0)):
        """Tumour labels on any grid: uint8 (size, size), 0 outside, 1.. inside the tumour of that label.

        A pixel belongs to a tumour when at least half of the slab's thickness at its centre does. Spicules do not count.
        """
        spacing_mm, size = spacing_mm or self.spacing_mm, size or self.size
        axis = (torch.arange(size, device=self.device) - size // 2) * spacing_mm
        x, y = axis[None, :] + centre_mm[0], axis[:, None] + centre_mm[1]
        heights = self._subslices(z_mm, thickness_mm) if thickness_mm else [z_mm]
        mask = torch.zeros(size, size, dtype=torch.uint8, device=self.device)
        for tumour in self.tumours:
            if abs(z_mm - tumour.centre_mm[2]) > thickness_mm / 2 + 2 * tumour.radius_mm:
                continue
            inside = sum((tumour.distance(x, y, z) < 0).float() for z in heights) / len(heights)
            mask[inside >= 0.5] = tumour.label
        return mask

    # ---------------------------------------------------------------- anatomy, drawn once
    def _draw_anatomy(self, generator):
        def uniform(low, high):
            return low + (high - low) * torch.rand(1, generator=generator).item()

        human = self.style == "human"
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

    def _grow_lungs(self, generator, tumours):
        span = torch.tensor([2 * self.cavity[0], 2.3 * self.cavity[1], 260.0])
        points = (torch.rand(90000, 3, generator=generator) - 0.5) * span + torch.tensor([0.0, 0.0, 5.0])
        depth = self._lung_distance(points[:, 0], points[:, 1], points[:, 2])
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

    # ---------------------------------------------------------------- shapes shared by several layers
    def _axis(self):
        return (torch.arange(self.size, device=self.device) - self.size // 2) * self.spacing_mm

    @staticmethod
    def _subslices(z_mm, thickness_mm):
        number = max(1, math.ceil(thickness_mm / SUBSLICE_MM - 1e-6))
        step = thickness_mm / number
        return [z_mm - thickness_mm / 2 + step * (i + 0.5) for i in range(number)]

    def _taper(self, z):
        """Size of the cavity's section relative to its largest, and the backward shift of its centre in mm."""
        rise = (z / 138).clamp(0, 1) if torch.is_tensor(z) else torch.tensor(min(1.0, max(0.0, z / 138)))
        scale = (1 - rise**2.4).clamp(min=0.03) ** 0.5
        return scale, 0.55 * self.cavity[1] * (1 - scale)

    def _cavity_distance(self, x, y, z):
        scale, shift = self._taper(z)
        a, b = self.cavity[0] * scale, self.cavity[1] * scale
        r = ((x.abs() / a) ** 2.3 + ((y - shift).abs() / b) ** 2.3) ** (1 / 2.3)
        return (r - 1) * torch.minimum(a, b) * 0.92

    def _heart_radius(self, x, y, z, growth_mm=0.0):
        """1 on the heart's surface; the long axis lies turned in the axial plane."""
        dx, dy, dz = x - self.heart_centre[0], y - self.heart_centre[1], z - self.heart_centre[2]
        cos, sin = math.cos(self.heart_turn), math.sin(self.heart_turn)
        along, across = cos * dx - sin * dy, sin * dx + cos * dy
        a, b, c = (axis + growth_mm for axis in self.heart_axes)
        return torch.sqrt((along / a) ** 2 + (across / b) ** 2 + (dz / c) ** 2)

    def _dome_height(self, x, y):
        """Height in mm of the diaphragm above (x, y)."""
        right = x < 0
        top = torch.where(right, self.domes_mm[0], self.domes_mm[1])
        centre = torch.where(right, -0.5, 0.5) * self.cavity[0]
        r2 = ((x - centre) / (0.62 * self.cavity[0])) ** 2 + 1.1 * ((y + 8) / self.cavity[1]) ** 2
        return top - 30 * r2 - 12 * r2**2

    def _lung_distance(self, x, y, z):
        """Signed distance in mm to the lungs, negative inside."""
        distance = self._cavity_distance(x, y, z) + 1.5
        _, shift = self._taper(z)
        # Half width of the mediastinum: wide at the hila and at the inlet, narrow behind the sternum.
        width = (
            17
            + 11 * torch.exp(-(((y - 5) / 30) ** 2))
            + 8 * torch.exp(-(((z - 12) / 28) ** 2)) * torch.exp(-(((y - 5) / 22) ** 2))
            - 9 * torch.exp(-(((y - shift + self.cavity[1]) / 26) ** 2))
            + 6 * torch.exp(-(((z - 75) / 30) ** 2))
        )
        distance = torch.maximum(distance, width - x.abs())
        heart = (1 - self._heart_radius(x, y, z, growth_mm=5.0)) * min(self.heart_axes)
        distance = torch.maximum(distance, heart)
        spine = (1 - torch.sqrt((x / 26) ** 2 + ((y - self.cavity[1] + 20) / 28) ** 2)) * 26
        distance = torch.maximum(distance, spine)
        aorta = 15 - torch.sqrt((x - 22) ** 2 + (y - 38) ** 2)
        distance = torch.maximum(distance, torch.where(torch.as_tensor(z) < 48, aorta, -99.0))
        return torch.maximum(distance, self._dome_height(x, y) - z)

    def _around_chest(self, canvas):
        """Angle round the cavity, 0 at the spine and pi at the sternum, (M, M)."""
        scale, shift = self._taper(canvas.z)
        return torch.atan2(
            canvas.x.abs() / (self.cavity[0] * scale + 4.2), (canvas.y - shift) / (self.cavity[1] * scale + 4.2)
        )

    # ---------------------------------------------------------------- layers
    def _paint_body_wall(self, canvas, fine, coarse, texture):
        x, y, z = canvas.x, canvas.y, canvas.z
        half_width = self.body[0] + 13 * min(1.0, max(0.0, (z - 60) / 60))  # shoulders
        half_depth = self.body[1] - 14 * min(1.0, max(0.0, (z - 80) / 60))
        superellipse = ((x.abs() / half_width) ** 2.5 + (y.abs() / half_depth) ** 2.5) ** 0.4
        body = (superellipse - 1) * half_depth * 0.95 + 0.7 * coarse
        breast = torch.full_like(body, 99.0)
        if self.breasts_mm and -60 < z < 40:
            bulge = self.breasts_mm * math.cos(math.pi * (z + 10) / 100)
            for side in (-1, 1):
                breast = torch.minimum(breast, canvas.ellipse(side * 72, -half_depth * 0.78, 52, 24 + bulge))
        skin = torch.minimum(body, breast)
        canvas.paint(25.0, skin)
        canvas.paint(-102 + 7 * coarse * texture + 4 * fine, skin + 1.8)
        strands = canvas.coverage(0.35 * coarse.abs() - 0.05 + 0.1 * (skin < -2.5)) * texture
        canvas.blend(-30.0, 0.35 * strands * canvas.coverage(skin + 3))  # septa in the subcutaneous fat
        if self.breasts_mm:
            gland = breast + 14 + 6 * coarse
            canvas.paint(25 + 8 * fine, gland)
        fat = self.fat_mm * (1 + 0.5 * y / self.body[1]) + 1.5 * coarse
        canvas.paint(self.muscle_hu + 4 * coarse * texture + 4 * fine, body + 1.8 + fat)
        cavity = self._cavity_distance(x, y, z)
        if texture:
            # Fat planes between the muscles: over the ribs and, in thick walls, once more further out.
            muscle = canvas.coverage(body + fat + 4)
            for depth, width in ((9.0, 0.9), (17.0, 0.7)):
                plane = (cavity - depth - 2 * coarse).abs() - width - 0.8 * coarse
                canvas.paint(-85.0, plane, within=0.85 * muscle)
            # Marbling
            canvas.blend(-60.0, 0.5 * canvas.coverage(0.6 - 0.35 * fine) * canvas.coverage(1.2 - coarse) * muscle)
        return skin

    def _paint_mediastinum(self, canvas, fine, coarse):
        x, y, z, blood = canvas.x, canvas.y, canvas.z, self.blood_hu
        cavity = self._cavity_distance(x, y, z)
        plastic = self.style == "lungman"
        canvas.paint(self.muscle_hu if plastic else -98 + 10 * coarse + 5 * fine, cavity + 1.5)
        if not plastic:
            strands = canvas.coverage(0.9 * coarse.abs() - 0.12)  # septa and small vessels in the fat
            canvas.blend(10.0, 0.5 * strands * canvas.coverage(cavity + 2))
            for (nx, ny, nz), radius in zip(self.lymph_nodes, self.lymph_node_radii):
                if abs(z - nz) < radius:
                    canvas.paint(38 + 4 * fine, canvas.ball((nx, ny, nz), (1.5 * radius, radius, radius)))
        self._paint_heart(canvas, fine, coarse)
        crura = canvas.ellipse(0, self.cavity[1] - 34, 24, 12)
        canvas.paint(self.muscle_hu + 3 * fine, crura, within=float(z < -60))
        wall = 42.0
        # Great vessels. Names give the level: below the arch, at the arch, above it.
        if z < 50:
            aorta = canvas.disc(22 if z > -60 else 22 + 0.12 * (z + 60), 38, 12.5)
            canvas.paint(wall, aorta - 1.2)
            canvas.paint(blood, aorta)
            calcified = (aorta.abs() - 0.5) + 2.2 * (1.6 - coarse).clamp(min=0)
            canvas.paint(420.0, calcified)
        if -5 < z < 50:
            canvas.paint(wall, canvas.disc(-14, -26, 16.2))
            canvas.paint(blood, canvas.disc(-14, -26, 15))
        if 42 < z < 60:
            t = ((x + 14) / 36).clamp(0, 1)
            arch = torch.sqrt((x + 14 - 36 * t) ** 2 + (y + 26 - 64 * t) ** 2) - math.sqrt(max(0, 169 - (z - 50) ** 2))
            canvas.paint(wall, arch - 1.2)
            canvas.paint(blood, arch)
        if z > 55:
            spread = 1 + 0.012 * (z - 55)
            for cx, cy, radius in ((-14, -14, 6), (4, -16, 4.5), (16, -4, 4.5), (-22, -24, 7), (20, -22, 5.5)):
                canvas.paint(blood, canvas.disc(cx * spread, cy * spread + 0.15 * (z - 55), radius))
        if 0 < z < 60:
            canvas.paint(blood, canvas.disc(-30, -20, 9))  # superior vena cava
        if 5 < z < 32:
            canvas.paint(blood, canvas.ellipse(6, -22, 26, 13))  # pulmonary trunk and arteries
            canvas.paint(blood, canvas.ellipse(-18, 0, 24, 10))
        canvas.paint(blood, canvas.disc(-7, self.cavity[1] - 44, 3.2))  # azygos vein
        oesophagus = canvas.ellipse(9, 32, 8, 6)
        canvas.paint(36 + 3 * fine, oesophagus)
        canvas.paint(-700.0 if not plastic else 36.0, canvas.disc(9 + 1.5 * math.sin(z / 9), 32, 1.6))

    def _paint_heart(self, canvas, fine, coarse):
        x, y, z = canvas.x, canvas.y, canvas.z
        radius = self._heart_radius(x, y, z)
        inside_cavity = canvas.coverage(self._cavity_distance(x, y, z) + 2)
        size = min(self.heart_axes)
        if float(radius.min()) > 1.2:
            return
        if self.style == "lungman":
            canvas.paint(self.muscle_hu, (radius - 1) * size, within=inside_cavity)
            return
        # Pericardial sac, epicardial fat, muscle, then the chambers in the heart's own (turned) axes.
        canvas.paint(30.0, ((radius - 1.07) * size).abs() - 0.7, within=inside_cavity)
        canvas.paint(-100 + 8 * coarse, (radius - 1.05) * size, within=inside_cavity)
        rim = (radius - 0.95) * size + 2.0 * coarse
        canvas.paint(self.muscle_hu + 3 * coarse + 3 * fine, rim, within=inside_cavity)
        cos, sin = math.cos(self.heart_turn), math.sin(self.heart_turn)
        dx, dy, dz = x - self.heart_centre[0], y - self.heart_centre[1], z - self.heart_centre[2]
        along, across = cos * dx - sin * dy, sin * dx + cos * dy

        def chamber(cu, cv, cw, a, b, c):
            r = torch.sqrt(((along - cu) / a) ** 2 + ((across - cv) / b) ** 2 + ((dz - cw) / c) ** 2)
            return (r - 1) * min(a, b, c)

        inside_heart = canvas.coverage((radius - 0.9) * size) * inside_cavity
        for place in ((18, 8, -6, 27, 15, 32), (12, -24, -6, 34, 13, 34), (-26, 22, 10, 18, 17, 24), (-34, -10, 4, 19, 20, 28)):
            canvas.paint(self.blood_hu, chamber(*place) + 0.8 * coarse, within=inside_heart)
        groove = (along + 12 - 0.25 * across).abs() - 1.6 + 0.8 * coarse  # atrioventricular groove: fat and coronaries
        outer = canvas.coverage((0.72 - radius) * size) * inside_cavity * canvas.coverage((radius - 1) * size)
        canvas.paint(-90.0, groove - 1.5, within=outer)
        canvas.paint(self.blood_hu, chamber(-12, 40, 0, 2.2, 2.2, 60), within=inside_cavity)
        canvas.paint(self.blood_hu, chamber(-10, -40, 0, 2.0, 2.0, 60), within=inside_cavity)

    def _paint_abdomen(self, canvas, fine, coarse):
        x, y, z = canvas.x, canvas.y, canvas.z
        if z > max(self.domes_mm) + 5:
            return
        inside = canvas.coverage(self._cavity_distance(x, y, torch.tensor(z)) + 4)
        inside = inside * canvas.coverage(z - self._dome_height(x, y) + 3.5)
        heart = self._heart_radius(x, y, z)
        inside = inside * canvas.coverage((1.1 - heart) * min(self.heart_axes))
        if self.style == "lungman":
            canvas.blend(self.muscle_hu, inside)
            return
        spine = canvas.coverage(-canvas.ellipse(0, self.cavity[1] - 24, 34, 36))
        inside = inside * spine
        canvas.blend(-98 + 9 * coarse, inside)
        canvas.blend(20.0, 0.5 * inside * canvas.coverage(0.9 * coarse.abs() - 0.12))
        # Liver: right, tapering to the left in front; spleen: left, behind; stomach with an air bubble between them.
        liver = torch.maximum(x - 18 + 0.35 * (y + 30) + 3 * coarse, -98 - y)
        tissue = canvas.coverage(liver) * inside
        canvas.blend(self.liver_hu + 2.5 * coarse + 2.5 * fine, tissue)
        vessel_hu = self.blood_hu if self.blood_hu > 100 else self.liver_hu - 18
        canvas.blend(vessel_hu, canvas.capsules(self.liver_vessels) * tissue)
        canvas.paint(48 + 0.12 * self.blood_hu + 3 * fine, canvas.ball((88, 38, -112), (34, 40, 44)), within=inside)
        stomach = canvas.ball((58, -22, -118), (42, 40, 48))
        canvas.paint(45.0, stomach, within=inside)
        content = torch.where(y < -28, AIR_HU, 15 + 25 * coarse)
        canvas.paint(content, stomach + 3.5 + 0.8 * coarse, within=inside)
        for side in (-1, 1):
            kidney = canvas.ball((side * 58, 42, -150), (26, 30, 36))
            canvas.paint(34 + 0.5 * self.blood_hu, kidney, within=inside)
            canvas.paint(-80.0, canvas.ball((side * 50, 36, -152), (10, 12, 18)), within=inside)
        canvas.paint(self.blood_hu, canvas.disc(20 + 0.12 * (z + 60), 38, 12), within=inside)
        canvas.paint(self.blood_hu - 3, canvas.ellipse(-24, 22, 13, 10), within=inside)  # inferior vena cava

    def _paint_lungs(self, canvas, fine, coarse):
        x, y, z = canvas.x, canvas.y, canvas.z
        distance = self._lung_distance(x, y, torch.tensor(z, device=x.device)) + 0.6 * coarse
        lung = canvas.coverage(distance)
        if self.style == "lungman":
            parenchyma = torch.full_like(lung, -985.0)
            canvas.blend(parenchyma, lung)
            return lung, parenchyma
        parenchyma = -872 + 0.28 * (y + 20) + 14 * coarse + 22 * fine  # denser at the back: gravity
        bullae = canvas.coverage(1.2 * (2.2 - self.emphysema - coarse - 0.25 * fine))
        parenchyma = parenchyma + (-965 - parenchyma) * bullae * (self.emphysema > 0)
        canvas.blend(parenchyma, lung)
        fissure = (0.62 * y + 0.78 * z - 14 - 5 * torch.cos(x / 38)).abs() - 0.25 + 0.3 * coarse
        minor = (z - 14 - 6 * torch.cos(x / 40) - 0.1 * y).abs() - 0.3  # horizontal fissure, right lung in front
        minor = torch.where((x < 0) & (0.62 * y + 0.78 * z < 14), minor, 99.0)
        plate = canvas.coverage(torch.minimum(fissure, minor)) * (lung > 0.99)
        canvas.hu = canvas.hu + 170 * plate
        return lung, parenchyma

    def _paint_vessels(self, canvas, lung, parenchyma):
        vessels = canvas.capsules(self.vessels) * lung
        vessel_hu = 45.0 if self.style == "lungman" else self.blood_hu
        canvas.hu = torch.maximum(canvas.hu, parenchyma + (vessel_hu - parenchyma) * vessels)
        if self.style == "human":
            walls = canvas.capsules(self.bronchus_walls) * lung
            canvas.hu = torch.maximum(canvas.hu, parenchyma + (20 - parenchyma) * walls)
            canvas.blend(AIR_HU, canvas.capsules(self.bronchi) * lung)

    def _paint_airways(self, canvas):
        if canvas.z > 42:
            canvas.paint(60.0, canvas.ellipse(-3, 4, 10.5, 10.0))
            canvas.paint(AIR_HU, canvas.ellipse(-3, 4, 8.8, 8.2))
            return
        t = (42 - canvas.z) / 26  # main bronchi leave the trachea sideways
        if t < 1:
            for shape, hu in ((8.5, 55.0), (6.8, AIR_HU)):
                for side in (-1, 1):
                    canvas.paint(hu, canvas.disc(-3 + side * (7 + 22 * t), 4 + 6 * t, shape))

    def _paint_ribs(self, canvas, fine, body):
        z = canvas.z
        cavity = self._cavity_distance(canvas.x, canvas.y, z)
        angle = self._around_chest(canvas)
        fall = 0.92 * angle
        mean_radius = 0.5 * (self.cavity[0] + self.cavity[1])
        slope = self.rib_drop * 0.46 * torch.sin(fall) / mean_radius  # oblique ribs have long sections
        bony = canvas.coverage((angle - 2.35) * 40)  # in front of that angle: cartilage
        beside_spine = canvas.coverage((0.10 - angle) * 60)
        inside_body = canvas.coverage(body + 4)
        for k in range(-8, 12):
            at_spine = k * self.rib_spacing + self.rib_phase + 20
            if not at_spine - self.rib_drop - 9 < z < at_spine + 9:
                continue
            height = at_spine - self.rib_drop * (1 - torch.cos(fall)) / 2
            across = (z - height) / torch.sqrt(1 + slope**2)
            distance = (torch.sqrt((across / 6.2) ** 2 + ((cavity - 4.2) / 3.6) ** 2) - 1) * 3.6
            weight = beside_spine * inside_body
            canvas.paint(torch.where(angle < 2.35, 900.0, 110.0), distance, within=weight)
            canvas.paint(180 + 60 * fine, distance + 1.1, within=bony * weight)

    def _paint_spine_and_sternum(self, canvas, fine, coarse):
        z, back = canvas.z, self.cavity[1] - 12
        phase = ((z + self.disc_phase) % self.disc_spacing) / self.disc_spacing
        vertebra = canvas.ellipse(0, back - 12, 17 - 1.5 * math.sin(math.pi * phase), 14.5)
        canvas.paint(self.muscle_hu, canvas.ellipse(-34, back + 16, 22, 13))  # erector spinae
        canvas.paint(self.muscle_hu, canvas.ellipse(34, back + 16, 22, 13))
        if phase < 0.17:
            canvas.paint(85.0, vertebra)
        else:
            end_plate = 2.5 if phase < 0.22 or phase > 0.95 else 1.0
            self._paint_bone(canvas, vertebra, end_plate, 620.0, 190 + 45 * fine + 15 * coarse)
        arch = canvas.ellipse(0, back + 19, 3.2, 8)
        for part in ((-16, back + 10, 17, 5), (16, back + 10, 17, 5), (0, back + 7, 13, 12)):
            arch = torch.minimum(arch, canvas.ellipse(*part))
        self._paint_bone(canvas, arch, 1.6, 650.0, 260 + 60 * fine)
        canvas.paint(-60.0 if self.style == "human" else 20.0, canvas.ellipse(0, back + 6, 8.5, 7.5))
        canvas.paint(38.0, canvas.ellipse(0, back + 6, 5.5, 4.5))  # cord
        if -60 < z < 88:
            scale, shift = self._taper(z)
            front = float(shift - self.cavity[1] * scale) - 3.5
            width = 17 + 8 * min(1.0, max(0.0, (z - 45) / 20))
            self._paint_bone(canvas, canvas.ellipse(0, front, width, 5.2), 1.1, 520.0, 150 + 40 * fine)

    def _paint_shoulder_girdle(self, canvas, body):
        z = canvas.z
        if -25 < z < 110:  # scapulae: plates outside the ribs, with a spine
            angle, cavity = self._around_chest(canvas), self._cavity_distance(canvas.x, canvas.y, z)
            centre, half = 0.62 + 0.0022 * (z + 25), max(0.05, 0.33 - 0.0018 * abs(z - 25))
            thickness = 1.7 + 2.4 * ((angle - centre).abs() < 0.07) + 2.5 * ((angle - centre - half).abs() < 0.06)
            plate = torch.maximum((cavity - 13.5).abs() - thickness, ((angle - centre).abs() - half) * 95)
            self._paint_bone(canvas, torch.maximum(plate, body + 5), 1.0, 780.0, 280.0)
        if z > 88:
            for side in (-1, 1):
                clavicle = canvas.ellipse(side * (48 + 0.5 * (z - 88)), -34 + 0.2 * (z - 88), 38, 6)
                self._paint_bone(canvas, torch.maximum(clavicle, body + 5), 1.4, 850.0, 260.0)
        if z > 105:
            for side in (-1, 1):
                humerus = canvas.disc(side * 138, 2, min(21.0, 6 + 0.9 * (z - 105)))
                self._paint_bone(canvas, torch.maximum(humerus, body + 5), 2.0, 850.0, 150.0)

    @staticmethod
    def _paint_bone(canvas, distance, cortex_mm, cortex_hu, marrow_hu):
        canvas.paint(cortex_hu, distance)
        canvas.paint(marrow_hu, distance + cortex_mm)

    def _paint_table(self, canvas, body):
        x, y = canvas.x, canvas.y
        top = self.body[1] + 7 - 0.0009 * x**2  # curved, like a couch
        outside = canvas.coverage(-body)
        couch = outside * (x.abs() < 166)
        canvas.paint(-930.0, (y - top - 9).abs() - 8.3, within=couch)  # foam
        canvas.paint(-350.0, (y - top).abs() - 0.6, within=couch)  # shells
        canvas.paint(-350.0, (y - top - 18).abs() - 0.6, within=couch)
