"""Nodes, processes and GPUs: what the arguments request, and what Slurm started."""

import os
import re

from src.launch.site_settings import read_site
from src.utils.errors import UserError
from src.utils.slurm import in_step


def batch_size_per_process(hparams):
    """Return the number of images per process and step.

    Raises:
        ValueError: with the nearest valid sizes, if batch_size is not divisible.
    """
    size, processes = hparams.batch_size, hparams.num_nodes * hparams.devices
    if size % processes:
        lower = size - size % processes
        possible = " or ".join(str(near) for near in (lower, lower + processes) if near)
        raise ValueError(
            f"--batch_size {size} is not divisible by {processes} processes (--num_nodes"
            f" {hparams.num_nodes} x --devices {hparams.devices}); try {possible}"
        )
    return size // processes


def gpus_per_node(devices):
    """Return the value of --gres; GRES in site.sh is this site's name for its GPUs.

    Raises:
        UserError: if site.sh cannot be read, or GRES is not a valid name.
    """
    gres = read_site("GRES")["GRES"] or "gpu"
    # a name, and optionally a type that contains a letter, such as a100 or 3g.20gb; no count
    if not re.fullmatch(r"[A-Za-z]\w*(:[\w.-]*[A-Za-z][\w.-]*)?", gres):
        rule = "it must be a name, or a name and a type, such as gpu or gpu:a100, without a count"
        raise UserError(f"GRES in site.sh is {gres!r}: {rule}")
    return f"{gres}:{devices}"


def check_tasks(num_nodes, devices):
    """Check that Slurm started the requested processes; a missing one would hang the others.

    Raises:
        UserError: with both numbers and the remedy, if they differ.
    """
    asked = f"--num_nodes {num_nodes} --devices {devices} need {num_nodes * devices} processes"
    if "SLURM_JOB_ID" not in os.environ:
        if num_nodes > 1:
            raise UserError(f"--num_nodes {num_nodes} needs a Slurm job; here, use --num_nodes 1")
    elif in_step():
        check_step(num_nodes, devices, asked)
    else:
        tasks = int(os.environ.get("SLURM_NTASKS", 1))
        if max(tasks, num_nodes * devices) > 1:
            without = "but this process was started without srun: put srun before python"
            raise UserError(f"{asked} and the job has {tasks} tasks, {without}")


def check_step(num_nodes, devices, asked):
    """Check that srun started the requested processes."""
    nodes = int(os.environ["SLURM_STEP_NUM_NODES"])
    tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
    found = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    layout = f"--nodes={num_nodes} --ntasks-per-node={devices}"
    remedy = f"request {layout} from Slurm, or change the arguments"
    if (nodes, tasks) != (num_nodes, num_nodes * devices):
        raise UserError(f"{asked}, but srun started {tasks} on {nodes} nodes: {remedy}")
    if "," in found:
        raise UserError(f"{asked}, but srun distributed them across the nodes as {found}: {remedy}")
    # srun --ntasks alone gives the same layout, but Lightning requires the variable
    os.environ["SLURM_NTASKS_PER_NODE"] = str(devices)
