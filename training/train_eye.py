"""Train the learnt eye, a witness of the kernel where no skin is in view, on real series and simulated scans.

    accelerate launch training/train_eye.py --series CT/a CT/b --held-out CT/c --scans runs/scans --output runs/eye
    accelerate launch training/train_eye.py ... --resume latest
"""

from diffusionct_pipeline.train import EyeOptions, EyePhase, parse_options, train

if __name__ == "__main__":
    train(parse_options(EyeOptions, __doc__), EyePhase)
