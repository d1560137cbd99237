#!/bin/bash
# the name of the job in squeue and sacct
#SBATCH --job-name=mnist
# nodes, tasks per node, CPUs per task
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=3
# memory per node
#SBATCH --mem=4096M
# time limit, hours:minutes:seconds
#SBATCH --time=00:15:00
# the folder where the job starts; the following paths begin there
#SBATCH --chdir="/path/to/hpc-starter"
# standard output and standard error; a requeued job appends to them
#SBATCH --output="logs/mnist/slurm_out_logs/version_0_%j.out"
#SBATCH --error="logs/mnist/slurm_err_logs/version_0_%j.err"
#SBATCH --open-mode=append

set -euo pipefail
# this site's modules and Python, see site.example.sh
source cluster/job_env.sh
# the last command, so that its exit code is the job's
srun $PYTHON logs/mnist/version_0/code/run.py --local \
    --experiment_name=mnist \
    --log_path=logs \
    --plots \
    --num_workers=2 \
    --batch_size=64 \
    --max_epochs=10 \
    --seed=1234 \
    --learning_rate=0.001 \
    --optimizer=Adam \
    --criterion=cross_entropy \
    --run_number=0
