# shellcheck shell=bash disable=SC2154
# Shared by get_mnist.sh and get_cifar10.sh, which set "here", define unpack and call get_set.

warn() { printf '%s\n' "$*" >&2; }
die() { warn "$*"; exit 1; }
misuse() { warn "$*"; exit 2; }
stop() { warn "$name is not downloaded: interrupted; run \"$again\" to resume"; exit "$1"; }

sha256() { if type -P sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }
holds() { [ -f "$1" ] && [ "$(sha256 <"$1")" = "$2  -" ]; }
size() { if [ -f "$1" ]; then wc -c <"$1"; else echo 0; fi; }
archive_sums() { grep '\.gz$' "$here/$key.sha256"; }
set_sums() { grep -v '\.gz$' "$here/$key.sha256"; }

get_set() { # key, name of the set's folder, MB needed, mirrors, arguments of the script
    key=$1 name=$2 need_mb=$3 variable=$(tr '[:lower:]' '[:upper:]' <<<"$1")_MIRRORS
    read -r -d '' -a mirrors <<<"$4" || true
    read_arguments "${@:5}"
    [ -z "${SLURM_JOB_ID:-}" ] ||
        die "job $SLURM_JOB_ID must not download: run \"$again\" on a node with internet"
    mkdir -p -- "$folder" 2>/dev/null || cannot_write
    folder=$(cd -- "$folder" 2>/dev/null && pwd) || cannot_write
    target=$folder/$name work=$folder/.part-$key lock=$folder/.part-$key.lock child=
    if present; then return; fi
    tool=$(type -P curl || type -P wget) ||
        die "neither curl nor wget is on PATH: load a module that has one, or ask your site"
    take_lock
    # another run may have finished between the check and the lock
    if present; then return; fi
    mkdir -p "$work" 2>/dev/null || cannot_write
    while read -r sum file; do fetch "$file" "$sum"; done < <(archive_sums)
    install_set
}

