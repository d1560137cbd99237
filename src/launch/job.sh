#!/bin/bash
# the name of the job in squeue and sacct
#SBATCH --job-name={{name}}
# nodes, tasks per node, CPUs per task
#SBATCH --nodes={{nodes}}
#SBATCH --ntasks-per-node={{tasks_per_node}}
#SBATCH --cpus-per-task={{cpus_per_task}}
# GPUs per node
#SBATCH --gres={{gres}}
# memory per node
#SBATCH --mem={{mem}}
# time limit, hours:minutes:seconds
#SBATCH --time={{time}}
# the folder where the job starts; the following paths begin there
#SBATCH --chdir="{{folder}}"
# standard output and standard error; a requeued job appends to them
#SBATCH --output="{{run}}/job.out"
#SBATCH --error="{{run}}/job.err"
#SBATCH --open-mode=append
# the signal that announces the time limit, and how many seconds before it
#SBATCH --signal={{signal}}
# Slurm may start this job again, after a preemption or the loss of a node
#SBATCH --requeue
# the folder of the run, for squeue --me --format="%i %T %k"
#SBATCH --comment="{{run}}"
# more sbatch options
#SBATCH {{option}}

set -euo pipefail
# this site's modules and Python, see site.example.sh
source cluster/job_env.sh
# the last command, so that its exit code is the job's
