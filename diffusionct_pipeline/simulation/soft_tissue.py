"""Paint skin, fat, muscle, mediastinum, heart and abdomen of an `Anatomy` on a slice.

`fine` and `coarse` are noise planes (M, M) of unit standard deviation; they are zero in a plastic phantom.
"""

from __future__ import annotations

import math

import torch

from .anatomy import Anatomy
from .shapes import AIR_HU, Canvas


def paint_body_wall(
    canvas: Canvas, anatomy: Anatomy, fine: torch.Tensor, coarse: torch.Tensor, texture: float
) -> torch.Tensor:
    """Paint skin, subcutaneous fat, breasts and muscles; return the skin's signed distance (M, M).

    `texture` is 0 for plastic; the borders are uneven either way.
    """
    x, y, z = canvas.x, canvas.y, canvas.z
    half_width = anatomy.body[0] + 13 * min(1.0, max(0.0, (z - 60) / 60))  # shoulders
    slope = min(1.0, max(0.0, (z - 60) / 70))  # the chest's front slopes back towards the neck
    half_depth, back_shift = anatomy.body[1] - 24 * slope, 18 * slope
    superellipse = ((x.abs() / half_width) ** 2.5 + ((y - back_shift).abs() / half_depth) ** 2.5) ** 0.4
    body = (superellipse - 1) * half_depth * 0.95 + 0.2 * coarse
    breast = torch.full_like(body, 99.0)
    if anatomy.breasts_mm and -60 < z < 40:
        bulge = anatomy.breasts_mm * math.cos(math.pi * (z + 10) / 100)
        for side in (-1, 1):
            breast = torch.minimum(breast, canvas.ellipse(side * 72, -half_depth * 0.78, 52, 24 + bulge))
    skin = torch.minimum(body, breast)
    canvas.paint(25.0, skin)
    canvas.paint(-102 + 7 * coarse * texture + 4 * fine, skin + 1.8)
    strands = canvas.coverage(0.35 * coarse.abs() - 0.05 + 0.1 * (skin < -2.5)) * texture
    canvas.blend(-30.0, 0.35 * strands * canvas.coverage(skin + 3))  # septa in the subcutaneous fat
    if anatomy.breasts_mm:
        gland = breast + 14 + 6 * coarse
        canvas.paint(25 + 8 * fine, gland)
    fat = anatomy.fat_mm * (1 + 0.5 * y / anatomy.body[1]) + 1.5 * coarse
    canvas.paint(anatomy.muscle_hu + 4 * coarse * texture + 4 * fine, body + 1.8 + fat)
    cavity = anatomy.cavity_distance(x, y, z)
    back = anatomy.cavity[1]
    for side in (-1, 1):  # erector spinae
        erector = torch.maximum(canvas.ellipse(side * 33, back + 2, 23, 12), body + 5)
        canvas.paint(anatomy.muscle_hu + 4 * fine, erector)
    if texture:
        # Fat planes between the muscles: over the ribs and, in thick walls, once more further out.
        muscle = canvas.coverage(body + fat + 4)
        for depth, width in ((9.0, 0.9), (17.0, 0.7)):
            plane = (cavity - depth - 2 * coarse).abs() - width - 0.8 * coarse
            canvas.paint(-85.0, plane, within=0.85 * muscle)
        # Marbling
        canvas.blend(-60.0, 0.5 * canvas.coverage(0.6 - 0.35 * fine) * canvas.coverage(1.2 - coarse) * muscle)
    return skin


def paint_mediastinum(canvas: Canvas, anatomy: Anatomy, fine: torch.Tensor, coarse: torch.Tensor) -> None:
    """Fill the cavity: fat with septa and lymph nodes, heart, great vessels, oesophagus. Lungs are painted over it."""
    x, y, z, blood = canvas.x, canvas.y, canvas.z, anatomy.blood_hu
    cavity = anatomy.cavity_distance(x, y, z)
    plastic = anatomy.style == "lungman"
    canvas.paint(anatomy.muscle_hu if plastic else -98 + 10 * coarse + 5 * fine, cavity + 1.5)
    if not plastic:
        strands = canvas.coverage(0.9 * coarse.abs() - 0.12)  # septa and small vessels in the fat
        canvas.blend(10.0, 0.5 * strands * canvas.coverage(cavity + 2))
        for (nx, ny, nz), radius in zip(anatomy.lymph_nodes, anatomy.lymph_node_radii):
            if abs(z - nz) < radius:
                canvas.paint(38 + 4 * fine, canvas.ball((nx, ny, nz), (1.5 * radius, radius, radius)))
    paint_heart(canvas, anatomy, fine, coarse)
    crura = canvas.ellipse(0, anatomy.cavity[1] - 34, 24, 12)
    canvas.paint(anatomy.muscle_hu + 3 * fine, crura, within=float(z < -60))
    wall = 42.0
    # Great vessels by level: below the arch, at the arch, above it.
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
    canvas.paint(blood, canvas.disc(-7, anatomy.cavity[1] - 44, 3.2))  # azygos vein
    oesophagus = canvas.ellipse(4, 29, 7.5, 5.5)
    canvas.paint(36 + 3 * fine, oesophagus)
    canvas.paint(-700.0 if not plastic else 36.0, canvas.disc(4 + 1.5 * math.sin(z / 9), 29, 1.6))


