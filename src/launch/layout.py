"""Nodes, processes and GPUs: what the settings request, and what Slurm started."""

import os
import re
import socket

from src.launch.site_settings import read_site
from src.utils.errors import UserError
from src.utils.slurm import current_job, started_by_srun


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
    asked = (
        f"slurm.num_nodes={num_nodes} slurm.devices={devices} need {num_nodes * devices} processes"
    )
    if started_by_srun():
        check_step(num_nodes, devices, asked)
    elif current_job():
        # without --ntasks, salloc reserves one task per node
        tasks = first_number("SLURM_NTASKS", "SLURM_JOB_NUM_NODES")
        if max(tasks, num_nodes * devices) > 1:
            # the shell of srun --pty has taken the resources that another srun would wait for
            srun = "srun --overlap" if "SLURM_STEP_ID" in os.environ else "srun"
            without = f"but this process was started without srun: put {srun} before python"
            raise UserError(f"{asked} and the job has {tasks} tasks, {without}")
    elif num_nodes > 1:
        raise UserError(
            f"slurm.num_nodes={num_nodes} needs a Slurm job; here, use slurm.num_nodes=1"
        )


def first_number(*names):
    """Return the first of these variables that is a number, or 1."""
    values = [os.environ.get(name, "") for name in names]
    return next((int(value) for value in values if value.isdecimal()), 1)


def check_step(num_nodes, devices, asked):
    """Check that srun started the requested processes."""
    # not every version of srun sets all of them
    nodes = first_number("SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")
    tasks = first_number("SLURM_NTASKS")
    found = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    layout = f"--nodes={num_nodes} --ntasks-per-node={devices}"
    remedy = f"request {layout} from Slurm, or change the settings"
    if (nodes, tasks) != (num_nodes, num_nodes * devices):
        raise UserError(f"{asked}, but srun started {tasks} on {nodes} nodes: {remedy}")
    if "," in found:
        raise UserError(f"{asked}, but srun distributed them across the nodes as {found}: {remedy}")
    # srun --ntasks alone gives the same layout, but Lightning requires the variable
    os.environ["SLURM_NTASKS_PER_NODE"] = str(devices)
    if tasks > 1:
        check_master()


def check_master():
    """Check the address and the port of process 0; with wrong ones, ranks would wait in vain."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT", "1")
    if not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"MASTER_PORT={port} is not the number of a port: unset MASTER_PORT")
    if address is None:
        return
    try:
        family, _, _, _, place = socket.getaddrinfo(address, None)[0]
        if os.environ["SLURM_PROCID"] == "0":
            with socket.socket(family) as probe:
                probe.bind(place)  # fails on any other node
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        found = f"MASTER_ADDR={address} is not an address of the node of process 0 ({why})"
        raise UserError(f"{found}: unset MASTER_ADDR") from None
