"""Find out whether Slurm started this process."""

import os


def in_step():
    """Return whether srun started this process."""
    return "SLURM_STEP_ID" in os.environ
