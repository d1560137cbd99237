"""The checks of the challenges: python check.py --challenge NAME, see check.py.

The function of a challenge returns pairs of a check and what it looks at. A check looks at results
only, never at the text of the program, so that every right solution passes. It raises Wrong, which
says what is still missing.
"""

import itertools
import math
import re
import shutil

from checks import challenges_5_to_8, configurations, interruptions
from checks.runs import (
    ROOT,
    TEST,
    TRAINED,
    UNFINISHED,
    Wrong,
    accounting,
    as_number,
    best,
    has_checkpoint,
    has_ended,
    number_of,
    output_of,
    path_of,
    run_of,
    runs_by_run_py,
    runs_by_sbatch,
    with_newer,
)

# --- lesson 1


def overfitting():
    checks = [is_longer, names_best_epoch, is_overfitted, is_cancelled]
    how = "raise max_epochs in src/main.py, then sbatch run.sh"
    run = run_of(1, runs_by_sbatch(), checks, how)
    return [(check, run) for check in checks]


def is_longer(run):
    """The training is longer than that of the lesson."""
    if not run.epochs:
        found = f"no epoch line in {path_of(run.log)}"
        raise Wrong(found, "an epoch line", "wait for the first one: squeue --me, tail -f the log")
    if (epochs := int(run.epochs[-1][1])) <= 10:
        advice = "raise max_epochs in src/main.py, submit it, and wait for its first epoch"
        raise Wrong(f"{number_of(epochs, 'epoch')} in {path_of(run.log)}", "more than 10", advice)


def names_best_epoch(run):
    """Each epoch line names the epoch with the lowest validation loss so far."""
    losses = []
    for line in run.text.splitlines():
        if not (match := re.match(r"epoch +(\d+)/.* val loss (\S+) acc \S+(.*)", line)):
            continue
        losses = [] if match[1] == "1" else losses
        loss = as_number(match[2])
        losses.append(math.inf if math.isnan(loss) else loss)
        # printed losses are rounded, so that two epochs may have the lowest
        best = [k for k, loss in enumerate(losses, 1) if loss == min(losses)]
        named = re.fullmatch(r"\W*best epoch\W+(\d+)\W*", match[3], re.IGNORECASE)
        if not named or int(named[1]) not in best:
            found = f'the line of epoch {match[1]} ends with "{line[-25:].strip()}"'
            expected = f'"best epoch {best[0]}", where the validation loss was {min(losses)}'
            raise Wrong(found, expected, "print it at the end of the line; see main in src/main.py")


def is_overfitted(run):
    """The validation loss has stopped falling."""
    losses = [as_number(line[4]) for line in run.epochs]
    best = losses.index(min(losses)) + 1
    if len(losses) < best + 10:
        found = f"the lowest is {min(losses)}, in epoch {best} of {len(losses)} so far"
        advice = f"let it run on: tail -f {path_of(run.log)}; if it has ended, raise max_epochs"
        raise Wrong(found, "a validation loss that has not fallen for ten epochs", advice)


def is_cancelled(run):
    """You have ended the job while it was training."""
    job = f"job {run.job}" if run.state else "the training"
    if run.state in UNFINISHED:
        raise Wrong(f"{job} is {run.state}", "a job that you have cancelled", f"scancel {run.job}")
    if TEST.search(run.text):
        found = f"{job} has reached the test after its last epoch"
        raise Wrong(found, "a job that you have cancelled", "submit it again; scancel it earlier")
    if run.state and not run.state.startswith("CANCELLED"):
        advice = f"see the end of {path_of(run.log)}, then submit it again, and end it with scancel"
        raise Wrong(f"{job} is {run.state}", "a job in state CANCELLED", advice)


def request():
    """Return the checks of the newest job called digits.

    Raises:
        Wrong: if there is none.
    """
    fields = ("JobID", "State", "ReqMem", "TimelimitRaw")
    jobs = accounting(fields, "--name=digits", "--starttime=now-30days")
    for number, state in queued("digits"):
        if number not in [job["JobID"] for job in jobs]:
            advice = "wait until squeue --me no longer lists it and sacct --name=digits shows it"
            raise Wrong(f"job {number} is {state}", "a job that has ended", advice)
    if not jobs:
        found = (
            "sacct shows no job called digits" if shutil.which("sacct") else "no Slurm: no sacct"
        )
        raise Wrong(found, "a job called digits", "edit run.sh, then sbatch run.sh on a cluster")
    return [(check, jobs[0]) for check in (requests_memory, requests_time, has_completed)]


