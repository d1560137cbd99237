"""Create the folder of a run, logs/<experiment>/version_<number>, and submit the run."""

import itertools
import os
import re
import shutil
from contextlib import suppress

from src.config.files import write_settings
from src.launch.provenance import RECORDS, record_command, record_run
from src.utils.attempts import NAME as ATTEMPTS
from src.utils.errors import NotSubmittedError, UserError

SCRIPT = "job.sh"  # in the folder of a run; Slurm writes job.out and job.err beside it
LONGEST_NAME = 100  # characters
NEW = "--new"  # an option of src/main.py: run.py has just made the folder; do not leave it empty


def run_name(number, differs):
    """Return the name of a run folder, with what tells this run from those of the same launch.

    For example version_3-seed_1-network_resnet18.
    """
    parts = [f"{key.rpartition('.')[2]}_{value}" for key, value in differs.items()]
    words = [re.sub(r"[^A-Za-z0-9._]+", "_", part).strip("_") for part in parts]
    return "-".join([f"version_{number}", *words])[:LONGEST_NAME]


def make_run_folder(experiment, differs):
    """Create the next free folder and return it; concurrent launches never share one.

    Raises:
        UserError: with the reason, if no folder can be created there.
    """
    try:
        experiment.mkdir(parents=True, exist_ok=True)
        taken = {folder.name.partition("-")[0] for folder in experiment.glob("version_*")}
        for number in itertools.count():
            if f"version_{number}" in taken:
                continue
            folder = experiment / run_name(number, differs)
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        reason = f"cannot create a folder in {experiment} ({error.strerror})"
        raise UserError(f"{reason}; choose another log_path") from None


def record(folder, run, words):
    """Write into the folder of a new run what is needed to carry it out, and to repeat it.

    Raises:
        UserError: with the reason, if the folder cannot be written to; it is removed again.
    """
    try:
        write_settings(folder, run.values)
        record_run(folder, words)
    except OSError as error:
        discard_run_folder(folder)
        reason = f"cannot write to {error.filename or folder} ({error.strerror})"
        raise UserError(f"{reason}; choose another log_path") from None


def discard_run_folder(folder):
    """Remove the folder of a run that wrote no results, for example because it failed at once."""
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {*RECORDS, ATTEMPTS}:
            shutil.rmtree(folder)


def discard_run(folder):
    """Remove the script and the folder of a run that was not submitted."""
    with suppress(OSError):
        (folder / SCRIPT).unlink()
    discard_run_folder(folder)


def submit_run(job, text, folder, words, continues=False):
    """Save the batch script of a run in its folder, submit it, and print the job id.

    Raises:
        UserError: with the reason, if the script cannot be written or submitted.
    """
    script = folder / SCRIPT
    try:
        script.write_bytes(os.fsencode(text))  # the path of the clone may be in any encoding
    except OSError as error:
        if not continues:
            discard_run(folder)
        reason = f"cannot write to {error.filename or script} ({error.strerror})"
        raise NotSubmittedError(f"{reason}; choose another log_path") from None
    try:
        job_id = job.submit(script)
    except NotSubmittedError:
        if not continues:
            discard_run(folder)
        raise
    except KeyboardInterrupt:
        raise UserError(f"interrupted: check with squeue whether {script} was submitted") from None
    print(f"job {job_id} -> {folder}", flush=True)
    if continues:
        record_command(folder, ["--resume", str(folder), *words], mode="a")
