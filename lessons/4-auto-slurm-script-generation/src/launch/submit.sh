#!/bin/bash
# Submits a script with the settings of this site: bash src/launch/submit.sh SCRIPT
set -euo pipefail
# sbatch reads account, partition and so on from the SBATCH_ variables of site.sh
source cluster/site_env.sh >&2
# variables left over from other jobs must not override the script
unset SBATCH_ARRAY_INX SBATCH_ERROR SBATCH_JOB_NAME SBATCH_OPEN_MODE SBATCH_OUTPUT SBATCH_WAIT
unset SBATCH_CPUS_PER_TASK SBATCH_MEM_PER_CPU SBATCH_MEM_PER_NODE SBATCH_TIMELIMIT
if ! command -v sbatch >/dev/null; then
    echo "sbatch: command not found. You are not on a Slurm login node: train here with --local," \
        "or start the practice cluster (docs/practice-cluster.md)" >&2
    exit 127
fi
case $PWD in *[%\\]*)
    echo "Slurm cannot write logs below $PWD: clone to a path without % and \\" >&2
    exit 1 ;;
esac
exec sbatch --parsable "$1"
