"""Create the folder of a run, logs/<experiment>/version_<number>, and submit the run."""

import itertools
import os
import shutil
from contextlib import suppress
from pathlib import Path

from src.launch.job import NotSubmittedError
from src.launch.provenance import RECORDS, ROOT, record_command, record_packages, record_run
from src.utils.attempts import NAME as ATTEMPTS
from src.utils.errors import UserError

SCRIPT = "job.sh"  # in the folder of a run; Slurm writes job.out and job.err beside it


def make_run_folder(experiment):
    """Create the next free folder version_N and return N; concurrent launches never share one.

    Raises:
        UserError: with the reason, if no folder can be created there.
    """
    try:
        Path(experiment).mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            with suppress(FileExistsError):
                Path(experiment, f"version_{number}").mkdir()
                return number
    except OSError as error:
        reason = f"cannot create a folder in {experiment} ({error.strerror})"
        raise UserError(f"{reason}; choose another --log_path") from None


def prepare_run_folder(experiment, number, arguments):
    """Return the number of a run, after recording in its folder what is needed to repeat it.

    Raises:
        UserError: with the reason, if the folder cannot be written to.
    """
    number = make_run_folder(experiment) if number is None else number
    folder = Path(experiment, f"version_{number}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "DONE.json").exists():  # it continues with more epochs
            (folder / "DONE.json").replace(folder / "DONE_before.json")
        (folder / "hparams.yaml").unlink(missing_ok=True)  # Lightning would keep the old settings
        if (folder / "code").resolve() != ROOT:  # a job runs the copy in its own folder
            record_run(folder, arguments)
        record_packages(folder)
    except OSError as error:
        discard_run_folder(experiment, number)
        reason = f"cannot write to {folder} ({error.strerror})"
        raise UserError(f"{reason}; choose another --log_path") from None
    return number


def discard_run_folder(experiment, number):
    """Remove the folder of a run that wrote no results, for example because it failed at once."""
    folder = Path(experiment, f"version_{number}")
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {*RECORDS, ATTEMPTS}:
            shutil.rmtree(folder)


def discard_run(experiment, number):
    """Remove the script and the folder of a run that was not submitted."""
    with suppress(OSError):
        Path(experiment, f"version_{number}", SCRIPT).unlink()
    discard_run_folder(experiment, number)


def submit_run(job, text, experiment, number, arguments):
    """Record a run in its folder, save its batch script, submit it, and print the job id.

    Raises:
        UserError: with the reason, if the script cannot be written or submitted.
    """
    folder = Path(experiment, f"version_{number}")
    script = folder / SCRIPT
    continues = (folder / "code").is_dir()  # with the program that began it
    try:
        if not continues:
            record_run(folder, arguments)
        script.write_bytes(os.fsencode(text))  # the path of the clone may be in any encoding
    except OSError as error:
        if not continues:
            discard_run(experiment, number)
        reason = f"cannot write to {error.filename or script} ({error.strerror})"
        raise UserError(f"{reason}; choose another --log_path") from None
    try:
        job_id = job.submit(script)
    except NotSubmittedError:
        if not continues:
            discard_run(experiment, number)
        raise
    except KeyboardInterrupt:
        raise UserError(f"interrupted: check with squeue whether {script} was submitted") from None
    print(f"job {job_id} -> {folder}", flush=True)
    if continues:
        record_command(folder, arguments)
