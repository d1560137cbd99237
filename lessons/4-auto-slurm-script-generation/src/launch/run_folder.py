"""Create the folder of a run, logs/<experiment>/version_<number>, and submit the run."""

import itertools
import os
from contextlib import suppress
from pathlib import Path

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


def remove_empty_run_folder(experiment, number):
    """Remove the folder of a run that wrote nothing, for example because it failed at once."""
    with suppress(OSError):  # the folder is not empty
        Path(experiment, f"version_{number}").rmdir()


def submit_run(job, text, experiment, number):
    """Save the batch script of a run, submit it, and print the job id.

    Raises:
        UserError: with the reason, if the script cannot be written or submitted.
    """
    script = Path(experiment, "slurm_scripts", f"version_{number}.sh")
    try:
        for folder in ("slurm_out_logs", "slurm_err_logs", "slurm_scripts"):
            Path(experiment, folder).mkdir(exist_ok=True)
        script.write_text(text)
    except OSError as error:
        reason = f"cannot write to {error.filename or script} ({error.strerror})"
        raise UserError(f"{reason}; choose another --log_path") from None
    try:
        job_id = job.submit(script)
    except UserError:
        script.unlink()  # a script left behind would look submitted
        Path(experiment, f"version_{number}").rmdir()
        raise
    except KeyboardInterrupt:
        raise UserError(f"interrupted: check with squeue whether {script} was submitted") from None
    print(f"job {job_id} -> {experiment} (version_{number})", flush=True)
