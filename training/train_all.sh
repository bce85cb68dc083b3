#!/usr/bin/env bash
# Scans, both phases and the export in one command, with the seconds that each stage took.
#
#   training/train_all.sh OUT [OBJECTS ...]
#
# OBJECTS are folders of sharp CT (DICOM) or .npz packs that are scanned once more; without any, phantoms alone. Run it again
# after an interruption: scans that are there stay, a phase goes on from its last checkpoint, a stage that is done is skipped.
# Options of the stages, with what they are otherwise:
#   SCANS="--groups 240 --processes 2"  AUTOENCODER="--max-steps 4000"  LATENT="--max-steps 20000"  EXPORT=""
# What the embedded checkpoint has beside: SCANS="... --filtered-groups 50 --filtered DIR [DIR ...]", CT of any kernel.
set -euo pipefail
out=$1
shift
objects=(${@:+--objects "$@"})
read -ra scans <<< "${SCANS:---groups 240 --processes 2}"
read -ra autoencoder <<< "${AUTOENCODER:---max-steps 4000}"
read -ra latent <<< "${LATENT:---max-steps 20000}"
read -ra export <<< "${EXPORT:-}"

# stage NAME DONE COMMAND ...: DONE is a file that is written last.
stage() {
    local name=$1 done=$2 started=$SECONDS
    shift 2
    if [ -n "$done" ] && [ -e "$done" ]; then
        echo "$name: skipped, $done is there"
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
