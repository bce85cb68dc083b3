"""Agreement of radiomic features between two kernels in 40 square regions: table and figures.

    python examples/05_agreement_on_a_phantom.py [OUT [STANDARD CANDIDATE]]

STANDARD and CANDIDATE are folders with one CT series each, two reconstructions of one scan; without them a small scan
is simulated (kernels Bl64 and Br40). docs/agreement_fc13_fc51 shows the result for a real phantom, scanned once and
reconstructed with the sharp kernel FC51 and the soft kernel FC13:

    python examples/05_agreement_on_a_phantom.py docs/agreement_fc13_fc51 fc13_fc51/sharp fc13_fc51/soft

Runs offline in under a minute.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_fill_holes

from diffusionct_pipeline.dicom import read_series
from diffusionct_pipeline.evaluation import agreement_by_class, evaluate_series
from diffusionct_pipeline.metrics.regions import square_regions
from diffusionct_pipeline.radiomics import feature_names
from diffusionct_pipeline.simulation import SeriesOptions, simulate
from diffusionct_pipeline.simulation.splits import EXAMPLES

REGIONS, SIDE = 40, 32  # pixels


def main(out, standard=None, candidate=None):
    with tempfile.TemporaryDirectory() as scratch:
        # 1. Two series of one scan.
        if standard is None:
            options = SeriesOptions(
                ("Bl64", "Br40"), thickness_mm=3.0, phantoms=1, seed=EXAMPLES[1], slices=2, size=256, spacing_mm=1.4
            )
            (folder,) = simulate(scratch, options)
            standard, candidate = folder / "Bl64", folder / "Br40"
        # 2. Evenly spaced squares in the patient; each is a region in one slice.
        hu = np.stack([item.hu for item in read_series(standard)])  # [slices,H,W]
        body = [binary_fill_holes(image > -500) for image in hu]
        squares = [(k, s) for k, image in enumerate(hu) for s in square_regions(image, SIDE) if body[k][s].all()]
        mask = np.zeros(hu.shape, np.uint8)
        chosen = np.linspace(0, len(squares) - 1, min(REGIONS, len(squares))).astype(int)
        for label, (k, square) in enumerate((squares[i] for i in chosen), start=1):
            mask[k][square] = label
        np.savez_compressed(Path(scratch) / "squares.npz", mask=mask)
        # 3. Measure 1,401 features of each region in both series, and write the report.
        evaluation = evaluate_series(standard, [candidate], Path(scratch) / "squares.npz", out)
    # 4. The same in a few lines of Python, for further analysis.
    (name, values), target = *evaluation.systems.items(), evaluation.features[evaluation.standard]
    print(f"{name} against {evaluation.standard} in {len(target)} regions; report: {out}/report.md")
    for feature_class, row in agreement_by_class(values, target, feature_names()).items():
        print(
            f"{feature_class:6s} {row.features:5d} features   within 15 %: {row.reproducible:6.1f}   "
            f"CCC {row.ccc_mean:5.2f} ± {row.ccc_std:.2f}"
        )


if __name__ == "__main__":  # required, as features are extracted in processes that import this file
    main(*(sys.argv[1:] or ["agreement"]))
