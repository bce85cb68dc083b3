"""The method of Selim et al. 2023 ("DiffusionCT", arXiv:2301.08815) on one page: two networks, two losses, sampling.

    python examples/paper_in_one_file.py [--steps 150] [--crop 64] [--size 256] [--sampling-steps 50]

It trains on simulated pairs, offline and on a CPU, for about a minute on two cores (100 s of one core), and is then tested
on a simulated scan that it has not seen. Read it beside the paper. The paper numbers only the two equations of its
evaluation, (1) and (2); its losses have no numbers and are named here by their phase of training. docs/paper.md explains
how the text is interpreted, and lists where the embedded checkpoint goes beyond it.

A is a slice under a non-standard kernel, B is the same slice under the standard kernel, and Z_A and Z_B are their latents.

Do not expect a standardized image after a minute. Even after longer training this recipe changes little, because texture
passes through the skip connections, bypassing the diffused latent (docs/study.md). The last table shows this.
"""

import argparse
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet1DModel
from scipy.ndimage import laplace
from torch import nn

from diffusionct_pipeline.image_processor import to_hu, to_model
from diffusionct_pipeline.simulation import ChestPhantom, ScanOptions, simulate_pair
from diffusionct_pipeline.simulation.splits import EXAMPLES
from diffusionct_pipeline.train.data.image_pairs import PairGenerator

STANDARD = "Bl64"  # the sharp lung kernel that the paper prints as "B164"
LATENT_CHANNELS = 32  # C of the latent; the paper gives no size
LEARNING_RATE = 1e-3  # the paper's 1e-4 is for 20 epochs of 19,786 slices
LATENT_STEPS = 3  # steps of phase two per step of phase one
LATENT_BATCH, POOL = 32, 16  # pairs of latents per step of phase two; batches of slices that are encoded for it
L1_WEIGHT = 0.1  # of the second term of the diffusion loss; the paper gives no weight