def paint_heart(canvas: Canvas, anatomy: Anatomy, fine: torch.Tensor, coarse: torch.Tensor) -> None:
    """Paint pericardial fat, muscle and the blood of four chambers."""
    x, y, z = canvas.x, canvas.y, canvas.z
    radius = anatomy.heart_radius(x, y, z)
    inside_cavity = canvas.coverage(anatomy.cavity_distance(x, y, z) + 2)
    size = min(anatomy.heart_axes)
    if float(radius.min()) > 1.2:
        return
    if anatomy.style == "lungman":
        canvas.paint(anatomy.muscle_hu, (radius - 1) * size, within=inside_cavity)
        return
    # Pericardial sac, epicardial fat, muscle, then the chambers in the heart's own (turned) axes.
    canvas.paint(30.0, ((radius - 1.07) * size).abs() - 0.7, within=inside_cavity)
    canvas.paint(-100 + 8 * coarse, (radius - 1.05) * size, within=inside_cavity)
    rim = (radius - 0.95) * size + 2.0 * coarse
    canvas.paint(anatomy.muscle_hu + 3 * coarse + 3 * fine, rim, within=inside_cavity)
    cos, sin = math.cos(anatomy.heart_turn), math.sin(anatomy.heart_turn)
    dx, dy, dz = x - anatomy.heart_centre[0], y - anatomy.heart_centre[1], z - anatomy.heart_centre[2]
    along, across = cos * dx - sin * dy, sin * dx + cos * dy

    def chamber(cu: float, cv: float, cw: float, a: float, b: float, c: float) -> torch.Tensor:
        r = torch.sqrt(((along - cu) / a) ** 2 + ((across - cv) / b) ** 2 + ((dz - cw) / c) ** 2)
        return (r - 1) * min(a, b, c)

    inside_heart = canvas.coverage((radius - 0.9) * size) * inside_cavity
    ventricles = ((18, 8, -6, 27, 15, 32), (12, -24, -6, 34, 13, 34))  # left, right
    atria = ((-26, 22, 10, 18, 17, 24), (-34, -10, 4, 19, 20, 28))
    for place in ventricles + atria:
        canvas.paint(anatomy.blood_hu, chamber(*place) + 0.8 * coarse, within=inside_heart)
    depth = (radius - 0.74) * size  # atrioventricular groove: a wedge of fat with the coronary arteries
    groove = (along + 12 - 0.25 * across).abs() - 0.55 * depth + 1.2 * coarse
    canvas.paint(-92 + 8 * fine, groove, within=inside_cavity * canvas.coverage((radius - 1.02) * size))
    canvas.paint(anatomy.blood_hu, chamber(-12, 40, 0, 2.2, 2.2, 60), within=inside_cavity)
    canvas.paint(anatomy.blood_hu, chamber(-10, -40, 0, 2.0, 2.0, 60), within=inside_cavity)


def paint_abdomen(
    canvas: Canvas, anatomy: Anatomy, liver_vessels: torch.Tensor, fine: torch.Tensor, coarse: torch.Tensor
) -> None:
    """Paint everything below the diaphragm's domes."""
    x, y, z = canvas.x, canvas.y, canvas.z
    if z > max(anatomy.domes_mm) + 5:
        return
    inside = canvas.coverage(anatomy.cavity_distance(x, y, z) + 4)
    heart = anatomy.heart_radius(x, y, z)
    inside = inside * canvas.coverage((1.1 - heart) * min(anatomy.heart_axes))
    spine = canvas.coverage(-canvas.ellipse(0, anatomy.cavity[1] - 24, 34, 36))
    inside = inside * spine
    below_dome = z - anatomy.dome_height(x, y)
    canvas.blend(anatomy.muscle_hu, inside * canvas.coverage(below_dome - 3))  # the diaphragm itself
    inside = inside * canvas.coverage(below_dome)
    if anatomy.style == "lungman":
        canvas.blend(anatomy.muscle_hu, inside)
        return
    canvas.blend(-98 + 9 * coarse, inside)
    canvas.blend(20.0, 0.5 * inside * canvas.coverage(0.9 * coarse.abs() - 0.12))
    # Liver: right, tapering to the left in front; spleen: left, behind; stomach with an air bubble between them.
    liver = torch.maximum(x - 18 + 0.35 * (y + 30) + 3 * coarse, -98 - y)
    tissue = canvas.coverage(liver) * inside
    canvas.blend(anatomy.liver_hu + 2.5 * coarse + 2.5 * fine, tissue)
    vessel_hu = anatomy.blood_hu if anatomy.blood_hu > 100 else anatomy.liver_hu - 18
    canvas.blend(vessel_hu, canvas.capsules(liver_vessels) * tissue)
    canvas.paint(48 + 0.12 * anatomy.blood_hu + 3 * fine, canvas.ball((88, 38, -112), (34, 40, 44)), within=inside)
    stomach = canvas.ball((58, -22, -118), (42, 40, 48))
    canvas.paint(45.0, stomach, within=inside)
    content = torch.where(y < -28, AIR_HU, 15 + 25 * coarse)
    canvas.paint(content, stomach + 3.5 + 0.8 * coarse, within=inside)
    for side in (-1, 1):
        kidney = canvas.ball((side * 58, 42, -150), (26, 30, 36))
        canvas.paint(34 + 0.5 * anatomy.blood_hu, kidney, within=inside)
        canvas.paint(-80.0, canvas.ball((side * 50, 36, -152), (10, 12, 18)), within=inside)
    canvas.paint(anatomy.blood_hu, canvas.disc(20 + 0.12 * (z + 60), 38, 12), within=inside)
    canvas.paint(anatomy.blood_hu - 3, canvas.ellipse(-24, 22, 13, 10), within=inside)  # inferior vena cava
