"""Measure the seconds per simulated pair or the scanner's noise, and print the hardware.

python benchmarks/simulation_speed.py
python benchmarks/simulation_speed.py --device cuda --repeats 20
python benchmarks/simulation_speed.py --noise          # noise of 20 cm of water, which the dose is tuned to
"""

import argparse
import platform
import time

import torch

from diffusionct_pipeline.simulation import ChestPhantom, Scanner, ScanOptions, simulate_pair
from diffusionct_pipeline.simulation.scanner import MU_WATER


def hardware(device):
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            name = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.get_num_threads()} thread(s)"


def timed(device, step):
    """Return (wall seconds, CPU seconds); they differ where other work runs on the machine."""
    if device == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    result = step()
    if device == "cuda":
        torch.cuda.synchronize()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def measure_speed(device, repeats, thickness_mm):
    phantom, build, _ = timed(device, lambda: ChestPhantom(0, device=device))
    options, scanner = ScanOptions(thickness_mm=thickness_mm), Scanner(device)
    print(f"hardware            {hardware(device)}; torch {torch.__version__}")
    print(f"task                1 slice of {thickness_mm:g} mm, Br40 and Bl64, 512 x 512, {scanner.n_views} views")
    print(f"phantom, once       {build:8.2f} s")
    _, first, _ = timed(device, lambda: simulate_pair(phantom, 0.0, options, scanner=scanner))
    print(f"first pair (tables) {first:8.2f} s")
    seconds = []
    for i in range(repeats):
        z = 1.0 + i
        _, slab, slab_cpu = timed(device, lambda: phantom.slab_hu(z, thickness_mm))
        _, pair, pair_cpu = timed(device, lambda: simulate_pair(phantom, z, options, seed=i, scanner=scanner))
        seconds.append((pair, pair_cpu, slab, slab_cpu))
    pair, pair_cpu, slab, slab_cpu = torch.tensor(seconds).median(0).values.tolist()
    print(f"pair, median of {repeats:<3} {pair:8.2f} s wall {pair_cpu:8.2f} s CPU")
    print(f"  of it the phantom {slab:8.2f} s wall {slab_cpu:8.2f} s CPU")


def measure_noise(device):
    """Print the standard deviation in the middle of 20 cm of water at 200 mAs, 1 mm, and pixels of 0.7 mm."""
    scanner, spacing = Scanner(device), 0.35
    axis = (torch.arange(640, device=device) - 320) * spacing
    radius = torch.sqrt(axis[:, None] ** 2 + axis[None, :] ** 2)
    water = scanner.project(MU_WATER * (0.5 + (100 - radius) / spacing).clamp(0, 1), spacing)
    noisy = scanner.add_noise(water, 200, 1.0, torch.Generator().manual_seed(0))
    for kernel in ("Br40", "Bl64"):
        middle = scanner.reconstruct(noisy, kernel, size=128, spacing_mm=0.7)[32:96, 32:96]
        print(f"noise of 20 cm water, 200 mAs, 1 mm, {kernel}: {middle.std():.1f} HU (mean {middle.mean():.2f} HU)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed pairs (default: %(default)s)")
    parser.add_argument("--thickness", type=float, default=1.0, help="slice thickness in mm (default: %(default)s)")
    parser.add_argument("--noise", action="store_true", help="measure noise instead of speed")
    arguments = parser.parse_args()
    if arguments.noise:
        measure_noise(arguments.device)
    else:
        measure_speed(arguments.device, arguments.repeats, arguments.thickness)
