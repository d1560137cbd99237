"""What Slurm has to do with this process."""

import os


def in_step():
    """Tell whether srun has started this process."""
    return "SLURM_STEP_ID" in os.environ
