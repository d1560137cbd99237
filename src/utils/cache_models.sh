#!/bin/bash
# Downloads torchvision's ImageNet weights on a node with internet, for jobs without internet:
# bash src/utils/cache_models.sh [resnet18 resnet34 ...]; TORCH_HOME in site.sh sets the folder
set -euo pipefail
die() { echo "$*" >&2; exit 1; }

[ -z "${SLURM_JOB_ID:-}" ] ||
    die "job $SLURM_JOB_ID must not download: run this on a node with internet"
[ -f cluster/job_env.sh ] || die "No cluster/job_env.sh in $PWD: run this in the repository's root."
# this site's Python, and TORCH_HOME
source cluster/job_env.sh

# the folder where torch.hub looks, then one address per line, from this version of torchvision
listing=$($PYTHON - "${@:-resnet18}" <<'PYTHON'
import sys, torch, torchvision
known = torchvision.models.list_models(module=torchvision.models, include="resnet*")
unknown = [name for name in sys.argv[1:] if name not in known]
if unknown:
    sys.exit(f"{unknown[0]!r} is not a ResNet of torchvision: choose from {' '.join(known)}")
print(torch.hub.get_dir() + "/checkpoints")
for name in sys.argv[1:]:
    print(torchvision.models.get_model_weights(name).DEFAULT.url)
PYTHON
) || exit 1
folder=$(head -n 1 <<<"$listing")
mkdir -p "$folder" 2>/dev/null && [ -w "$folder" ] ||
    die "cannot write to $folder: set TORCH_HOME in site.sh to a folder that you can write to"

# a file's name ends in the first 8 digits of its SHA-256 sum
holds() { [ -f "$1" ] && [ "$(sha256sum <"$1" | cut -c 1-8)" = "$2" ]; }

while read -r url; do
    file=${url##*/} sum=${url##*-}
    sum=${sum%.pth} path=$folder/$file
    if ! holds "$path" "$sum"; then
        # an incomplete download has another name, and is resumed
        curl --fail --location --proto '=https' --silent --show-error --retry 2 --connect-timeout 20 \
            --continue-at - --output "$path.part" "${MODELS_MIRROR:-${url%/*}}/$file" || {
            # 22: the server refused, perhaps because the .part file belongs to another file
            if [ $? = 22 ]; then rm -f "$path.part"; fi
            die "$file was not downloaded: see curl's error above. Run this again on a node with" \
                "internet, or set MODELS_MIRROR to an https:// folder"
        }
        holds "$path.part" "$sum" || {
            rm "$path.part"
            die "$file was discarded: its SHA-256 sum is wrong; run this again"
        }
        mv "$path.part" "$path"
    fi
    echo "$path"
done < <(tail -n +2 <<<"$listing")
