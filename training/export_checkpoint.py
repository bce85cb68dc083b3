"""Export a trained pipeline as float16 safetensors in small shards, with its model card and metrics.

python training/export_checkpoint.py runs/latent exported --metrics metrics.json
"""

import argparse
import json
from pathlib import Path

from diffusionct_pipeline.train.export import export_checkpoint

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder that train_latent.py wrote")
    parser.add_argument("output", type=Path, help="checkpoint folder to write")
    parser.add_argument(
        "--metrics", type=Path, help="metrics.json to store beside the weights; default: that of the run"
    )
    parser.add_argument("--card", type=Path, default=Path("model_card.md"), help="model card")
    arguments = parser.parse_args()
    metrics = json.loads((arguments.metrics or arguments.source / "metrics.json").read_text())
    size = export_checkpoint(arguments.source, arguments.output, card=arguments.card, metrics=metrics)
    print(f"{arguments.output}: {size / 1e6:.1f} MB")
