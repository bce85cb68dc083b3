"""Evaluate the agreement of radiomic features: image metrics, ComBat, tables and figures."""

from ..metrics.agreement import (
    REPRODUCIBLE,
    ClassAgreement,
    agreement_by_class,
    ccc,
    ccc_by_class,
    relative_error,
    reproducible_fraction,
)
from ..metrics.combat import combat
from ..metrics.image_metrics import bias_hu, edge_mtf, noise_power_spectrum, nps_distance, psnr, rmse_hu, ssim
from ..metrics.uncertainty import ClassCoverage, coverage_by_class, sample_intervals
from ..reporting.plots import (
    plot_bland_altman,
    plot_class_boxes,
    plot_mtf,
    plot_noise_power,
    plot_panel,
    plot_reproducible_features,
    save_figure,
)
from ..reporting.tables import Table, class_table, table1
from .comparison import compare_series, evaluate_series
from .masks import read_mask
from .result import Evaluation

__all__ = [
    "REPRODUCIBLE",
    "ClassAgreement",
    "ClassCoverage",
    "Evaluation",
    "Table",
    "agreement_by_class",
    "bias_hu",
    "ccc",
    "ccc_by_class",
    "class_table",
    "combat",
    "compare_series",
    "coverage_by_class",
    "edge_mtf",
    "evaluate_series",
    "noise_power_spectrum",
    "nps_distance",
    "plot_bland_altman",
    "plot_class_boxes",
    "plot_mtf",
    "plot_noise_power",
    "plot_panel",
    "plot_reproducible_features",
    "psnr",
    "read_mask",
    "relative_error",
    "reproducible_fraction",
    "rmse_hu",
    "sample_intervals",
    "save_figure",
    "ssim",
    "table1",
]
