#!/usr/bin/env bash
# Every trained rival of the comparison with the same budget, and one record of them all.
#
#   training/train_systems.sh BUDGET_SECONDS [OUT [OBJECTS ...]]
#
# Writes OUT/NAME for each (OUT is runs/systems) and OUT/record.json, which benchmarks/systems.py reads. OBJECTS are folders of
# sharp CT (DICOM) or .npz packs; without any, phantoms alone. The paper's recipe halves its budget between its phases; the
# encoder-decoder is the first of them. Run it again after an interruption: a system goes on from its last checkpoint, one that
# is done is skipped.
#
# Networks are as published; SMALL=1 halves their widths and takes crops of 128, for a CPU. Options:
#   OPTIONS="--batch-size 4"                             of all rivals
#   VALIDATION="--validation-steps 500 --validation-pairs 2"   the best is kept; the DDPM, which is slow to sample, keeps its last
#   LITERAL="--cpu"                                      of the paper's two phases
#   SYSTEMS="pix2pix;CycleGAN"                           only these
set -euo pipefail
budget=$1
out=${2:-runs/systems}
shift $(($# < 2 ? $# : 2))
objects=(${@:+--objects "$@"})
read -ra options <<< "${OPTIONS:-}"
read -ra validation <<< "${VALIDATION:---validation-steps 500 --validation-pairs 2}"
read -ra literal <<< "${LITERAL:-}"
endless=(--max-steps 1000000000 --checkpoint-steps 500)

# "U-Net, L1" -> "u_net_l1"
folder_of() {
    echo "$1" | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9\n' '_' | sed 's/_$//'
}

# Whether SYSTEMS, if given, names a system; its names are separated by semicolons, since some hold a comma.
wanted() {
    [ -z "${SYSTEMS:-}" ] || [[ ";$SYSTEMS;" == *";$1;"* ]]
}

# Options of the networks of a system where SMALL is set.
small_network() {
    if [ -z "${SMALL:-}" ]; then return; fi
    echo "--crop 128"
    case "$1" in
        pix2pix | GANai | STAN-CT) echo "--network downs=7 base_channels=32" ;;
        CycleGAN) echo "--network base_channels=32 blocks=6" ;;
        CVH-CT) echo "--network base_channels=32 blocks=6 vgg_channels=32" ;;
        RadiomicGAN) echo "--network base_channels=32 vgg_channels=32" ;;
        UDA-CT) echo "--network base_channels=32" ;;
        DDPM) echo "--network block_out_channels=[32,64,128,256]" ;;
    esac
}

# stage NAME FOLDER SECONDS SCRIPT ARGUMENTS ...: metrics.json is written last; checkpoints only serve to go on.
stage() {
    local name=$1 folder=$2 seconds=$3 script=$4
    shift 4
    if [ -e "$folder/metrics.json" ]; then
        echo "$name: skipped, $folder/metrics.json is there"
        return
    fi
    local resume=()
    if compgen -G "$folder/checkpoints/step-*" > /dev/null; then resume=(--resume latest); fi
    accelerate launch "training/$script" --output "$folder" --max-seconds "$seconds" "${endless[@]}" "${objects[@]}" \
        "${resume[@]}" "$@"
    rm -rf "$folder/checkpoints"
    echo "$name: done"
}

record=()
for name in "U-Net, L1" pix2pix CycleGAN GANai STAN-CT RadiomicGAN CVH-CT UDA-CT DDPM; do
    if ! wanted "$name"; then continue; fi
    folder=$out/$(folder_of "$name")
    watched=("${validation[@]}")
    if [ "$name" = DDPM ]; then watched=(--validation-steps 0); fi
    # shellcheck disable=SC2046  # several words or none
    stage "$name" "$folder" "$budget" train_system.py --system "$name" "${watched[@]}" $(small_network "$name") "${options[@]}"
    record+=("$name" "$folder")
done
if wanted "DiffusionCT (literal)"; then
    half=$((budget / 2))
    stage encoder-decoder "$out/encoder_decoder" "$half" train_literal_autoencoder.py --validation-steps 0 "${literal[@]}"
    stage "DiffusionCT (literal)" "$out/diffusionct_literal" "$half" train_literal_latent.py \
        --autoencoder "$out/encoder_decoder/autoencoder" --validation-steps 0 "${literal[@]}"
    record+=(encoder-decoder "$out/encoder_decoder" "DiffusionCT (literal)" "$out/diffusionct_literal")
fi
python training/record_systems.py "$out/record.json" "$budget" "${record[@]}"
