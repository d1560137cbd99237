#!/usr/bin/env bash
# Fetch MNIST once, on a node with internet: bash data/get_mnist.sh [folder]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=fetch.sh disable=SC1091
source "$here/fetch.sh"

# all mirrors have the same files; mnist.sha256 contains their sums
mirrors=(
    https://ossci-datasets.s3.amazonaws.com/mnist
    https://storage.googleapis.com/cvdf-datasets/mnist
)

unpack() { # folder with the archives, new folder of the set
    local name
    mkdir "$2/raw" || return
    for name in {train,t10k}-{images-idx3,labels-idx1}-ubyte; do
        gzip -dc "$1/$name.gz" >"$2/raw/$name" || return
    done
}

# 11 MB to download, 55 MB unpacked
get_set mnist MNIST 70 "${MNIST_MIRRORS:-${mirrors[*]}}" "$@"
