#!/bin/bash
#SBATCH --job-name=mnist
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=3
#SBATCH --mem=4G
#SBATCH --time=00:15:00
#SBATCH --output=slurm.%j.out
#SBATCH --open-mode=append

set -euo pipefail
# Slurm runs a copy of this file from another folder, and says where sbatch was called
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
if [ ! -f src/main.py ]; then
    echo "No src/main.py in $PWD: call sbatch in the repository's root, where it is." >&2
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

# one thread a process, as CPUs are asked for; print lines when they come, not at the end
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1

if [ "${SLURM_NTASKS:-1}" != 1 ]; then
    echo "This job has $SLURM_NTASKS tasks, but until lesson 8 the program is a single process:" \
        "leave --nodes and --ntasks-per-node at 1." >&2
    exit 1
fi

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
    # should the job start again, what its first start has finished no longer counts
    rm -f "lightning_logs/version_$SLURM_JOB_ID/DONE.json"
    # srun does not take over --cpus-per-task by itself, nor at some sites the environment
    export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}" SLURM_EXPORT_ENV=ALL
    srun python -m src.main
else
    python -m src.main
fi
