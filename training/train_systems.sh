#!/usr/bin/env bash
# Trains every rival of the comparison with the same budget, and writes one record.
#
#   training/train_systems.sh BUDGET_SECONDS [OUT [OBJECTS ...]]
#
# Writes OUT/NAME for each (OUT is runs/systems) and OUT/record.json, which `diffusionct study` reads.
# OBJECTS are folders of sharp CT (DICOM) or .npz packs; without any, only phantoms are used. Run it again after an
# interruption. OPTIONS are further options of train_systems.py, such as "--size small --batch-size 4 --cpu" for a CPU.
set -euo pipefail
budget=$1
out=${2:-runs/systems}
shift $(($# < 2 ? $# : 2))
read -ra options <<< "${OPTIONS:-}"
exec accelerate launch training/train_systems.py --budget-seconds "$budget" --output "$out" ${@:+--objects "$@"} "${options[@]}"
