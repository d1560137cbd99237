"""Train in a Slurm job, or on a machine without Slurm: python run.py [settings] [options]"""

import os
import sys
from pathlib import Path

CWD = Path.cwd()
sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

try:
    from src.config.compose import compose_runs
    from src.config.files import changed_settings, read_values
    from src.launch.job import Job, has_slurm
    from src.launch.layout import gpus_per_node
    from src.launch.options import UsageError, parse_options
    from src.launch.provenance import ROOT
    from src.launch.resume import continued, run_here
    from src.launch.run_folder import NEW, make_run_folder, record, run_name, submit_run
    from src.launch.sbatch_options import job_options
    from src.launch.show import print_config, print_help, until_closed
    from src.launch.site_settings import site_settings, time_limit, with_site_settings
    from src.launch.start import agree_on_folder, has_finished
    from src.utils import slurm
    from src.utils.attempts import lead_seconds, read_attempts
    from src.utils.errors import UserError, plain_errors
except ImportError as error:
    missing = "a file of this repository is missing, see git status"
    old = "activate the environment, with source env/bin/activate (docs/preparation.md)"
    raise SystemExit(f"{error.msg}: {missing if 'src' in error.msg else old}") from None
except KeyboardInterrupt:
    raise SystemExit(130) from None

MANY_RUNS = 20  # more need --yes


def make_job(settings, sbatch, lead_s):
    """Return the job, with the resources that it requests, which is told to stop lead_s early."""
    job, workers = settings.slurm, settings.data.num_workers
    return Job(
        nodes=job.num_nodes,
        tasks_per_node=job.devices,
        # one CPU per worker, and one for the training itself
        cpus_per_task=workers // job.devices + 1,
        mem_gb=4 * job.devices if job.mem_gb is None else job.mem_gb,
        time_min=job.time_min,
        gres=gpus_per_node(job.devices) if settings.trainer.accelerator == "gpu" else "",
        signal=job.signal,
        lead_s=lead_s,
        options=job_options(settings, sbatch),
    )


def batch_script(run, folder, sbatch):
    """Return the job of a run and its batch script, with the settings of this site."""
    site = site_settings()
    time_min = run.settings.slurm.time_min
    if not run.was_given("slurm.time_min"):
        time_min = time_limit(site, time_min)
    # a run that continues knows how long its checkpoints take
    job = make_job(run.settings, sbatch, round(lead_seconds(time_min, read_attempts(folder))))
    script = job.script(folder.parent.name, str(folder))
    return job, with_site_settings(script, site, run.was_given)


def experiment_folder(run):
    settings = run.settings
    return Path(settings.log_path, settings.experiment_name)


def show(runs, options, config_dir):
    if options.help:
        print_help(runs[0], config_dir)
    elif options.print_config:
        print_config(runs[0])
    else:
        show_runs(runs, options)


def show_runs(runs, options):
    """List the runs, and print the batch script of the first one."""
    if slurm.started_by_srun():
        raise UserError("--dry-run cannot be used under srun: remove it")
    folders = [options.resume] if options.resume else planned_folders(runs)
    if len(runs) > 1:
        print(*(f"# run {n}: {folder}" for n, folder in enumerate(folders, 1)), sep="\n")
    print(batch_script(runs[0], folders[0], options.sbatch)[1], end="")


def planned_folders(runs):
    return [experiment_folder(run) / run_name("N", run.differs) for run in runs]


def refuse_job_in_job():
    job_id = slurm.current_job()
    if job_id:
        where = f"this shell is in job {job_id}; a job must not submit other jobs"
        raise UserError(f"{where}: train here with --local, or exit the job first")


def submit(runs, options, words):
    """Submit one job per run, or none if one of them has a mistake."""
    refuse_job_in_job()
    for run, folder in zip(runs, planned_folders(runs), strict=True):
        batch_script(run, folder, options.sbatch)
    for run in runs:
        folder = make_run_folder(experiment_folder(run), run.differs)
        record(folder, run, words)
        job, script = batch_script(run, folder, options.sbatch)
        submit_run(job, script, folder, words)


def resume(folder, options, words):
    """Continue a run, in a job or here."""
    run = continued(folder, words, CWD)
    if options.dry_run or options.print_config or options.help:
        options.resume = folder
        with until_closed():
            show([run], options, None)
        return
    if has_finished(run.settings, folder):
        return
    here = runs_here(options)
    if not here:
        refuse_job_in_job()
        job, script = batch_script(run, folder, options.sbatch)
    with changed_settings(folder, run.values):
        if here:
            run_here(folder)
        submit_run(job, script, folder, words, continues=True)


def runs_here(options):
    return options.local if options.local is not None else not has_slurm()


def train_here(runs, sbatch, words):
    """Carry out one run in this process."""
    if sbatch:
        raise UsageError(f"{sbatch[0]} after -- is for sbatch: leave it out to train here")
    if len(runs) > 1:
        found = f"these lists describe {len(runs)} runs, each for a job"
        remedy = "give one value of each to train here; a list as one value is written in brackets"
        raise UsageError(f"{found}: {remedy}, such as 'stage=[fit,test]'")
    experiment = experiment_folder(runs[0])

    def make():
        folder = make_run_folder(experiment, {})
        record(folder, runs[0], words)
        return folder

    run_here(agree_on_folder(make, experiment), NEW)


def main():
    options, words = parse_options(sys.argv[1:])
    slurm.refuse_other_launchers()
    os.chdir(ROOT)
    if options.resume:
        folder = from_cwd(options.resume)
        resume(folder, options, words)
        return
    base = read_values(from_cwd(options.from_run)) if options.from_run else None
    config_dir = CWD / options.config_dir if options.config_dir else None
    runs = compose_runs(words, config_dir, base, CWD)
    if options.help or options.print_config or options.dry_run:
        with until_closed():
            show(runs, options, config_dir)
    elif runs_here(options):
        train_here(runs, options.sbatch, sys.argv[1:])
    else:
        if len(runs) > MANY_RUNS and not options.yes:
            raise UsageError(f"these lists describe {len(runs)} jobs: add --yes to submit them")
        submit(runs, options, sys.argv[1:])


def from_cwd(folder):
    """Return a folder that was given in CWD, as seen from the root."""
    given = Path(os.path.normpath(CWD / folder))
    return given.relative_to(ROOT) if given.is_relative_to(ROOT) else given


if __name__ == "__main__":
    with plain_errors():
        main()
