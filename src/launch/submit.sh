#!/bin/bash
# Submits a script with the settings of this site: bash src/launch/submit.sh SCRIPT
set -euo pipefail
# sbatch reads account, partition and so on from the SBATCH_ variables of site.sh
source cluster/site_env.sh >&2
if ! command -v sbatch >/dev/null; then
    echo "sbatch: command not found. You are not on a Slurm login node: train here with --local," \
        "or start the practice cluster (docs/practice-cluster.md)" >&2
    exit 127
fi
case $PWD in *[%\\\"]*)
    echo "Slurm cannot write logs below $PWD: clone to a path without % and without \\ or \"" >&2
    exit 1 ;;
esac
# those variables override the lines of a script, but not options: pass the lines as options too
mapfile -t options < <(sed -n 's/^#SBATCH //p' "$1" | xargs -n 1 printf '%s\n')
exec sbatch --parsable "${options[@]}" "$1"
