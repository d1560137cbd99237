#!/bin/bash
#SBATCH --job-name=cifar10
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=slurm.%j.out
#SBATCH --open-mode=append
# The training of run.py as a plain batch script: sbatch run.sh [arguments of run.py]
# Change its shape with sbatch's options: sbatch --nodes=4 --gres=gpu:2 run.sh --arch resnet50

set -euo pipefail
# Slurm runs a copy of this file from another folder, and says where sbatch was called
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
if [ ! -f run.py ]; then
    echo "No run.py in $PWD: call sbatch in the repository's root, where it is." >&2
    exit 1
fi

# modules, data folder and Python environment of this site, see site.example.sh
trap 'echo "site.sh has ended the job: see above, or take its exit out" >&2; exit 1' EXIT
if [ -f site.sh ]; then source ./site.sh; fi
trap - EXIT
VENV="${VENV:-env}"
if [ ! -f "$VENV/bin/activate" ]; then
    echo "No Python environment at $VENV (seen from $PWD): run this in the repository's root," \
        "and make the environment as docs/preparation.md says, or set VENV in site.sh." >&2
    exit 1
fi
source "$VENV/bin/activate"

# print lines when they come, not at the end
export PYTHONUNBUFFERED=1

# a process that a signal has ended cannot say so itself; the exit code stays what it is
explain() {
    local code=$? name
    if [ $code -gt 128 ]; then
        name=$(kill -l $code 2>/dev/null || echo "NAL $((code - 128))")
        echo "A process was ended by SIG$name. If a line above names memory, ask for" \
            "more with --mem; for other causes see docs/troubleshooting.md." >&2
    fi
}
trap explain EXIT

if [ -n "${SLURM_JOB_ID:-}" ]; then
    # as many threads a process as CPUs are asked for
    export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
    # srun does not take over --cpus-per-task by itself, nor at some sites the environment
    export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" SLURM_EXPORT_ENV=ALL
    # a task that fails ends the others
    export SLURM_KILL_BAD_EXIT=1
    # nodes and tasks are those that Slurm gave; the log folder has the number of the job, and is
    # apart from those that run.py counts
    srun python run.py --local --num_nodes="$SLURM_JOB_NUM_NODES" \
        --devices="${SLURM_NTASKS_PER_NODE:-1}" --log_path=logs/sbatch --version="$SLURM_JOB_ID" "$@"
else
    python run.py --local "$@"
fi