read_arguments() {
    local mirror start=$PWD
    where=${1:+ $(printf %q "$1")}
    again="bash data/get_$key.sh$where"
    case ${1:-} in
    -h | --help)
        echo "usage: bash data/get_$key.sh [folder]"
        echo "Downloads $name to the folder (default: DATA_DIR, or data/); needs $need_mb MB."
        echo "To use other mirrors: $variable=\"https://...\", base URLs separated by spaces."
        exit
        ;;
    -*) misuse "unknown option $1: bash data/get_$key.sh takes a folder, or --help" ;;
    esac
    [ $# -le 1 ] || misuse "$# folders given, but at most one is allowed: quote a path that contains spaces"
    [ ${#mirrors[@]} -gt 0 ] || misuse "$variable is blank: name https:// URLs, or unset it"
    for mirror in "${mirrors[@]}"; do
        [[ $mirror == https://* ]] || misuse "$mirror is not an https:// URL: correct or unset $variable"
    done
    # DATA_DIR of site.sh
    cd "$here/.."
    source cluster/site_env.sh
    cd "$start"
    folder=${1:-${DATA_DIR:-$here}}
}

cannot_write() {
    local free
    free=$(df -Pk "$folder" 2>/dev/null | awk 'END { print int($4 / 1024) " MB free, " }') || true
    die "$folder cannot be written (${free}$name needs $need_mb MB): free some space and run" \
        "\"$again\" again, or name a folder that you can write to"
}

present() { # true if the set is complete; otherwise "state" says what is in its place
    local first=
    state=absent
    if [ ! -e "$target" ] && [ ! -L "$target" ]; then return 1; fi
    { read -r first <"$target/SHA256SUMS"; } 2>/dev/null || true
    state=sample
    if [[ $first == "# sample:"* ]]; then return 1; fi
    state=damaged
    whole || return
    echo "$target is already there, and its SHA-256 sums are correct"
    set_sums | cmp -s - "$target/SHA256SUMS" ||
        echo "note: its sums differ from those of the original files in data/$key.sha256"
}

whole() ( # no file is wrong, missing (except readme.html, which is not data) or unknown
    cd "$target" && sha256 --check --status SHA256SUMS 2>/dev/null || return
    while read -r _ file; do
        [ "$file" = readme.html ] || grep -q "  $file\$" SHA256SUMS || return
    done < <(set_sums)
    num_files=$(find -L . -name '.?*' -prune -o -type f -print | wc -l)
    [ "$num_files" -eq $(($(wc -l <SHA256SUMS) + 1)) ]
)

take_lock() { # mkdir is exclusive even on shared file systems, where flock may not be
    if ! mkdir "$lock" 2>/dev/null; then
        [ -d "$lock" ] || cannot_write
        take_over || die "$name is being downloaded by another run" \
            "($(cat "$lock/owner" 2>/dev/null || echo unnamed)): wait for it," \
            "or delete $lock if that process no longer exists"
    fi
    trap clean EXIT
    trap 'stop 129' HUP
    trap 'stop 130' INT
    trap 'stop 143' TERM
    sign
}

sign() { echo "$HOSTNAME $$ $child" 2>/dev/null >"$lock/owner" || cannot_write; }

# a zombie counts as dead: in a container, nothing may reap it
alive() {
    if grep -qs '^State:.*zombie' "/proc/$1/status"; then return 1; fi
    kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ]
}

take_over() { # the lock of a run that died on this host; its download may still be running
    local host pids pid
    read -r host pids 2>/dev/null <"$lock/owner" || return
    [ "$host" = "$HOSTNAME" ] || return
    for pid in $pids; do if alive "$pid"; then return 1; fi; done
    mkdir "$lock/after-${pids// /-}" 2>/dev/null
}

clean() {
    if [ -n "$child" ]; then { kill "$child" && wait "$child"; } 2>/dev/null || true; fi
    rm -rf "$work/new" "$lock"
    rmdir "$work" 2>/dev/null || true
}

fetch() { # archive, sum: keeps the partial file until it is complete, even across mirrors
    local mirror
    for mirror in "${mirrors[@]}"; do
        if fetch_from "${mirror%/}/$1" "$work/$1" "$2"; then return; fi
    done
    die "$name is not downloaded: none of ${mirrors[*]} has a correct $1; run \"$again\" again" \
        "on a node with internet, or \"env/bin/python data/make_sample.py$where\" for the sample"
}

fetch_from() { # URL, partial file, sum
    local had result
    if holds "$2" "$3"; then return; fi
    echo "downloading $1"
    for _ in 1 2 3 4 5; do
        had=$(size "$2") result=0
        download "$1" "$2" || result=$?
        if holds "$2" "$3"; then return; fi
        if [ $result = 2 ]; then cannot_write; fi
        if [ $result = 0 ] || [ $result = 3 ]; then
            warn "$1: its SHA-256 sum is wrong, so the file is deleted"
            rm -f "$2"
            # the bytes of an earlier attempt may be wrong, so try this mirror again for the whole file
            if [ "$had" -eq 0 ]; then return 1; fi
        elif [ "$(size "$2")" -le "$had" ]; then
            return 1
        fi
    done
    return 1
}

download() { # URL, partial file: 0 complete, 1 incomplete, 2 cannot write, 3 cannot resume
    local result=0 show=(--silent --show-error)
    if [ -t 2 ]; then show=(--progress-bar); fi
    if [[ $tool == */curl ]]; then
        "$tool" --fail --location --proto '=https' --proto-redir '=https' --continue-at - \
            --connect-timeout 10 --speed-limit 1000 --speed-time 30 "${show[@]}" \
            --write-out '%{http_code}' --output "$2" "$1" >"$lock/status" &
    else
        # wget follows a redirect to http; the sum protects against wrong data
        "$tool" --continue --tries=1 --dns-timeout=10 --connect-timeout=10 --read-timeout=30 \
            --no-verbose --output-document="$2" "$1" &
    fi
    child=$!
    sign
    # a trap runs at once during wait, but after the end of a foreground command
    wait "$child" || result=$?
    child=
    case ${tool##*/}-$result in
    *-0) return 0 ;;
    curl-23 | wget-3) return 2 ;;
    curl-33 | wget-8) return 3 ;;
    *) if grep -qs 416 "$lock/status"; then return 3; else return 1; fi ;;
    esac
}

install_set() { # a single rename installs the set; a kill before it leaves only hidden folders
    local new=$work/new/$name aside=$work/old n=1
    rm -rf "$work/new" "$work/old"
    { mkdir -p "$new" && unpack "$work" "$new" && set_sums >"$new/SHA256SUMS"; } || cannot_write
    (cd "$new" && sha256 --check --status SHA256SUMS) || cannot_write
    if [ "$state" = damaged ]; then
        while [ -e "$target.damaged-$n" ]; do n=$((n + 1)); done
        aside=$target.damaged-$n
        echo "$target is damaged: kept as $aside"
    elif [ "$state" = sample ]; then
        echo "$target is the sample: replaced by the full set (make_sample.py restores it)"
    fi
    if [ "$state" != absent ]; then mv "$target" "$aside"; fi
    # into the parent: if a folder of that name has appeared, this fails instead of nesting
    mv "$new" "$folder/"
    rm -rf "$work"
    echo "$target is complete, and its SHA-256 sums are correct"
}
