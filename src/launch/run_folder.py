"""The folder of a run, logs/<experiment>/version_<number>, and the run that is launched into it."""

import itertools
import os
from contextlib import suppress
from pathlib import Path

from src.utils.errors import UserError


def make_run_folder(experiment):
    """Make the next free folder version_N and return N; concurrent launches get different numbers.

    Raises:
        UserError: with the reason, if no folder can be made there.
    """
    try:
        Path(experiment).mkdir(parents=True, exist_ok=True)
        for number in itertools.count():
            if not os.path.lexists(f"{experiment}/slurm_scripts/version_{number}.sh"):
                with suppress(FileExistsError):
                    Path(experiment, f"version_{number}").mkdir()
                    return number
    except OSError as error:
        reason = f"cannot make a folder in {experiment} ({error.strerror})"
        raise UserError(f"{reason}; name another --log_path") from None


def remove_empty_run_folder(experiment, number):
    """Remove the folder of a run that has written nothing, since it failed at once, for example."""
    with suppress(OSError):  # it is not empty
        Path(experiment, f"version_{number}").rmdir()


def submit_run(job, text, experiment, number):
    """Keep the batch script of a run, submit it, and say which job it is.

    Raises:
        UserError: with the reason, if the script cannot be written or is not submitted.
    """
    script = Path(experiment, "slurm_scripts", f"version_{number}.sh")
    try:
        for folder in ("slurm_out_logs", "slurm_err_logs", "slurm_scripts"):
            Path(experiment, folder).mkdir(exist_ok=True)
        script.write_text(text)
    except OSError as error:
        reason = f"cannot write to {error.filename or script} ({error.strerror})"
        raise UserError(f"{reason}; name another --log_path") from None
    try:
        job_id = job.submit(script)
    except UserError:
        script.unlink()  # so that it does not look as if it had been submitted
        Path(experiment, f"version_{number}").rmdir()
        raise
    except KeyboardInterrupt:
        raise UserError(f"interrupted: check with squeue whether {script} was submitted") from None
    print(f"job {job_id} -> {experiment} (version_{number})", flush=True)
