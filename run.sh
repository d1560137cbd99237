#!/bin/bash
#SBATCH --job-name=cifar10
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --cpus-per-task=1
#SBATCH --mem=8G
#SBATCH --time=01:00:00
#SBATCH --output=slurm.%j.out
#SBATCH --open-mode=append
#SBATCH --signal=USR1@120
#SBATCH --requeue
# Trains with run.py from a plain batch script: sbatch run.sh [settings of run.py]
# Set nodes and tasks with sbatch's options: sbatch --nodes=4 --gres=gpu:2 run.sh network=resnet50

set -euo pipefail
# sbatch runs a copy of this file elsewhere; SLURM_SUBMIT_DIR is the folder where it was called
if [ -f "$(dirname "$0")/run.sh" ]; then cd "$(dirname "$0")"; else cd "$SLURM_SUBMIT_DIR"; fi
[ -f cluster/job_env.sh ] ||
    { echo "No cluster/job_env.sh in $PWD: call sbatch in the repository's root." >&2; exit 1; }
# this site's modules and Python, see site.example.sh
source cluster/job_env.sh
same_lesson 10-configuration-files

if [ -n "${SLURM_JOB_ID:-}" ]; then
    # as many threads per process as CPUs per task
    export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
    # a folder per job, apart from those of run.py, in which a requeued job finds its run again
    logs="logs/sbatch/$SLURM_JOB_ID"
    run=$(echo "$logs"/*/version_0)
    if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -d "$run" ]; then
        srun $PYTHON "$run/code/src/main.py" "$run"
    else
        # nodes and tasks are those that Slurm allocated
        srun $PYTHON run.py --local log_path="$logs" slurm.num_nodes="$SLURM_JOB_NUM_NODES" \
            slurm.devices="${SLURM_NTASKS_PER_NODE:-1}" slurm.signal=USR1 "$@"
    fi
else
    unset OMP_NUM_THREADS
    $PYTHON run.py --local "$@"
fi
