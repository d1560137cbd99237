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
# Slurm runs a copy of this file; SLURM_SUBMIT_DIR is the folder where sbatch was called
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")}"
[ -f cluster/job_env.sh ] ||
    { echo "No cluster/job_env.sh in $PWD: call sbatch in the repository's root." >&2; exit 1; }
# this site's modules and Python, see site.example.sh
source cluster/job_env.sh
same_lesson 3-improved-data-loading
single_task
# the last command, so that its exit code is the job's
srun $PYTHON -m src.main
