#!/bin/bash
# the name of the job in squeue and sacct
#SBATCH --job-name=cifar10
# nodes, tasks on each node, CPUs of each task
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
# memory of each node
#SBATCH --mem=4096M
# time limit, hours:minutes:seconds
#SBATCH --time=00:15:00
# what the job prints, and its errors; a job that starts again adds to them
#SBATCH --output="logs/cifar10/slurm_out_logs/version_0_%j.out"
#SBATCH --error="logs/cifar10/slurm_err_logs/version_0_%j.err"
#SBATCH --open-mode=append

set -euo pipefail
# modules, data folder and Python environment of this site, see site.example.sh
trap 'echo "site.sh has ended the job: see above, or take its exit out" >&2; exit 1' EXIT
if [ -f site.sh ]; then source ./site.sh; fi
trap - EXIT
VENV="${VENV:-env}"
if [ ! -f "$VENV/bin/activate" ]; then
    echo "No Python environment at $VENV (seen from $PWD): make it as docs/preparation.md says," \
        "or set VENV in site.sh." >&2
    exit 1
fi
source "$VENV/bin/activate"
# one thread a process; print lines when they come, not at the end
export OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
# srun does not take over --cpus-per-task by itself, nor at some sites the environment
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" SLURM_EXPORT_ENV=ALL
# a task that fails ends the others
export SLURM_KILL_BAD_EXIT=1
# a process that a signal has ended cannot say so itself; the exit code stays what it is
explain() {
    local code=$? name
    if [ $code -gt 128 ]; then
        name=$(kill -l $code 2>/dev/null || echo "NAL $((code - 128))")
        echo "A process was ended by SIG$name. If a line above names memory, ask for" \
            "more with --mem_gb; for other causes see docs/troubleshooting.md." >&2
    fi
}
trap explain EXIT
# the last command, so that its exit code is the job's
srun python run.py --local \
    --experiment_name=cifar10 \
    --log_path=logs \
    --dataset=cifar10 \
    --batch_size=64 \
    --num_workers=0 \
    --learning_rate=0.001 \
    --optimizer=Adam \
    --criterion=cross_entropy \
    --max_epochs=10 \
    --seed=1234 \
    --version=0

