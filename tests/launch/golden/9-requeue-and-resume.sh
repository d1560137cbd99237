#!/bin/bash
# the name of the job in squeue and sacct
#SBATCH --job-name=cifar10
# nodes, tasks per node, CPUs per task
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=1
# memory per node
#SBATCH --mem=4096M
# time limit, hours:minutes:seconds
#SBATCH --time=01:00:00
# the folder where the job starts; the following paths begin there
#SBATCH --chdir="/path/to/hpc-starter"
# standard output and standard error; a requeued job appends to them
#SBATCH --output="logs/cifar10/version_0/job.out"
#SBATCH --error="logs/cifar10/version_0/job.err"
#SBATCH --open-mode=append
# the signal that announces the time limit, and how many seconds before it
#SBATCH --signal=USR1@120
# Slurm may start this job again, after a preemption or the loss of a node
#SBATCH --requeue
# the folder of the run, for squeue --me --format="%i %T %k"
#SBATCH --comment="logs/cifar10/version_0"

set -euo pipefail
# this site's modules and Python, see site.example.sh
source cluster/job_env.sh
# the last command, so that its exit code is the job's
srun $PYTHON logs/cifar10/version_0/code/run.py --local \
    --experiment_name=cifar10 \
    --log_path=logs \
    --plots \
    --dataset=cifar10 \
    --num_workers=0 \
    --arch=resnet18 \
    --weights=none \
    --batch_size=64 \
    --max_epochs=10 \
    --seed=1234 \
    --learning_rate=0.001 \
    --optimizer=Adam \
    --criterion=cross_entropy \
    --num_nodes=1 \
    --devices=1 \
    --accelerator=auto \
    --precision=auto \
    --no-sync_batchnorm \
    --no-find_unused_parameters \
    --timeout_min=10 \
    --checkpoint_min=5 \
    --signal=USR1 \
    --max_requeues=20 \
    --run_number=0