def queued(name):
    """Return id and state of your jobs that Slurm's controller knows: sacct lists them later."""
    form = ["--noheader", "--states=all", "--format=%i|%T"]
    shown = output_of(["squeue", "--me", f"--name={name}", *form])
    return [line.split("|") for line in shown.split() if "|" in line]


def requests_memory(job):
    """The job requests at most 1 GB of memory."""
    number, unit = re.match(r"([\d.]*)(\w?)", job["ReqMem"]).groups()
    megabytes = as_number(number) * {"K": 1 / 1024, "G": 1024, "T": 1024**2}.get(unit, 1)
    if not 0 < megabytes <= 1024:
        found = f"job {job['JobID']} requests {job['ReqMem'] or 'no amount of memory'}"
        raise Wrong(found, "1G or less, and more than MaxRSS", "change --mem, and submit it again")


def requests_time(job):
    """The job requests at most five minutes."""
    minutes = as_number(job["TimelimitRaw"])
    if not minutes <= 5:
        found = f"job {job['JobID']} requests {job['TimelimitRaw']} minutes"
        raise Wrong(found, "5 minutes or less", "change --time, and submit it again")


def has_completed(job):
    """The job has completed with these resources."""
    if job["State"] in UNFINISHED:
        wait = "wait until squeue --me no longer lists it"
        raise Wrong(f"job {job['JobID']} is {job['State']}", "a job that has ended", wait)
    if job["State"] != "COMPLETED":
        advice = f"see the end of slurm.{job['JobID']}.out: did it need more than it requested?"
        raise Wrong(f"job {job['JobID']} is {job['State']}", "COMPLETED", advice)


# --- lesson 2


def learning_rate():
    checks = [*TRAINED, shows_learning_rate, learning_rate_falls]
    run = run_of(2, runs_by_sbatch(), checks, "sbatch run.sh, or bash run.sh")
    return [(check, run) for check in checks]


def shows_learning_rate(run):
    """TensorBoard shows the learning rate."""
    values = run.values("learning_rate")
    if values is None:
        advice = (
            'call self.log("learning_rate", ...) in a method that Lightning calls in every epoch'
        )
        raise Wrong(f"no tag learning_rate in {run.name}", "the tag learning_rate", advice)
    if len(values) < 2:
        found = f"{number_of(len(values), 'value')} of learning_rate in {run.name}"
        raise Wrong(found, "one per epoch", "log it in a method that Lightning calls every epoch")


def learning_rate_falls(run):
    """The learning rate falls to a tenth or less."""
    values, first = run.values("learning_rate"), as_number(run.settings.get("learning_rate"))
    tenth = first / 10
    # TensorBoard stores 32 bits of each value
    if not values[0] >= first / 2 or not values[-1] <= tenth * 1.001:
        found = f"{values[0]:.6f} at first, {values[-1]:.6f} at the end"
        advice = "return an optimizer and a scheduler from configure_optimizers, and log the rate"
        expected = f"{first} at first, at most {tenth:g} at the end"
        raise Wrong(found, expected, advice)


def checkpoint_name():
    checks = [has_ended, has_checkpoint, names_best_accuracy]
    run = run_of(2, runs_by_sbatch(), checks, "sbatch run.sh, or bash run.sh")
    return [(check, run) for check in checks]


def names_best_accuracy(run):
    """The name of the checkpoint contains its validation accuracy."""
    highest = max(run.values("val_acc") or [0])
    names = [path.stem for path in run.folder.glob("checkpoints/*.ckpt")]
    numbers = [float(text) for name in names for text in re.findall(r"\d+\.\d+", name)]
    if not any(abs(number - highest) < 0.006 for number in numbers):
        found = f"{', '.join(names)} in {run.name}/checkpoints"
        advice = "give ModelCheckpoint a filename with {val_acc}, and submit it again"
        raise Wrong(found, f"a name with {highest:.4f}, the highest val_acc of that run", advice)


# --- lesson 3


def measure_workers():
    runs = [run for run in runs_by_sbatch() if run.lesson == 3]
    timed = [run for run in runs if run.done and run.values("epoch_seconds")]
    return [
        (has_times, runs),
        (has_two_measurements, timed),
        (have_cpus, timed),
        (names_fastest, timed),
    ]


