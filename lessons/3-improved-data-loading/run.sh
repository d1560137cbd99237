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
# sbatch runs a copy of this file elsewhere; SLURM_SUBMIT_DIR is the folder where it was called
if [ -f "$(dirname "$0")/run.sh" ]; then cd "$(dirname "$0")"; else cd "$SLURM_SUBMIT_DIR"; fi
[ -f cluster/job_env.sh ] ||
    { echo "No cluster/job_env.sh in $PWD: call sbatch in the repository's root." >&2; exit 1; }
# this site's modules and Python, see site.example.sh
source cluster/job_env.sh
same_lesson 3-improved-data-loading
single_task
# the last command, so that its exit code is the job's
srun $PYTHON -m src.main