# ---------------------------------------------------------------- Network 1: the encoder-decoder, a ResNet-18 U-Net
class ResidualBlock(nn.Module):
    """The basic block of ResNet-18: two 3 x 3 convolutions and a shortcut."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut = nn.Conv2d(before, after, 1, stride) if before != after else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(hidden + self.shortcut(x))


class UpBlock(nn.Module):
    """Doubles the resolution, joins the skip of that resolution, and convolves."""

    def __init__(self, below: int, skip: int, after: int):
        super().__init__()
        self.conv1 = nn.Conv2d(below + skip, after, 3, padding=1)
        self.norm = nn.GroupNorm(8, after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        x = torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1)
        return self.conv2(F.silu(self.norm(self.conv1(x))))


class Autoencoder(nn.Module):
    """The encoder is ResNet-18 in five blocks, and the decoder doubles the resolution five times.

    The paper's "1-D latent vector" is interpreted as a sequence (B, C, L) with one position per 32 x 32 pixels. Its
    "several 1D convolutional layers in the last layers", without skips, are interpreted as 1 x 1 convolutions.
    """

    def __init__(self):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(1, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU())  # /2
        self.block2 = nn.Sequential(nn.MaxPool2d(3, 2, padding=1), ResidualBlock(64, 64, 1), ResidualBlock(64, 64, 1))
        self.block3 = nn.Sequential(ResidualBlock(64, 128, 2), ResidualBlock(128, 128, 1))  # /8
        self.block4 = nn.Sequential(ResidualBlock(128, 256, 2), ResidualBlock(256, 256, 1))  # /16
        self.block5 = nn.Sequential(ResidualBlock(256, 512, 2), ResidualBlock(512, 512, 1))  # /32
        self.to_latent = nn.Conv2d(512, LATENT_CHANNELS, 1)

        self.from_latent = nn.Conv2d(LATENT_CHANNELS, 256, 3, padding=1)
        self.from_slice = nn.Conv2d(1, 16, 5, padding=2)  # the skip at full resolution
        widths = [(256, 256, 128), (128, 128, 64), (64, 64, 64), (64, 64, 32), (32, 16, 16)]  # below, skip, after
        self.up_blocks = nn.ModuleList(UpBlock(*width) for width in widths)
        self.tail = nn.Sequential(nn.Conv2d(16, 32, 1), nn.SiLU(), nn.Conv2d(32, 1, 1))

        # Mean and standard deviation of the latent by channel, measured after phase one, as diffusion needs unit scale.
        self.register_buffer("mean", torch.zeros(LATENT_CHANNELS, 1))
        self.register_buffer("std", torch.ones(LATENT_CHANNELS, 1))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the normalized latent (B, C, L) of (B, 1, H, W), L = H / 32 * W / 32, and the skips."""
        skips = [self.from_slice(x)]  # /1
        for block in (self.block1, self.block2, self.block3, self.block4):
            skips.append(block(x if len(skips) == 1 else skips[-1]))  # /2, /4, /8, /16
        latent = self.to_latent(self.block5(skips[-1])).flatten(2)  # [B,C,L]
        return (latent - self.mean) / self.std, skips

    def decode(self, latent: torch.Tensor, skips: list[torch.Tensor]) -> torch.Tensor:
        """Draw (B, 1, H, W) from a normalized latent (B, C, L) and the skips of the slice that gives the anatomy."""
        height, width = (side // 2 for side in skips[-1].shape[-2:])
        hidden = self.from_latent((latent * self.std + self.mean).unflatten(2, (height, width)))
        for block, skip in zip(self.up_blocks, reversed(skips)):
            hidden = block(hidden, skip)
        return self.tail(hidden)


# ------------------------------------------------- Network 2: the denoiser of the conditional DDPM, a 1-D U-Net
def make_denoiser() -> UNet1DModel:
    """Return p(Z_B | Z_A): the condition enters as further channels, and the time step enters every residual block."""
    return UNet1DModel(
        in_channels=2 * LATENT_CHANNELS,  # noisy Z_B and Z_A
        out_channels=LATENT_CHANNELS,  # the noise in Z_B
        block_out_channels=(64, 128, 128),
        down_block_types=("DownResnetBlock1D",) * 3,
        mid_block_type="MidResTemporalBlock1D",
        up_block_types=("UpResnetBlock1D",) * 2,
        out_block_type="OutConv1DBlock",
        time_embedding_type="positional",
        use_timestep_embedding=True,
        act_fn="mish",
    )


def predict_noise(denoiser: UNet1DModel, z_t: torch.Tensor, t: torch.Tensor, z_a: torch.Tensor) -> torch.Tensor:
    """Predict the noise in z_t (B, C, L) at time t (B,), given Z_A (B, C, L)."""
    length = z_t.shape[-1]
    padded = F.pad(torch.cat([z_t, z_a], 1), (0, -length % 4), mode="replicate")  # the U-Net halves twice
    return denoiser(padded, t).sample[..., :length]


# ------------------------------------------------------------------------------------------------ The two losses
def reconstruction_loss(autoencoder: Autoencoder, x: torch.Tensor) -> torch.Tensor:
    """Return the L2 loss of phase one: decode(encode(x)) must reproduce x, for standard and non-standard slices alike.

    The paper adds an "anatomic loss" without a formula, which is left out.
    """
    return F.mse_loss(autoencoder.decode(*autoencoder.encode(x)), x)


def diffusion_loss(
    denoiser: UNet1DModel, scheduler: DDPMScheduler, z_a: torch.Tensor, z_b: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the loss of phase two: L2 between noise and prediction (Ho et al. 2020), plus the paper's L1 term.

    `add_noise` is z_t = sqrt(abar_t) Z_B + sqrt(1 - abar_t) noise; the paper prints a product of Z_B + noise.
    """
    noise = torch.randn(z_b.shape, generator=generator)
    t = torch.randint(scheduler.config.num_train_timesteps, (len(z_b),), generator=generator)
    error = predict_noise(denoiser, scheduler.add_noise(z_b, noise, t), t, z_a) - noise
    return error.square().mean() + L1_WEIGHT * error.abs().mean()


# ---------------------------------------------------------------------------------------------- The two phases
def train_autoencoder(pairs: PairGenerator, steps: int, batch: int, generator: torch.Generator) -> Autoencoder:
    """Train phase one: the encoder-decoder alone, on all slices."""
    autoencoder = Autoencoder()
    optimizer = torch.optim.Adam(autoencoder.parameters(), LEARNING_RATE)
    for step in range(steps):
        pair = pairs(batch, generator)
        loss = reconstruction_loss(autoencoder, torch.cat([pair.a, pair.b]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report("phase one", step, steps, loss)
    autoencoder.eval().requires_grad_(False)  # frozen from here on
    pair = pairs(8 * batch, generator)
    latents = autoencoder.encode(torch.cat([pair.a, pair.b]))[0]
    autoencoder.mean = latents.mean((0, 2))[:, None]
    autoencoder.std = latents.std((0, 2))[:, None].clamp(min=1e-3)
    return autoencoder


def train_denoiser(
    autoencoder: Autoencoder,
    scheduler: DDPMScheduler,
    pairs: PairGenerator,
    steps: int,
    batch: int,
    generator: torch.Generator,
) -> UNet1DModel:
    """Train phase two: the latent DDPM on pairs (Z_A, Z_B), with a frozen encoder-decoder.

    A pool of pairs is therefore encoded once, and a step takes a fraction of the time of one of phase one.
    """
    drawn = (pairs(batch, generator) for _ in range(POOL))
    encoded = [[autoencoder.encode(side)[0] for side in (pair.a, pair.b)] for pair in drawn]
    latents_a, latents_b = (torch.cat(side) for side in zip(*encoded))
    denoiser = make_denoiser()
    optimizer = torch.optim.Adam(denoiser.parameters(), LEARNING_RATE)
    for step in range(steps):
        chosen = torch.randint(len(latents_a), (LATENT_BATCH,), generator=generator)
        loss = diffusion_loss(denoiser, scheduler, latents_a[chosen], latents_b[chosen], generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        report("phase two", step, steps, loss)
    return denoiser.eval()


def report(phase: str, step: int, steps: int, loss: torch.Tensor) -> None:
    """Print the loss ten times per phase."""
    if (step + 1) % max(1, steps // 10) == 0:
        print(f"{phase}  step {step + 1:4d}  loss {loss.item():.4f}", flush=True)


# -------------------------------------------------------------------------------------------------- Inference
@torch.no_grad()
def standardize(
    autoencoder: Autoencoder, denoiser: UNet1DModel, scheduler: DDPMScheduler, a: torch.Tensor, steps: int, seed: int
) -> torch.Tensor:
    """Standardize slices (B, 1, H, W): Z_A = encode(A); Z_A' = DDPM(Z_A); A' = decode(Z_A')."""
    generator = torch.Generator().manual_seed(seed)
    z_a, skips = autoencoder.encode(a)
    z = torch.randn(z_a.shape, generator=generator)  # pure noise, the start of sampling
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        noise = predict_noise(denoiser, z, t.expand(len(z)), z_a)
        z = scheduler.step(noise, t, z, generator=generator).prev_sample
    return autoencoder.decode(z, skips)


# ------------------------------------------------------------------------------------------------- Evaluation
def relative_error(feature: np.ndarray, standard: np.ndarray) -> np.ndarray:
    """Return Eq. (1); a feature is called reproducible if this is below .15."""
    return np.abs(feature - standard) / np.abs(standard)


def concordance(feature: np.ndarray, standard: np.ndarray) -> float:
    """Return Eq. (2), the concordance correlation coefficient of a feature over regions."""
    covariance = np.mean((feature - feature.mean()) * (standard - standard.mean()))
    return 2 * covariance / (feature.var() + standard.var() + (feature.mean() - standard.mean()) ** 2)


def texture(hu: np.ndarray, side: int = 32) -> np.ndarray:
    """Measure the standard deviation of the Laplacian in HU in every square of a slice, a feature that shows its kernel."""
    return np.array([
        laplace(hu)[row : row + side, column : column + side].std()
        for row in range(0, hu.shape[0], side) for column in range(0, hu.shape[1], side)
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--steps", type=int, default=150, help="steps of phase one; phase two takes three times as many"
    )
    parser.add_argument("--batch", type=int, default=4, help="pairs per step")
    parser.add_argument("--crop", type=int, default=64, help="side of a training slice in pixels, a multiple of 32")
    parser.add_argument("--size", type=int, default=256, help="side of the tested slice in pixels, a multiple of 32")
    parser.add_argument("--sampling-steps", type=int, default=50)
    options = parser.parse_args()

    # 1. Pairs of reconstructions of one scan: A under any kernel, B under the standard's.
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    pairs = PairGenerator([], options.crop, standard_kernel=STANDARD, standard_share=1.0)

    # 2. The two phases of training.
    start = time.perf_counter()
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False)
    autoencoder = train_autoencoder(pairs, options.steps, options.batch, generator)
    denoiser = train_denoiser(autoencoder, scheduler, pairs, LATENT_STEPS * options.steps, options.batch, generator)
    print(f"trained in {time.perf_counter() - start:.0f} s")

    # 3. A phantom that is not trained on, scanned once and reconstructed under both kernels.
    scan = ScanOptions(kernels=("Br40", STANDARD), size=options.size, spacing_mm=0.7)
    pair = simulate_pair(ChestPhantom(seed=EXAMPLES[1]), z_mm=0.0, options=scan, seed=EXAMPLES[1])
    a, b = (to_model(torch.from_numpy(pair.hu[name]).float()[None, None]) for name in ("Br40", STANDARD))

    # 4. Results. decode(Z_B) is the best that any diffusion of the latent could reach.
    with torch.no_grad():
        z_a, skips = autoencoder.encode(a)
        images = {
            "A": a,
            "decode(Z_A)": autoencoder.decode(z_a, skips),
            "decode(DDPM(Z_A))": standardize(autoencoder, denoiser, scheduler, a, options.sampling_steps, seed=0),
            "decode(Z_B)": autoencoder.decode(autoencoder.encode(b)[0], skips),
            "B": b,
        }
    standard = texture(pair.hu[STANDARD])
    for name, image in images.items():
        feature = texture(to_hu(image)[0, 0].numpy())
        share, ccc = (relative_error(feature, standard) < 0.15).mean(), concordance(feature, standard)
        print(f"{name:18s} texture {feature.mean():6.1f} HU   within 15 % {share:4.0%}   CCC {ccc:5.2f}")


if __name__ == "__main__":
    main()
