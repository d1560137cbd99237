"""Train in a Slurm job, or on a machine without Slurm: python run.py [arguments]"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

try:
    from src.utils import stop_signal

    stop_signal.arm(sys.argv)  # before the imports that take seconds
    from src.launch.arguments import parse_args
    from src.launch.job import Job, has_slurm
    from src.launch.layout import check_tasks, gpus_per_node
    from src.launch.paths import enter_root
    from src.launch.processes import is_child, start_processes
    from src.launch.resume import continue_here, finished_epochs
    from src.launch.run_folder import (
        discard_run_folder,
        make_run_folder,
        prepare_run_folder,
        submit_run,
    )
    from src.launch.sbatch_options import job_options
    from src.launch.site_settings import site_settings, time_limit, with_site_settings
    from src.utils import slurm
    from src.utils.attempts import lead_seconds, read_attempts
    from src.utils.errors import UserError, plain_errors
except ImportError as error:
    missing = "a file of this repository is missing, see git status"
    old = "this Python is too old: activate the environment, with source env/bin/activate"
    raise SystemExit(f"{error.msg}: {missing if 'src' in error.msg else old}") from None


def make_job(hparams, lead_s):
    """Return the job, with the resources that it requests, which is told to stop lead_s early."""
    return Job(
        nodes=hparams.num_nodes,
        tasks_per_node=hparams.devices,
        # one CPU per worker, and one for the training itself
        cpus_per_task=hparams.num_workers // hparams.devices + 1,
        mem_gb=4 * hparams.devices if hparams.mem_gb is None else hparams.mem_gb,
        time_min=hparams.time_min,
        gres=gpus_per_node(hparams.devices) if hparams.accelerator == "gpu" else "",
        signal=hparams.signal,
        lead_s=lead_s,
        options=job_options(hparams),
    )


def launch(parser, hparams):
    """Submit one job per trial, or print the batch scripts."""
    job_id = slurm.current_job()
    if hparams.dry_run and slurm.started_by_srun():
        raise UserError("--dry_run cannot be used under srun: remove it")
    if job_id and not hparams.dry_run:
        where = f"this shell is in job {job_id}; a job must not submit other jobs"
        raise UserError(f"{where}: train here with --local, or exit the job first")
    experiment, number = f"{hparams.log_path}/{hparams.experiment_name}", hparams.run_number
    settings = site_settings()
    time_min = hparams.time_min
    if not parser.was_given("--time_min"):
        time_min = time_limit(settings, time_min)
    # a run that continues knows how long its checkpoints take
    attempts = read_attempts(Path(experiment, f"version_{number}"))
    job = make_job(hparams, round(lead_seconds(time_min, attempts)))
    for trial in parser.trials(hparams):
        if hparams.resume is None:
            number = 0 if hparams.dry_run else make_run_folder(experiment)
        trial.run_number = None
        words = parser.words(trial)
        arguments = [*words, f"--run_number={number}"]
        script = job.script(hparams.experiment_name, f"{experiment}/version_{number}", arguments)
        script = with_site_settings(script, settings, parser.was_given)
        if hparams.dry_run:
            print(script, end="")
        else:
            submit_run(job, script, experiment, number, words)


def train(parser, hparams):
    """Train in this process; all settings are final before the training starts."""
    if hparams.nb_trials > 1:
        raise UserError("--nb_trials submits several jobs: remove it to train here")
    experiment, number = f"{hparams.log_path}/{hparams.experiment_name}", hparams.run_number
    if hparams.resume:
        hparams.run_number = None  # not a setting of the run
        continue_here(Path(experiment, f"version_{number}"), parser.words(hparams), number)
    check_tasks(hparams.num_nodes, hparams.devices)
    slurm.refuse_more_restarts(hparams.max_requeues)
    slurm.forget_other_launchers()
    settings = {"run_number": None, **parser.settings(hparams)}
    settings["data_dir"] = hparams.data_dir or os.environ.get("DATA_DIR") or "data"
    # if several processes run, only the first one writes to the run folder
    if not is_child() and os.environ.get("SLURM_PROCID", "0") == "0":
        number = prepare_run_folder(experiment, number, parser.words(hparams))
        settings["run_number"] = number
    try:
        if hparams.devices > 1 and not slurm.started_by_srun():
            words = [*parser.words(hparams), f"--run_number={settings['run_number']}"]
            start_processes(hparams.devices, [str(Path(__file__).resolve()), "--local", *words])
        from src.main import main as train_network  # takes seconds to import

        train_network(argparse.Namespace(**settings))
    finally:
        if hparams.run_number is None:  # otherwise it is the folder of a job or of process 0
            discard_run_folder(experiment, settings["run_number"])


def has_finished(hparams):
    """Say so, and return True, if the run is to start again but has already finished."""
    folder = Path(hparams.log_path, hparams.experiment_name, f"version_{hparams.run_number}")
    if hparams.run_number is None or finished_epochs(folder) < hparams.max_epochs:
        return False
    print(f"{folder} is finished, see {folder}/DONE.json: nothing to do")
    return True


def main():
    parser, hparams = parse_args()
    slurm.refuse_other_launchers()
    enter_root(parser, hparams)
    if not hparams.dry_run and has_finished(hparams):
        return
    local = hparams.local if hparams.local is not None else not has_slurm()
    stop_signal.arm([f"--signal={hparams.signal}"])
    if hparams.dry_run or not local:
        launch(parser, hparams)
    else:
        train(parser, hparams)


if __name__ == "__main__":
    with plain_errors():
        main()
