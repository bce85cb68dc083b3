#!/usr/bin/env bash
# Runs the simulation, both phases and the export in one command, and prints the duration of each stage.
#
#   training/train_all.sh OUT [OBJECTS ...]
#
# OBJECTS are folders of sharp CT (DICOM) or .npz packs that are scanned again; without any, only phantoms are scanned. Run it
# again after an interruption: existing scans are kept, a phase continues from its last checkpoint, and finished stages are
# skipped. Options of the stages, with their defaults:
#   SCANS="--groups 240 --processes 2"  AUTOENCODER="--max-steps 4000"  LATENT="--max-steps 20000"  EXPORT=""
# The embedded checkpoint also used SCANS="... --filtered-groups 50 --filtered DIR [DIR ...]" with CT of any kernel.
set -euo pipefail
out=$1
shift
objects=(${@:+--objects "$@"})
read -ra scans <<< "${SCANS:---groups 240 --processes 2}"
read -ra autoencoder <<< "${AUTOENCODER:---max-steps 4000}"
read -ra latent <<< "${LATENT:---max-steps 20000}"
read -ra export <<< "${EXPORT:-}"

# stage NAME DONE COMMAND ...: DONE is the file that is written last.
stage() {
    local name=$1 done=$2 started=$SECONDS
    shift 2
    if [ -n "$done" ] && [ -e "$done" ]; then
        echo "$name: skipped, $done exists"
        return
    fi
    "$@"
    echo "$name: $((SECONDS - started)) s"
}

# "--resume latest" where a phase was interrupted.
resume() {
    if compgen -G "$1/checkpoints/step-*" > /dev/null; then echo --resume latest; fi
}

stage scans "" python training/simulate_scans.py --output "$out/scans" "${objects[@]}" "${scans[@]}"
# shellcheck disable=SC2046  # two words or none
stage autoencoder "$out/autoencoder/metrics.json" \
    accelerate launch training/train_autoencoder.py --scans "$out/scans" --output "$out/autoencoder" \
    $(resume "$out/autoencoder") "${autoencoder[@]}"
# shellcheck disable=SC2046
stage latent "$out/latent/metrics.json" \
    accelerate launch training/train_latent.py --scans "$out/scans" \
    --autoencoder "$out/autoencoder/autoencoder" --output "$out/latent" $(resume "$out/latent") "${latent[@]}"
stage export "$out/checkpoint/metrics.json" \
    python training/export_checkpoint.py "$out/latent" "$out/checkpoint" "${export[@]}"
