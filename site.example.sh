#!/bin/bash
# What differs from site to site. Copy to site.sh, which git ignores, and edit: cp site.example.sh site.sh
# Then "source site.sh" once in each new shell: sbatch reads the SBATCH_ variables itself. Jobs source it too.

# your account, partition and so on; the cluster, if the login node serves several
#export SLURM_CLUSTERS=cpu-cluster
#export SBATCH_ACCOUNT=my-project
#export SBATCH_PARTITION=cpu
#export SBATCH_QOS=normal
#export SBATCH_RESERVATION=workshop
# limits of this site (from lesson 9 on, a training may take longer than its job);
# where sbatch refuses --mem, NO_MEM removes it from run.py's scripts (lesson 4 on); for run.sh,
# copy the function from docs/sites.md
#export SBATCH_TIMELIMIT=00:30:00
#export SBATCH_MEM_PER_NODE=2G
#export NO_MEM=yes
# this site's name for its GPUs, if it is not gpu
#export GRES=gpu:a100

# software of this site, see docs/sites.md; the Python environment, if it is not ./env
#module load python/3.11
#export VENV="$HOME/hpc-starter-env"
# instead of an environment, any command that runs Python in a job
#export PYTHON="apptainer exec --nv image.sif python"

# a shared copy of the data, if it is not in ./data
#export DATA_DIR=/path/to/shared/data
# a shared folder for pretrained weights (lesson 7), if it is not ~/.cache/torch
#export TORCH_HOME=/path/to/shared/torch