def has_times(runs):
    """TensorBoard shows the seconds that each epoch of a finished run took."""
    timed = [run for run in runs if run.values("epoch_seconds")]
    if not timed:
        found = f"no tag epoch_seconds in {runs[0].name}" if runs else "no run of lesson 3"
        advice = "take the time in on_train_epoch_start and on_train_epoch_end, and self.log it"
        raise Wrong(found, "the tag epoch_seconds", advice)
    if not any(run.done for run in timed):
        has_ended(timed[0])


def has_two_measurements(timed):
    """The epochs were timed without workers, and with some."""
    numbers = sorted({int(run.settings["num_workers"]) for run in timed})
    if 0 not in numbers or len(numbers) < 2:
        found = f"finished runs with epoch_seconds: {', '.join(map(str, numbers))} workers"
        advice = "change num_workers and --cpus-per-task, submit it again, and wait until it ends"
        raise Wrong(found, "one with 0 workers, and one with more", advice)


def without_right_cpus(timed):
    """Return run name -> number of CPUs that its job requested, if that is not the right one."""
    ids = ",".join(run.job for run in timed if run.job)
    jobs = accounting(("JobID", "ReqCPUS"), f"--jobs={ids}") if ids else []
    cpus = {job["JobID"]: int(job["ReqCPUS"]) for job in jobs}
    wrong = {}
    for run in timed:
        needed = int(run.settings["num_workers"]) + 1
        # a node whose cores have two threads each may round up
        if not needed <= cpus.get(run.job, needed) <= needed + 1:
            wrong[run.name] = cpus[run.job]
    return wrong


def have_cpus(timed):
    """For each number of workers, a job requested a CPU for each, and one for the training."""
    wrong = without_right_cpus(timed)
    measured = {run.settings["num_workers"] for run in timed if run.name not in wrong}
    for run in timed:
        if (workers := run.settings["num_workers"]) not in measured:
            cpus, needed = number_of(wrong[run.name], "CPU"), int(workers) + 1
            found = f"{cpus} for {number_of(int(workers), 'worker')} in job {run.job}"
            advice = f"submit it again with --cpus-per-task={needed}"
            raise Wrong(found, number_of(needed, "CPU"), advice)


def names_fastest(timed):
    """best_workers.txt names the number of workers with the fastest epoch."""
    file = ROOT / "lightning_logs/best_workers.txt"
    wrong, fastest = without_right_cpus(timed), {}
    for run in timed:
        if run.name in wrong:
            continue
        number = int(run.settings["num_workers"])
        seconds = min(run.values("epoch_seconds"))
        fastest[number] = min(seconds, fastest.get(number, seconds))
    limit = min(fastest.values()) * 1.05  # repeated measurements differ that much
    said = file.read_text().strip() if file.is_file() else ""
    if fastest.get(int(said) if said.isdecimal() else -1, limit + 1) > limit:
        found = f"{file.relative_to(ROOT)} is {'missing' if not said else repr(said)}"
        times = ", ".join(f"{seconds:.2f} s with {n}" for n, seconds in sorted(fastest.items()))
        advice = f"compare the fastest epochs ({times}), and write the number of workers there"
        raise Wrong(found, "the number of workers with the fastest epoch", advice)


# --- lesson 4


def job_number():
    runs = [run for run in runs_by_run_py() if run.lesson == 4 and run.job]
    if not runs:
        found = "no job of lesson 4"
        raise Wrong(found, "a run that was a job", "python run.py --experiment_name=job_number")
    checks = [leads_to_run, has_ended, has_everything]
    linked = [run for run in runs if job_folders(run)]
    waits = linked[:1] if linked and linked[0].state in UNFINISHED else []
    run = with_newer(best(waits or runs, checks), runs)
    return [(check, run) for check in checks]


def job_folders(run):
    """Return the folders with the job's id in their name."""
    folders = [path for path in run.folder.parent.iterdir() if path.is_dir()]
    return [path for path in folders if run.job in re.findall(r"\d+", path.name)]


