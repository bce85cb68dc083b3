"""Evaluation: agreement of radiomic features, image metrics, ComBat, tables and figures."""

from .agreement import (
    REPRODUCIBLE,
    ClassAgreement,
    agreement_by_class,
    ccc,
    ccc_by_class,
    relative_error,
    reproducible_fraction,
)
from .combat import combat
from .image_metrics import bias_hu, edge_mtf, noise_power_spectrum, nps_distance, psnr, rmse_hu, ssim

__all__ = [
    "REPRODUCIBLE",
    "ClassAgreement",
    "agreement_by_class",
    "bias_hu",
    "ccc",
    "ccc_by_class",
    "combat",
    "edge_mtf",
    "noise_power_spectrum",
    "nps_distance",
    "psnr",
    "relative_error",
    "reproducible_fraction",
    "rmse_hu",
    "ssim",
]
