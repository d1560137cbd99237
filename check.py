#!/usr/bin/env python3
"""Did it work? Check what the current lesson has left behind: python check.py

It looks at logs, run folders and the state of jobs, needs no network and changes nothing. With
--challenge NAME, it checks a challenge of the lesson instead. The exit code is 0 if all checks
pass, and 1 otherwise. Only the standard library is used.
"""

import argparse
import re
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH leaves it out

from checks.challenges import CHALLENGES
from checks.configurations import (
    has_its_epochs,
    has_library_network,
    has_own_experiment,
    has_predictions,
    has_schedule,
    has_seeds,
    trainings,
)
from checks.interruptions import can_continue, has_one_curve, was_interrupted
from checks.runs import (
    CURVES,
    ROOT,
    TRAINED,
    Run,
    Wrong,
    has_checkpoint,
    has_ended,
    learns,
    number_of,
    output_of,
    run_of,
    runs_by_run_py,
    runs_by_sbatch,
    shows,
    unfinished_newer,
)

# lowest test accuracy of a network that has learned: with the full data, with the sample
DIGITS, PHOTOS, RESNET = (0.95, 0.85), (0.35, 0.13), (0.6, 0.35)
# after few epochs
MINE = (0.9, 0.8)
PLOTS = ("images/confusion_matrix", "images/examples", "images/predictions")


# --- checks of a lesson


def lesson_1():
    checks = [*TRAINED, learns(DIGITS)]
    run = run_of(1, runs_by_sbatch(), checks, "sbatch run.sh, or bash run.sh | tee slurm.0.out")
    return [(check, run) for check in checks]


def lesson_2(lesson=2):
    checks = [*TRAINED, learns(DIGITS), has_checkpoint, CURVES]
    run = run_of(lesson, runs_by_sbatch(), checks, "sbatch run.sh, or bash run.sh")
    return [(check, run) for check in checks]


def lesson_3():
    checks = lesson_2(3)
    return [*checks, (has_workers, checks[-1][1])]


def has_workers(run):
    """run.sh requests a CPU for each worker and one for the training."""
    script = (ROOT / "run.sh").read_text()
    cpus = int(re.search(r"--cpus-per-task=(\d+)", script)[1])
    workers = int(run.settings["num_workers"])
    if cpus != workers + 1:
        found = f"{number_of(cpus, 'CPU')} for {number_of(workers, 'worker')}"
        raise Wrong(found, f"--cpus-per-task={workers + 1}", "edit run.sh, and submit it again")


def lesson_4():
    checks = [*TRAINED, learns(DIGITS), has_checkpoint, CURVES, has_script]
    runs = runs_by_run_py()
    run = run_of(4, runs, checks, "python run.py", experiment_name="mnist")
    return [*((check, run) for check in checks), (has_trials, runs)]


def has_script(run):
    """The script of the job is kept."""
    script = run.folder.parent / f"slurm_scripts/{run.folder.name}.sh"
    if run.log and not script.is_file():
        raise Wrong(f"no {script.relative_to(ROOT)}", "the script of the run", "python run.py")


def has_trials(runs):
    """Three trials have ended, each with its own learning rate."""
    trials = [run for run in runs if run.settings.get("experiment_name") == "rates"]
    rates = {run.settings.get("learning_rate") for run in trials if run.done}
    if len(rates) < 3 and trials_need_slurm(trials):
        return
    if len(rates) < 3:
        found = f"{number_of(len(rates), 'learning rate')} among the finished runs in logs/rates"
        how = "python run.py --experiment_name=rates --nb_trials=3, then wait for the jobs"
        raise Wrong(found, "3 trials with 3 learning rates", how)


def trials_need_slurm(trials):
    """Return whether there are no trials because this machine has no Slurm."""
    return not trials and not shutil.which("sbatch")