def leads_to_run(run):
    """A folder of the experiment has the job's id in its name."""
    for path in run.folder.parent.iterdir():
        if path.is_symlink() and not path.exists() and run.job in re.findall(r"\d+", path.name):
            found = f"{path.name} points to {path.readlink()}, which does not exist from there"
            expected = f"a link to {run.folder.name}"
            advice = f"a link's target is relative to the link's folder: use {run.folder.name}"
            raise Wrong(found, expected, f"{advice}, and launch again, or correct this link")
    if not job_folders(run):
        experiment = run.folder.parent.relative_to(ROOT)
        found = f"no folder in {experiment} has {run.job} in its name, for {run.folder.name}"
        expected = f"a folder, or a link to one, such as {experiment}/job_{run.job}"
        where = "submit_run in src/launch/run_folder.py"
        advice = f"make it with the id that {where} gets, and launch again"
        raise Wrong(found, expected, advice)


def has_everything(run):
    """That folder has both the records of the launch and the results."""
    for folder in job_folders(run):
        missing = [name for name in ("command.txt", "DONE.json") if not (folder / name).exists()]
        if missing:
            found = f"{folder.relative_to(ROOT)} has no {' and no '.join(missing)}"
            raise Wrong(
                found, "everything that belongs to the run", "make it a link to the run folder"
            )


def grid():
    runs = [run for run in runs_by_run_py() if run.folder.parent.name == "grid"]
    if not runs:
        how = "python run.py --experiment_name=grid --nb_trials=4"
        raise Wrong("no run in logs/grid", "a run for each point of the grid", how)
    return [(covers_grid, runs), (are_jobs, runs), (names_best, runs)]


def covers_grid(runs):
    """Two learning rates or more were tried with the same two batch sizes or more."""
    rates = {}  # batch size -> the learning rates of its finished runs
    for run in runs:
        if run.done:
            rates.setdefault(run.settings["batch_size"], set()).add(run.settings["learning_rate"])
    if any(len(rates[a] & rates[b]) > 1 for a, b in itertools.combinations(rates, 2)):
        return
    waiting = sorted(run.folder.name for run in runs if not run.done)
    tried = [f"{', '.join(sorted(rates[size]))} with batch size {size}" for size in sorted(rates)]
    found = f"learning rates of finished runs: {'; '.join(tried) or 'none'}"
    advice = "let both lists have two values, and submit --nb_trials=4"
    if waiting:
        advice = f"wait for {', '.join(waiting)}; if squeue --me is empty, see slurm_err_logs"
    elif len(rates) == 1:
        [size] = rates
        advice = "shorten the list of learning rates: the trials are the first combinations"
        found = f"all {len(runs)} trials have batch size {size}" if len(runs) > 1 else found
        if size == "64":  # the default
            tunable = "make --batch_size tunable in src/launch/arguments.py, as --learning_rate is"
            advice = f"{tunable}; if it is, {advice}"
    raise Wrong(found, "at least two, each with at least two batch sizes", advice)


def are_jobs(runs):
    """Each of them was a job of its own."""
    not_jobs = sorted(run.folder.name for run in runs if run.done and not run.job)
    if not_jobs:
        found = f"{', '.join(not_jobs)} ran outside a job"
        raise Wrong(found, "one job per run", "delete these folders, and submit with --nb_trials")


def names_best(runs):
    """best.txt names the run with the highest validation accuracy."""
    file = ROOT / "logs/grid/best.txt"
    highest = {
        run.folder.name: max(as_number(line[5]) for line in run.epochs)
        for run in runs
        if run.done and run.epochs
    }
    said = file.read_text().strip() if file.is_file() else ""
    name = said.removeprefix("./").removeprefix("logs/grid/").rstrip("/")
    expected = "the run with the highest validation accuracy, version_<number>"
    where = file.relative_to(ROOT)
    if name not in highest:
        found = f"{where} is {'missing' if not said else f'{said!r}, which is not a finished run'}"
        advice = "compare the epoch lines in slurm_out_logs, and write the name of the folder there"
        raise Wrong(found, expected, advice)
    if not highest[name] >= max(highest.values()):
        found = f"{where} is {said!r}, with {highest[name]}; another run reached more"
        raise Wrong(found, expected, "compare the epoch lines in slurm_out_logs again")


CHALLENGES = {
    1: {"request": request, "overfitting": overfitting},
    2: {"learning-rate": learning_rate, "checkpoint-name": checkpoint_name},
    3: {"measure-workers": measure_workers},
    4: {"job-number": job_number, "grid": grid},
    **challenges_5_to_8.CHALLENGES,
    9: {"keep": interruptions.keep},
    10: {"augmentation": configurations.augmentation},
}
