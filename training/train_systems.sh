#!/usr/bin/env bash
# Every trained rival of the comparison with the same budget, and one record of them all.
#
#   training/train_systems.sh BUDGET_SECONDS [OUT [OBJECTS ...]]
#
# Writes OUT/NAME for each (OUT is runs/systems) and OUT/record.json, which `diffusionct study` reads.
# OBJECTS are folders of sharp CT (DICOM) or .npz packs; without any, phantoms alone. Run it again after an interruption.
# OPTIONS="--size small --batch-size 4 --cpu" are further ones of train_systems.py; these are for a CPU.
set -euo pipefail
budget=$1
out=${2:-runs/systems}
shift $(($# < 2 ? $# : 2))
read -ra options <<< "${OPTIONS:-}"
exec accelerate launch training/train_systems.py --budget-seconds "$budget" --output "$out" ${@:+--objects "$@"} "${options[@]}"
