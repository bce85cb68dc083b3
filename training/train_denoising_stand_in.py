"""Train the small network that stands for deep-learning reconstruction (simulation/denoising_network.py).

    python training/train_denoising_stand_in.py --output DATA/denoising_stand_in.safetensors

DATA is diffusionct_pipeline/simulation/data.

Phantoms of training seeds are scanned at a low dose and without noise, with random kernels, pixel sizes and thicknesses;
the network learns the difference. It takes eight minutes on one core, with a fixed seed. `--quick` trains a useless network
in seconds.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from diffusionct_pipeline.simulation import KERNELS, ChestPhantom, Scanner
from diffusionct_pipeline.simulation.denoising_network import DenoisingStandIn
from diffusionct_pipeline.simulation.noise_level import noise_level, noise_ratio
from diffusionct_pipeline.simulation.scanner import hu_to_mu, quantize
from diffusionct_pipeline.simulation.splits import SCANS, take
from diffusionct_pipeline.utils.files import whole_file

SEED = 0
OFFSET = 40_000  # within SCANS, far from the phantoms of stored scans
SLICES_OF_PHANTOM, KERNELS_OF_SLICE = 4, 2
LOWEST_MAS, HIGHEST_MAS = 15, 250
SPACINGS_MM = (0.5, 0.9)
THICKNESS_MM = (1.0, 3.0)
SIZE, REACH_MM = 256, 60.0  # pixels; crops are centred at most this far from the centre
KERNEL_JITTER = 0.1
LEARNING_RATE = 3e-3
BATCH, PATCH = 16, 48


def simulate(phantoms: int, scanner: Scanner, crop: int, generator: torch.Generator, **painted: float) -> torch.Tensor:
    """Simulate crops with noise, without noise, and the measured noise level: (N, 3, crop, crop) HU.

    `painted` sets the grid of the phantoms.
    """

    def between(low: float, high: float) -> float:
        return low + (high - low) * torch.rand(1, generator=generator).item()

    crops = []
    for seed in take(SCANS, phantoms, OFFSET):
        phantom = ChestPhantom(seed, **painted)
        for _ in range(SLICES_OF_PHANTOM):
            slab = phantom.slab_hu(between(-120, 120), between(*THICKNESS_MM))
            clean = scanner.project(hu_to_mu(slab), phantom.spacing_mm)
            mas = LOWEST_MAS * (HIGHEST_MAS / LOWEST_MAS) ** between(0, 1)
            noisy = scanner.add_noise(clean, mas, 1.0, generator)
            for _ in range(KERNELS_OF_SLICE):
                kernel = list(KERNELS.values())[int(between(0, len(KERNELS)))].jittered(KERNEL_JITTER, generator)
                centre_mm = (between(-REACH_MM, REACH_MM), between(-REACH_MM, REACH_MM))
                grid = {"size": crop, "spacing_mm": between(*SPACINGS_MM), "centre_mm": centre_mm}
                before, after = (quantize(scanner.reconstruct(one, kernel, **grid)) for one in (noisy, clean))
                crops.append(torch.stack([before, after, noise_level(before) * noise_ratio(before)]))
        print(f"phantom {seed}", flush=True)
    return torch.stack(crops)


def train(crops: torch.Tensor, steps: int, generator: torch.Generator) -> DenoisingStandIn:
    """Train the network that predicts noise-free crops from noisy ones, both divided by the noise level."""
    torch.manual_seed(SEED)
    model = DenoisingStandIn()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        chosen = torch.randint(len(crops), (BATCH,), generator=generator)
        corners = torch.randint(crops.shape[-1] - PATCH, (BATCH, 2), generator=generator)
        patches = torch.stack([
            crops[index, :, top : top + PATCH, left : left + PATCH]
            for index, (top, left) in zip(chosen, corners.tolist(), strict=True)
        ])  # fmt: skip
        turns = int(torch.randint(4, (1,), generator=generator))
        noisy, clean, sigma = torch.rot90(patches, turns, (2, 3)).split(1, dim=1)
        error = (noisy - model(noisy, sigma) - clean) / sigma
        loss = torch.nn.functional.smooth_l1_loss(error, torch.zeros_like(error))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            unchanged = ((noisy - clean) / sigma).square().mean().sqrt()
            print(f"step {step}: error {error.square().mean().sqrt():.3f} of {unchanged:.3f} noise levels", flush=True)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="file of the weights")
    parser.add_argument("--phantoms", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="one phantom, a coarse scanner, three steps")
    given = parser.parse_args()
    torch.set_num_threads(1)
    random = torch.Generator().manual_seed(SEED)
    if given.quick:
        coarse = Scanner(n_views=120, n_detectors=576, detector_mm=0.7)
        trained = train(simulate(1, coarse, 64, random, size=256, spacing_mm=1.4), 3, random)
    else:
        trained = train(simulate(given.phantoms, Scanner(), SIZE, random), given.steps, random)
    weights = {name: value.half().contiguous() for name, value in trained.state_dict().items()}
    with whole_file(given.output) as part:
        save_file(weights, part)
        part.chmod(0o644)
