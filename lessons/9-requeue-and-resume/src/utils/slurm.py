"""Find out who started this process, and what Slurm says about its job; requeue the job."""

import math
import os
import re
import signal
import subprocess

from src.utils.errors import UserError

# srun sets all of these in each of its tasks; shells and batch scripts have only some
OF_A_TASK = ("JOB_ID", "STEP_ID", "NTASKS", "PROCID", "NODEID", "LOCALID")
# step ids from here on belong to batch scripts and to shells of salloc, not to srun's steps
FIRST_SPECIAL_STEP = 2**32 - 16
# set by a launcher in each of its processes -> that launcher
LAUNCHERS = {
    "TORCHELASTIC_RUN_ID": "torchrun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "MPI_LOCALNRANKS": "mpirun",
}
# Lightning and PyTorch trust these, whoever set them
RANKS = (
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE"),
    *("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "TORCHELASTIC_USE_AGENT_STORE"),
)


def started_by_srun():
    """Return whether this process is a task of srun.

    The variables alone are not enough: shells pass them on, to sbatch and after the job has ended.
    """
    values = [os.environ.get(f"SLURM_{name}", "") for name in OF_A_TASK]
    if not all(value.isdecimal() for value in values) or int(values[1]) >= FIRST_SPECIAL_STEP:
        return False
    try:
        group_of_task = os.getpgid(int(os.environ.get("SLURM_TASK_PID", "")))
    except (ValueError, OSError):
        # it has ended, or this is a container with process ids of its own
        return current_job() is not None
    # the shell of srun --pty starts each command in a process group of its own
    return group_of_task == os.getpgrp() or "SLURM_PTY_PORT" not in os.environ


def current_job():
    """Return the id of the job that this process is in, or None; ended jobs do not count."""
    job_id = os.environ.get("SLURM_JOB_ID", "")
    if not job_id.isdecimal():
        return None
    command = ["squeue", "--noheader", f"--jobs={job_id}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):  # no squeue in this container, or no answer
        return job_id
    has_ended = "Invalid job id" in done.stderr or (done.returncode == 0 and not done.stdout)
    return None if has_ended else job_id


def refuse_other_launchers():
    """Check that no launcher other than srun started this process.

    Raises:
        UserError: with the variable that says so.
    """
    for name, launcher in LAUNCHERS.items():
        if name in os.environ:
            found = f"{name}={os.environ[name]}: {launcher} cannot start this program"
            remedy = f"use srun or python, or unset {name} if it is left over"
            raise UserError(f"{found}, which starts its own processes; {remedy}")


def forget_other_launchers():
    """Remove variables that would make Lightning take this process for another rank.

    Lightning would then train without writing anything.
    """
    of_others = () if started_by_srun() else ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
    for name in (*RANKS, *of_others):
        os.environ.pop(name, None)


def time_limit():
    """Return the time limit of this job, and what is left of it, in seconds; inf if unknown."""
    if not started_by_srun():
        return math.inf, math.inf
    command = ["squeue", "--noheader", "--format=%l %L", f"--jobs={os.environ['SLURM_JOB_ID']}"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        shown = ""
    limit, _, left = shown.strip().partition(" ")
    return in_seconds(limit), in_seconds(left)


def in_seconds(text):
    """Return the seconds of a time such as 59:30 or 1-02:00:00; inf if it is no time."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not match:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def requeue():
    """Put the job of this process back into the queue; return "", or why that failed."""
    job, array = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:  # only this task of the array
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError:
        return "this node has no scontrol"
    except subprocess.TimeoutExpired:
        return "scontrol did not answer within 60 s"
    if done.returncode == -signal.SIGTERM:
        return ""  # the request is accepted: Slurm ends the processes of this job, also scontrol
    said = " ".join(done.stderr.split())
    return f"scontrol requeue {job}: {said:.300}" if done.returncode else ""


def restarts():
    """Return how often Slurm has started this job again."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def refuse_more_restarts(max_requeues):
    """Check how often Slurm has started this job again.

    Raises:
        UserError: if that is more often than allowed, for example because each attempt fails.
    """
    if started_by_srun() and restarts() > max_requeues:
        found = f"Slurm has started this job again {restarts()} times"
        raise UserError(f"{found}, and --max_requeues is {max_requeues}: see attempts.jsonl")
