"""Paint ribs, spine, sternum, shoulder girdle and table of an `Anatomy` on a slice."""

from __future__ import annotations

import math

import torch

from .anatomy import Anatomy
from .shapes import Canvas


def paint_ribs(canvas: Canvas, anatomy: Anatomy, fine: torch.Tensor, body: torch.Tensor) -> None:
    """Paint sections of ribs with cartilage in front; `body` is the skin's signed distance."""
    z = canvas.z
    cavity = anatomy.cavity_distance(canvas.x, canvas.y, z)
    angle = anatomy.around_chest(canvas)
    fall = 0.92 * angle
    mean_radius = 0.5 * (anatomy.cavity[0] + anatomy.cavity[1])
    slope = anatomy.rib_drop * 0.46 * torch.sin(fall) / mean_radius  # oblique ribs have long sections
    bony = canvas.coverage((angle - 2.35) * 40)  # in front of that angle: cartilage
    beside_spine = canvas.coverage((0.10 - angle) * 60)
    inside_body = canvas.coverage(body + 4)
    for k in range(-8, 12):
        at_spine = k * anatomy.rib_spacing + anatomy.rib_phase + 20
        if not at_spine - anatomy.rib_drop - 9 < z < at_spine + 9:
            continue
        height = at_spine - anatomy.rib_drop * (1 - torch.cos(fall)) / 2
        across = (z - height) / torch.sqrt(1 + slope**2)
        distance = (torch.sqrt((across / 6.2) ** 2 + ((cavity - 4.2) / 3.6) ** 2) - 1) * 3.6
        weight = beside_spine * inside_body
        canvas.paint(torch.where(angle < 2.35, 900.0, 110.0), distance, within=weight)
        canvas.paint(180 + 60 * fine, distance + 1.1, within=bony * weight)


def paint_spine_and_sternum(canvas: Canvas, anatomy: Anatomy, fine: torch.Tensor, coarse: torch.Tensor) -> None:
    """Paint vertebra or disc, arch, spinal canal with cord, and sternum."""
    z, back = canvas.z, anatomy.cavity[1] - 12
    phase = ((z + anatomy.disc_phase) % anatomy.disc_spacing) / anatomy.disc_spacing
    vertebra = canvas.ellipse(0, back - 12, 17 - 1.5 * math.sin(math.pi * phase), 14.5)
    if phase < 0.17:
        canvas.paint(85.0, vertebra)
    else:
        end_plate = 2.5 if phase < 0.22 or phase > 0.95 else 1.0
        paint_bone(canvas, vertebra, end_plate, 620.0, 190 + 45 * fine + 15 * coarse)
    arch = canvas.ellipse(0, back + 19, 3.2, 8)
    for part in ((-16, back + 10, 17, 5), (16, back + 10, 17, 5), (0, back + 7, 13, 12)):
        arch = torch.minimum(arch, canvas.ellipse(*part))
    paint_bone(canvas, arch, 1.6, 650.0, 260 + 60 * fine)
    canvas.paint(-60.0 if anatomy.style == "human" else 20.0, canvas.ellipse(0, back + 6, 8.5, 7.5))
    canvas.paint(38.0, canvas.ellipse(0, back + 6, 5.5, 4.5))  # cord
    if -60 < z < 88:
        scale, shift = anatomy.taper(z)
        front = float(shift - anatomy.cavity[1] * scale) - 3.5
        width = 17 + 8 * min(1.0, max(0.0, (z - 45) / 20))
        paint_bone(canvas, canvas.ellipse(0, front, width, 5.2), 1.1, 520.0, 150 + 40 * fine)


def paint_shoulder_girdle(canvas: Canvas, anatomy: Anatomy, body: torch.Tensor) -> None:
    """Paint scapulae, clavicles and humeral heads."""
    z = canvas.z
    if -10 < z < 110:
        angle, cavity = anatomy.around_chest(canvas), anatomy.cavity_distance(canvas.x, canvas.y, z)
        centre, half = 0.66 + 0.0022 * (z + 10), 0.04 + 0.28 * math.sin(math.pi * (z + 10) / 120) ** 0.5
        spine = 2.6 * torch.exp(-(((angle - centre) / 0.06) ** 2))
        spine = spine + 2.2 * torch.exp(-(((angle - centre - half) / 0.08) ** 2))  # thick lateral border
        plate = torch.maximum((cavity - 13.5).abs() - 1.5 - spine, ((angle - centre).abs() - half) * 95)
        paint_bone(canvas, torch.maximum(plate, body + 5), 1.0, 780.0, 280.0)
    if z > 86:
        for side in (-1, 1):  # from the sternum sideways, back and up
            shaft = torch.tensor([[side * 20.0, -60, 93, side * 75, -42, 104, 7, 5.5]])
            end = torch.tensor([[side * 75.0, -42, 104, side * 130, -2, 118, 5.5, 7]])
            clavicle = torch.cat([shaft, end]).to(canvas.x.device)
            canvas.blend(850.0, canvas.capsules(clavicle))
            clavicle[:, 6:] -= 1.6
            canvas.blend(240.0, canvas.capsules(clavicle))
    if z > 105:
        for side in (-1, 1):
            humerus = canvas.disc(side * 138, 6, min(21.0, 6 + 0.9 * (z - 105)))
            paint_bone(canvas, torch.maximum(humerus, body + 5), 2.0, 850.0, 150.0)


def paint_bone(
    canvas: Canvas, distance: torch.Tensor, cortex_mm: float, cortex_hu: float, marrow_hu: torch.Tensor | float
) -> None:
    """Paint a cortex of the given width around marrow."""
    canvas.paint(cortex_hu, distance)
    canvas.paint(marrow_hu, distance + cortex_mm)


def paint_table(canvas: Canvas, anatomy: Anatomy, body: torch.Tensor) -> None:
    """Paint two carbon shells with foam between them, outside the body."""
    x, y = canvas.x, canvas.y
    top = anatomy.body[1] + 7 - 0.0009 * x**2  # curved, like a couch
    outside = canvas.coverage(-body)
    couch = outside * (x.abs() < 166)
    canvas.paint(-930.0, (y - top - 9).abs() - 8.3, within=couch)  # foam
    canvas.paint(-350.0, (y - top).abs() - 0.6, within=couch)  # shells
    canvas.paint(-350.0, (y - top - 18).abs() - 0.6, within=couch)
