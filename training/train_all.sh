#!/usr/bin/env bash
# Both phases and the export in one command, by wall-clock: three quarters of SECONDS for the autoencoder, the rest for
# the denoiser.
#
#   training/train_all.sh OUT SECONDS [OBJECTS ...]
#
# OBJECTS are folders of sharp CT (DICOM) or .npz packs; without any, phantoms alone. The defaults took 7 GB of an H100, at
# 11 steps a second (autoencoder). On a CPU:
#   AUTOENCODER="--batch-size 4 --crop 160" LATENT="--batch-size 4 --crop 224" training/train_all.sh ...
set -euo pipefail
out=$1 seconds=$2
shift 2
objects=(${@:+--objects "$@"})
precision=(--mixed-precision "${PRECISION:-bf16}")
read -ra autoencoder <<< "${AUTOENCODER:---batch-size 32 --crop 256 --phantom-slices 256}"
read -ra latent <<< "${LATENT:---batch-size 32 --crop 256 --phantom-slices 256}"

accelerate launch training/train_autoencoder.py --output "$out/autoencoder" "${objects[@]}" "${precision[@]}" \
    --max-steps 1000000 --max-seconds $((seconds * 3 / 4)) "${autoencoder[@]}"
accelerate launch training/train_latent.py --autoencoder "$out/autoencoder/autoencoder" --output "$out/latent" \
    "${objects[@]}" "${precision[@]}" --max-steps 1000000 --max-seconds $((seconds / 4)) "${latent[@]}"
python training/export_checkpoint.py "$out/latent" "$out/checkpoint"
