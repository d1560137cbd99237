"""Train in a Slurm job, or on a machine without Slurm: python run.py [arguments]"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

try:
    from src.launch.arguments import parse_args
    from src.launch.job import Job, has_slurm
    from src.launch.paths import enter_root
    from src.launch.run_folder import (
        discard_run_folder,
        make_run_folder,
        prepare_run_folder,
        submit_run,
    )
    from src.launch.sbatch_options import job_options
    from src.launch.site_settings import site_settings, with_site_settings
    from src.utils import slurm
    from src.utils.errors import UserError, plain_errors
except ImportError as error:
    missing = "a file of this repository is missing, see git status"
    old = "this Python is too old: activate the environment, with source env/bin/activate"
    raise SystemExit(f"{error.msg}: {missing if 'src' in error.msg else old}") from None


def make_job(hparams):
    """Return the job, with the resources that it requests."""
    return Job(
        # one CPU per worker, and one for the training itself
        cpus_per_task=hparams.num_workers + 1,
        mem_gb=hparams.mem_gb,
        time_min=hparams.time_min,
        options=job_options(hparams),
    )


def launch(parser, hparams):
    """Submit one job per trial, or print the batch scripts."""
    job_id = slurm.current_job()
    if job_id and not hparams.dry_run:
        where = f"this shell is in job {job_id}; a job must not submit other jobs"
        raise UserError(f"{where}: train here with --local, or exit the job first")
    job, experiment = make_job(hparams), f"{hparams.log_path}/{hparams.experiment_name}"
    settings = site_settings()
    for trial in parser.trials(hparams):
        number = 0 if hparams.dry_run else make_run_folder(experiment)
        words = parser.words(trial)
        arguments = [*words, f"--run_number={number}"]
        script = job.script(hparams.experiment_name, experiment, number, arguments)
        script = with_site_settings(script, settings, parser.was_given)
        if hparams.dry_run:
            print(script, end="")
        else:
            submit_run(job, script, experiment, number, words)


def train(parser, hparams):
    """Train in this process; all settings are final before the training starts."""
    if hparams.nb_trials > 1:
        raise UserError("--nb_trials submits several jobs: remove it to train here")
    if slurm.started_by_srun() and os.environ["SLURM_NTASKS"] != "1":
        raise UserError("until lesson 8 the program is a single process: use srun --ntasks=1")
    slurm.forget_other_launchers()
    settings = parser.settings(hparams)
    settings["data_dir"] = hparams.data_dir or os.environ.get("DATA_DIR") or "data"
    experiment = f"{hparams.log_path}/{hparams.experiment_name}"
    number = prepare_run_folder(experiment, hparams.run_number, parser.words(hparams))
    settings["run_number"] = number
    try:
        from src.main import main as train_network  # takes seconds to import

        train_network(argparse.Namespace(**settings))
    finally:
        if hparams.run_number is None:  # otherwise it is the folder of a job
            discard_run_folder(experiment, number)


def main():
    parser, hparams = parse_args()
    slurm.refuse_other_launchers()
    enter_root(parser, hparams)
    local = hparams.local if hparams.local is not None else not has_slurm()
    if hparams.dry_run or not local:
        launch(parser, hparams)
    else:
        train(parser, hparams)


if __name__ == "__main__":
    with plain_errors():
        main()
