"""Prepare this process for the training, before the imports that take seconds: see src/main.py."""

import json
import os
import time
from pathlib import Path

from src.launch.layout import check_tasks
from src.launch.processes import is_child, start_processes
from src.launch.provenance import record_packages
from src.utils import slurm
from src.utils.errors import UserError

FOLDER_SECONDS = 60  # how long the other processes wait for the run folder


def is_first():
    """Return whether this process is the one that writes to the run folder."""
    return not is_child() and os.environ.get("SLURM_PROCID", "0") == "0"


def agree_on_folder(make, experiment):
    """Return the run folder that the first process makes; srun may have started several.

    Raises:
        UserError: if the first process does not make one in time.
    """
    tasks = os.environ.get("SLURM_NTASKS", "1") if slurm.started_by_srun() else "1"
    if tasks == "1":
        return make()
    step = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
    note = experiment / f".step_{step}.{slurm.restarts()}"  # a requeued job has the same ids
    if is_first():
        folder = make()
        part = note.with_suffix(".part")
        part.write_text(str(folder))
        part.replace(note)
        return folder
    for _ in range(10 * FOLDER_SECONDS):
        if note.exists():
            return Path(note.read_text())
        time.sleep(0.1)
    raise UserError(f"process 0 has made no run folder within {FOLDER_SECONDS} s: see its message")


def prepare_process(settings, folder):
    """Check how this process was started; start the other processes of this machine.

    Raises:
        UserError: if Slurm has started other processes than the settings ask for.
    """
    nodes, devices = settings.slurm.num_nodes, settings.slurm.devices
    slurm.refuse_other_launchers()
    check_tasks(nodes, devices)
    slurm.refuse_more_restarts(settings.slurm.max_requeues)
    slurm.forget_other_launchers()
    if is_first():
        prepare_folder(folder)
    if devices > 1 and not slurm.started_by_srun():
        program = Path(__file__).resolve().parents[1] / "main.py"
        start_processes(devices, [str(program), str(folder)])


def prepare_folder(folder):
    """Record the packages, and set aside what a finished run has left if it continues.

    Raises:
        UserError: if the folder cannot be written to.
    """
    try:
        if (folder / "DONE.json").exists():
            (folder / "DONE.json").replace(folder / "DONE_before.json")
        (folder / "hparams.yaml").unlink(missing_ok=True)  # Lightning would keep the old settings
        record_packages(folder)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror})") from None


def has_finished(settings, folder):
    """Say so, and return True, if the run has already finished."""
    if finished_epochs(folder) < settings.trainer.max_epochs:
        return False
    if is_first():
        print(f"{folder} is finished, see {folder}/DONE.json: nothing to do")
    return True


def finished_epochs(folder: Path) -> int:
    """Return max_epochs of a finished run, or 0; it may have stopped earlier."""
    try:
        return int(json.loads((folder / "DONE.json").read_text())["max_epochs"])
    except (OSError, ValueError, KeyError):
        return 0