def lesson_5():
    checks = [*TRAINED, learns(DIGITS), has_checkpoint, CURVES, PICTURES, has_profile]
    runs = runs_by_run_py()
    how = "python run.py --experiment_name=metrics"
    adam = run_of(5, runs, checks, how, experiment_name="metrics", optimizer="Adam")
    how += " --optimizer=SGD --learning_rate=0.02"
    sgd = run_of(5, runs, TRAINED, how, experiment_name="metrics", optimizer="SGD")
    return [*((check, adam) for check in checks), *((check, sgd) for check in TRAINED)]


PICTURES = shows(*PLOTS)


def has_profile(run):
    """The profiler has written its report."""
    if not list(run.folder.glob("*profile*.txt")):
        raise Wrong(f"no profile in {run.name}", "fit-profile.txt", "run the training to its end")


def lesson_6():
    checks = [*TRAINED, learns(PHOTOS), has_checkpoint]
    runs = runs_by_run_py()
    workers = [run for run in runs if run.settings.get("num_workers", "0") != "0"]
    alone = [run for run in runs if run not in workers]
    photos = run_of(6, alone, checks, "python run.py", dataset="cifar10")
    on_digits = [*TRAINED, learns(DIGITS)]
    digits = run_of(6, runs, on_digits, "python run.py --dataset=mnist", dataset="mnist")
    how = "python run.py --num_workers=2 --experiment_name=workers"
    helped = run_of(6, workers, TRAINED, how, experiment="workers", dataset="cifar10")
    return [
        *((check, photos) for check in checks),
        *((check, digits) for check in on_digits),
        *((check, helped) for check in TRAINED),
        (has_compared, (photos, helped)),
    ]


def has_compared(runs):
    """The profiler has measured the training without and with workers."""
    for run in runs:
        has_profile(run)


def lesson_7():
    runs, checks = runs_by_run_py(), [*TRAINED, learns(RESNET), has_checkpoint]
    resnet = run_of(7, runs, checks, "python run.py", dataset="cifar10", arch="resnet18")
    how = "python run.py --arch=fully_connected"
    simple = run_of(7, runs, TRAINED, how, dataset="cifar10", arch="fully_connected")
    return [
        *((check, resnet) for check in checks),
        *((check, simple) for check in TRAINED),
        (is_better, (resnet, simple)),
    ]


def is_better(runs):
    """The ResNet is better than the fully connected network."""
    resnet, simple = (run.test_accuracy for run in runs)
    if not resnet > simple:
        found = f"test accuracy {resnet} and {simple}"
        raise Wrong(found, "a larger one for the ResNet", "run both without the debugging switches")


def lesson_8():
    runs, checks = runs_by_run_py(), [*TRAINED, learns(RESNET), has_checkpoint, knows_processes]
    ours = [run for run in runs if number_of_processes(run) > 1]
    how = "python run.py --num_nodes=2 --devices=2, or python run.py --local --devices=2"
    run = run_of(8, ours or runs, checks, how, experiment="cifar10")
    return [(check, run) for check in checks]


def number_of_processes(run):
    nodes, devices = (int(run.settings.get(name, 1)) for name in ("num_nodes", "devices"))
    return nodes * devices


def knows_processes(run):
    """Several processes trained together."""
    count = number_of_processes(run)
    said = re.search(r"processes: (\d+) ", run.text)
    if count < 2 or (said and int(said[1]) != count):
        found = f"{said[1] if said else count} process in {run.name}"
        raise Wrong(found, "several", "python run.py --num_nodes=2 --devices=2")


def lesson_9():
    checks = [has_ended, was_interrupted, has_one_curve, can_continue, learns(RESNET)]
    how = "python run.py --experiment_name=interrupted"
    run = run_of(9, runs_by_run_py(), checks, how, dataset="cifar10", arch="resnet18")
    return [(check, run) for check in checks]


