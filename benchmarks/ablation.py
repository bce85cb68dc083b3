"""Measure what each part of the pipeline adds: rows with parts removed, on simulated tumours and on a real pair.

    python benchmarks/ablation.py --pairs 30
    python benchmarks/ablation.py --pairs 30 --regression runs/regression --real SOFT_DIR SHARP_DIR --json ablation.json

Sources are Br40 as it is, smoothed by a family that training has, and by two that it has not; the target is Bl64. With
`--real` also a real pair (same file name, same slice), its soft side as it is and denoised, a far slice of the target's
kernel as reference. The dose is kept, as by default (`--noise`). Rows:

    input                 nothing is done
    filter alone          the step's curve as a gain, the same everywhere: nothing synthesized, nothing sampled
    pooled style          the same with synthesis: the slice's own power, moved by one curve
    regression            the same network trained to say the mean, one step (`--regression`)
    DDPM, n steps         the pipeline
    mean of 8 samples     of the latents, then decoded once
    true Z_B              the target's own latent (cut at -1024 HU, where its file is)
    repeat scan           nothing of the source: the target's kernel, the same tumour, other noise; simulated ones only.
                          What the source does not hold cannot come closer than this

Prints concordance and the share of ten figures within 15 % (evaluation.texture) over tumours, or over squares of a real
slice, with 95 % intervals over resampled tumours, RMSE and bias; of the pipeline also how often 90 % intervals of the ten
figures over samples hold the truth, and (`--features`) the paper's 1,401 features by class.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from agreement import far_from, read_pair
from tqdm import tqdm

from diffusionct_pipeline import DiffusionCTPipeline
from diffusionct_pipeline.image_processor import GRID
from diffusionct_pipeline.method.slices import sample_seed
from diffusionct_pipeline.metrics.agreement import REPRODUCIBLE, agreement_by_class, ccc, relative_error
from diffusionct_pipeline.metrics.texture import texture_table
from diffusionct_pipeline.metrics.uncertainty import LEVEL, WIDENING, needed_widening
from diffusionct_pipeline.radiomics import extract
from diffusionct_pipeline.simulation.degradation import smooth
from diffusionct_pipeline.simulation.splits import SPLITS, take
from diffusionct_pipeline.simulation.tumour_pairs import (
    SOURCE,
    TARGET,
    measured_regions,
    tumour_pairs,
    with_smoothed_source,
)

SOURCES = {
    "plain": None,
    "bilateral (seen)": ("bilateral", 0.6),
    "non-local means (unseen)": ("non-local means", 1.0),
    "total variation (unseen)": ("total variation", 1.0),
    "statistical (seen)": ("statistical", 0.8),
    "statistical, q-GGMRF (unseen)": ("statistical, q-GGMRF", 0.8),
}
REAL_SOURCES = {name: SOURCES[name] for name in ("plain", "non-local means (unseen)", "total variation (unseen)")}
STEPS = (1, 2, 5, 10, 20, 50)
MEAN_OF = 8
COVERAGE_SAMPLES = 20
RESAMPLES = 1000


class Rows:
    """The rows of one slice.

    Args:
        pipe: The pipeline.
        regression: A pipeline whose denoiser says the mean, or None.
        steps: Numbers of denoising steps.
    """

    def __init__(self, pipe, regression=None, steps=STEPS, noise="keep"):
        self.pipe, self.regression, self.steps, self.noise = pipe, regression, steps, noise

    @torch.no_grad()
    def of(self, source, target, spacing_mm, seed, goal_texture=None, samples=MEAN_OF, scan=None):
        """Return row -> standardized HU (H, W) of a source, and `samples` samples (K, H, W).

        `goal_texture` is a `Target`, the checkpoint's standard by default; `scan` are HU of all slices that tell the kernel,
        the source alone by default.
        """
        pipe, default = self.pipe, self.pipe.config.default_num_inference_steps
        slices = pipe.image_processor.load(source, spacing_mm)
        sample, spacing = pipe.image_processor.preprocess(slices)
        latent_a, skips = pipe.encode(sample, spacing)
        known = pipe.estimate(slices if scan is None else pipe.image_processor.load(scan, spacing_mm))
        step = pipe.step(known, goal_texture or pipe.resolve_target(), self.noise)
        goal, _ = pipe.image_processor.preprocess(pipe.image_processor.load(target, spacing_mm))
        seeds = [sample_seed(seed, number) for number in range(samples)]
        textures = [pipe.noise(slices, [one], "texture", sample.shape[1:]) for one in seeds]

        def sampled(model, steps, number=0):
            start = pipe.noise(slices, [seeds[number]], "latent", latent_a.shape[1:])
            generators = [torch.Generator().manual_seed(seeds[number])]
            row_length = sample.shape[-1] // GRID
            return model.denoise(latent_a, step.of_sample(number, seed), steps, start, generators, row_length)

        def drawn(latent, texture=textures[0]):
            return pipe.image_processor.postprocess(pipe.decode(latent, skips, texture, step.coherent), slices)[0]

        several = torch.cat([sampled(pipe, default, number) for number in range(samples)])  # [K,C,L]
        latents = {steps: several[:1] if steps == default else sampled(pipe, steps) for steps in self.steps}
        pooled = pipe.denoiser.baseline(latent_a, step.shift)
        rows = {"input": source, "filter alone": drawn(pooled, None), "pooled style": drawn(pooled)}
        if self.regression is not None:
            rows["regression"] = drawn(sampled(self.regression, 1))
        rows |= {f"DDPM, {steps} steps": drawn(latent) for steps, latent in latents.items()}
        rows[f"mean of {MEAN_OF} samples"] = drawn(several[:MEAN_OF].mean(0, keepdim=True))
        rows["true Z_B"] = drawn(pipe.encode(goal, spacing)[0])
        return rows, np.stack([drawn(one[None], texture) for one, texture in zip(several, textures)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=30, help="simulated slices")
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="validation is for choices")
    parser.add_argument("--offset", type=int, default=0, help="number of the first slice in the split")
    parser.add_argument("--model", help="checkpoint; the embedded one by default")
    parser.add_argument("--regression", help="checkpoint of the same network as a regression")
    parser.add_argument("--real", type=Path, nargs=2, metavar=("SOFT_DIR", "SHARP_DIR"), help="a real pair")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="numbers of denoising steps")
    parser.add_argument("--noise", default="keep", choices=("keep", "target"), help="noise level of the results")
    parser.add_argument("--features", action="store_true", help="also the 1,401 features of the plain tumours")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    pipe = load(arguments.model)
    rows = Rows(pipe, load(arguments.regression) if arguments.regression else None, arguments.steps, arguments.noise)
    seeds = take(SPLITS[arguments.split], arguments.pairs, arguments.offset)
    table = simulated(rows, seeds, arguments.features)
    if arguments.real:
        table |= real(rows, *arguments.real)
    for case, figures in table.items():
        print(f"\n{case}")
        for row, values in figures.items():
            print(f"  {row:24s}" + "  ".join(f"{key} {shown(value)}" for key, value in values.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2) + "\n")


def load(model):
    pipe = DiffusionCTPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def shown(value):
    return f"[{value[0]:.3f}, {value[1]:.3f}]" if isinstance(value, list) else f"{value:.3f}"


def simulated(rows, seeds, features):
    """Measure case -> row -> figures over tumours of held-out phantoms."""
    images = {name: {} for name in SOURCES}
    needed = {name: [] for name in SOURCES}
    scans = zip(tumour_pairs(seeds), tumour_pairs(seeds, repeat=1))
    for number, (pair, again) in enumerate(tqdm(scans, total=len(seeds), desc="simulated")):
        tumours, _ = measured_regions(pair)
        for name, smoothing in SOURCES.items():
            source = (pair if smoothing is None else with_smoothed_source(pair, *smoothing)).hu[SOURCE]
            target = pair.hu[TARGET]
            made, samples = rows.of(source, target, pair.spacing_mm, number, samples=COVERAGE_SAMPLES)
            for row, output in (made | {"repeat scan": again.hu[TARGET]}).items():
                images[name].setdefault(row, []).append((output.clip(target.min()), target, tumours))
            needed[name] += widenings(samples.clip(target.min()), target, tumours)
    table = {}
    for name, of_rows in images.items():
        table[f"Br40 to Bl64, {name}"] = {row: figures(made) for row, made in of_rows.items()}
        of_case = np.array(needed[name])
        table[f"Br40 to Bl64, {name}"]["90 % intervals"] = {
            "coverage": float((of_case <= WIDENING).mean()),
            "of the samples alone": float((of_case <= 1).mean()),
            "needed widening": float(np.quantile(of_case, LEVEL)),
        }
    if features:
        names = {"output": f"DDPM, {rows.pipe.config.default_num_inference_steps} steps"}
        compared = {row: images["plain"][names.get(row, row)] for row in ("input", "output", "repeat scan")}
        table["1,401 features, plain"] = features_by_class(compared)
    return table


def real(rows, soft_folder, sharp_folder):
    """Measure the same for both directions of a real pair, over squares; the reference is a distant slice."""
    scans, hu, masks = read_pair(soft_folder, sharp_folder)
    table = {}
    for title, source, target, sources in (
        ("soft to sharp", soft_folder, sharp_folder, REAL_SOURCES),
        ("sharp to soft", sharp_folder, soft_folder, {"plain": None}),
    ):
        for name, smoothing in sources.items():
            images = {}
            for i, item in enumerate(scans[source]):
                far = far_from(i, len(masks))
                load = rows.pipe.image_processor.load
                far_slices = load(hu[target][far], scans[target][far].spacing_mm, "reference")
                reference = rows.pipe.resolve_target(None, far_slices)
                given = hu[source][i]
                if smoothing is not None:
                    family, strength = smoothing
                    given = smooth(torch.from_numpy(given), family, strength).round().numpy()
                goal = hu[target][i]
                for row, output in rows.of(given, goal, item.spacing_mm, i, reference)[0].items():
                    images.setdefault(row, []).append((output.clip(goal.min()), goal, masks[i]))
            table[f"real pair, {title}, {name}"] = {row: figures(made) for row, made in images.items()}
    return table


def figures(images):
    """Measure agreement over all regions of (output, target, masks), with intervals over resampled regions."""
    ours, theirs = (texture_table((made[side], mask) for made in images for mask in made[2]) for side in (0, 1))
    within = relative_error(ours, theirs) < REPRODUCIBLE
    draw = np.random.default_rng(0)
    resampled = [draw.integers(len(ours), size=len(ours)) for _ in range(RESAMPLES)]
    difference = [output - target for output, target, _ in images]
    return {
        "regions": len(ours),
        "CCC": float(np.mean(ccc(ours, theirs))),
        "CCC interval": interval([np.nanmean(ccc(ours[i], theirs[i])) for i in resampled]),
        "within 15 %": float(within.mean()),
        "within interval": interval([within[i].mean() for i in resampled]),
        "RMSE HU": float(np.sqrt(np.mean([np.mean(error**2) for error in difference]))),
        "bias HU": float(np.mean([error.mean() for error in difference])),
    }


def interval(values, level=95):
    return [float(value) for value in np.percentile(values, [(100 - level) / 2, (100 + level) / 2])]


def widenings(samples, target, masks):
    """Measure by how much 90 % intervals of samples (K, H, W) must be widened to contain the truth, per tumour and figure."""
    if not masks:
        return []
    tables = np.stack([texture_table((one, mask) for mask in masks) for one in samples])  # [K,tumours,figures]
    return list(needed_widening(tables, texture_table((target, mask) for mask in masks)).ravel())


def features_by_class(compared):
    """Measure concordance and share of features within 15 % by row and class, over all tumours of each row's images."""
    extracted = {
        row: [extract(made[0], mask) for made in images for mask in made[2]] for row, images in compared.items()
    }
    target = [extract(made[1], mask) for made in next(iter(compared.values())) for mask in made[2]]
    names = list(target[0])
    as_table = lambda regions: np.array([[region[name] for name in names] for region in regions], float)  # noqa: E731
    result = {}
    for row, regions in extracted.items():
        for cls, agreement in agreement_by_class(as_table(regions), as_table(target), names).items():
            values = {"CCC": agreement.ccc_mean, "within 15 %": agreement.reproducible / agreement.features}
            result[f"{row}, {cls}"] = values
    return result


if __name__ == "__main__":
    main()
