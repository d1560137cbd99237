"""Nodes and processes: what was asked for against what Slurm gave."""

import os
import re
import subprocess

from src.utils.errors import UserError
from src.utils.slurm import in_step


def batch_size_per_process(hparams):
    """Return the images per process and step: batch_size divided by the processes.

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
    """Return what --gres asks for; GRES in site.sh is this site's name for its GPUs.

    Raises:
        UserError: with one sentence, if GRES is not a word.
    """
    script = 'set -e; source cluster/site_env.sh >&2; echo "${GRES:-gpu}"'
    done = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError("site.sh cannot be read, see above: fix it, then launch again")
    gres = (done.stdout.splitlines() or [""])[-1]
    # the name, and perhaps a type, which has a letter, such as a100 or 3g.20gb; the count follows
    if not re.fullmatch(r"[A-Za-z]\w*(:[\w.-]*[A-Za-z][\w.-]*)?", gres):
        rule = "it must be a name such as gpu, or with a type gpu:a100, without a count"
        raise UserError(f"GRES in site.sh is {gres!r}: {rule}")
    return f"{gres}:{devices}"


def check_tasks(num_nodes, devices):
    """Check that Slurm started the requested processes; a missing one would hang the others.

    Raises:
        UserError: with both numbers and the remedy, if they differ.
    """
    asked = f"--num_nodes {num_nodes} --devices {devices} make {num_nodes * devices} processes"
    if "SLURM_JOB_ID" not in os.environ:
        if num_nodes > 1:
            raise UserError(f"--num_nodes {num_nodes} needs a Slurm job; here there is one node")
    elif in_step():
        check_step(num_nodes, devices, asked)
    else:
        tasks = int(os.environ.get("SLURM_NTASKS", 1))
        if max(tasks, num_nodes * devices) > 1:
            without = "but this one was started without srun: write srun before python"
            raise UserError(f"{asked} and the job has {tasks} tasks, {without}")


def check_step(num_nodes, devices, asked):
    """Compare what was asked for with the tasks that srun has started."""
    nodes = int(os.environ["SLURM_STEP_NUM_NODES"])
    tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
    found = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    layout = f"--nodes={num_nodes} --ntasks-per-node={devices}"
    remedy = f"ask Slurm for {layout}, or change the arguments"
    if (nodes, tasks) != (num_nodes, num_nodes * devices):
        raise UserError(f"{asked}, but srun started {tasks} on {nodes} nodes: {remedy}")
    if "," in found:
        raise UserError(f"{asked}, but srun put {found} on the nodes: {remedy}")
    # srun --ntasks alone gives the same layout, but Lightning insists on the variable
    os.environ["SLURM_NTASKS_PER_NODE"] = str(devices)
