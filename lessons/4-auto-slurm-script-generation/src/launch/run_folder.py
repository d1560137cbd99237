"""Create the folder of a run, logs/<experiment>/version_<number>, and submit the run."""

import itertools
import os
import shutil
from contextlib import suppress
from pathlib import Path

from src.launch.job import NotSubmittedError
from src.launch.provenance import RECORDS, ROOT, record_packages, record_run
from src.utils.errors import UserError


def make_run_folder(experiment):
    """Create the next free folder version_N and return N; concurrent launches never share one.

    Raises:
        UserError: with the reason, if no folder can be created there.
    """
    try:
        Path(experiment).mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            if not os.path.lexists(f"{experiment}/slurm_scripts/version_{number}.sh"):
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
        if {path.name for path in folder.iterdir()} <= set(RECORDS):
            shutil.rmtree(folder)


def discard_run(experiment, number):
    """Remove the script and the folder of a run that was not submitted."""
    with suppress(OSError):
        Path(experiment, "slurm_scripts", f"version_{number}.sh").unlink()
    discard_run_folder(experiment, number)


def submit_run(job, text, experiment, number, arguments):
    """Record a run in its folder, save its batch script, submit it, and print the job id.

    Raises:
        UserError: with the reason, if the script cannot be written or submitted.
    """
    script = Path(experiment, "slurm_scripts", f"version_{number}.sh")
    try:
        for folder in ("slurm_out_logs", "slurm_err_logs", "slurm_scripts"):
            Path(experiment, folder).mkdir(exist_ok=True)
        record_run(Path(experiment, f"version_{number}"), arguments)
        script.write_bytes(os.fsencode(text))  # the path of the clone may be in any encoding
    except OSError as error:
        discard_run(experiment, number)
        reason = f"cannot write to {error.filename or script} ({error.strerror})"
        raise UserError(f"{reason}; choose another --log_path") from None
    try:
        job_id = job.submit(script)
    except NotSubmittedError:
        discard_run(experiment, number)
        raise
    except KeyboardInterrupt:
        raise UserError(f"interrupted: check with squeue whether {script} was submitted") from None
    print(f"job {job_id} -> {experiment} (version_{number})", flush=True)