def lesson_10():
    checks = [has_ended, has_its_epochs, learns(MINE), has_checkpoint]
    checks += [has_own_experiment, has_schedule]
    runs, how = trainings("mine"), "python run.py experiment=mine"
    run = run_of(10, runs, checks, how, experiment="mine")
    everything = [one for one in runs_by_run_py() if one.lesson == 10]
    return [
        *((check, run) for check in checks),
        (has_seeds, [one for one in runs if one.lesson == 10]),
        (has_library_network, everything),
        (has_predictions, everything),
    ]


LESSONS = {
    1: lesson_1,
    2: lesson_2,
    3: lesson_3,
    4: lesson_4,
    5: lesson_5,
    6: lesson_6,
    7: lesson_7,
    8: lesson_8,
    9: lesson_9,
    10: lesson_10,
}


# --- which lesson, and the verdict


def git(*words):
    return output_of(["git", "-C", str(ROOT), *words])


def current_lesson():
    """Return the number of the lesson whose branch is checked out, or None.

    A branch of another name belongs to the last lesson that it contains.
    """
    branch = git("branch", "--show-current").strip()
    if match := re.match(r"(\d+)-", branch):
        return int(match[1])
    if branch in ("main", "master"):
        return None
    contained = git(
        "for-each-ref", "--merged=HEAD", "--format=%(refname:lstrip=2)", "refs/pristine"
    )
    numbers = re.findall(r"^(\d+)-", contained, re.MULTILINE)
    return max(map(int, numbers), default=None)


def judged_runs(checks):
    """Return the runs that the checks look at one by one."""
    subjects = [subject if isinstance(subject, tuple) else (subject,) for _, subject in checks]
    runs = [run for runs in subjects for run in runs if isinstance(run, Run)]
    return list({run.name: run for run in runs}.values())


def judge(find_checks, what):
    """Print the verdict on a lesson or a challenge, and return whether all checks pass."""
    passed, checks = 0, []
    try:
        checks = find_checks()
        for check, subject in checks:
            check(subject)
            passed += 1
    except Wrong as wrong:
        done = f" {checks[passed][0].__doc__}" if checks else ""
        total = f"/{len(checks)}" if checks else ""
        print(f"FAIL after {passed}{total}:{done}")
        print(f"  found:    {wrong.found}")
        print(f"  expected: {wrong.expected}")
        print(f"  try:      {wrong.advice}")
    runs = judged_runs(checks)
    passes = bool(checks) and passed == len(checks)
    if passes:
        names = f" ({', '.join(run.name for run in runs)})" if runs else ""
        print(f"PASS {passed}/{passed}: {what}{names}")
    for newer in dict.fromkeys(filter(None, map(unfinished_newer, runs))):
        print(f"newer: {newer}")
    return passes


def challenge_of(lesson, name):
    """Return the function that finds the checks of a challenge."""
    challenges = CHALLENGES.get(lesson, {})
    if name not in challenges:
        known = ", ".join(challenges) or "none"
        raise SystemExit(f"{name!r} is not a challenge of lesson {lesson}; its challenges: {known}")
    return challenges[name]


def main():
    parser = argparse.ArgumentParser(description="Check what the current lesson has left behind.")
    parser.add_argument(
        "--lesson", type=int, choices=LESSONS, help="lesson to check; default: the current one"
    )
    parser.add_argument(
        "--challenge", metavar="NAME", help="check this challenge instead of the lesson"
    )
    args = parser.parse_args()
    lesson = args.lesson or current_lesson()
    if lesson not in LESSONS:
        raise SystemExit(
            "this is not the branch of a lesson with checks: switch to such a branch first,"
            f" or run python check.py --lesson N (1 to {max(LESSONS)})"
        )
    if args.challenge is not None:
        passes = judge(challenge_of(lesson, args.challenge), f"challenge {args.challenge}")
    else:
        passes = judge(LESSONS[lesson], f"lesson {lesson}")
    raise SystemExit(not passes)


if __name__ == "__main__":
    main()
