"""The checks of the challenges: python check.py --challenge NAME, see check.py.

The function of a challenge returns pairs of a check and what it looks at. A check looks at results
only, never at the text of the program, so that every right solution passes. It raises Wrong, which
says what is still missing.
"""

import re

from checks.runs import (
    TEST,
    UNFINISHED,
    Wrong,
    as_number,
    run_of,
    runs_by_sbatch,
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
        found = f"no epoch line in {run.log.name}"
        raise Wrong(found, "an epoch line", "wait for the first one: squeue --me, tail -f the log")
    if (epochs := int(run.epochs[-1][1])) <= 10:
        advice = "raise max_epochs in src/main.py, then sbatch run.sh"
        raise Wrong(f"{epochs} epochs in {run.log.name}", "more than 10", advice)


def names_best_epoch(run):
    """Each epoch line names the epoch with the lowest validation loss so far."""
    losses = []
    for line in run.text.splitlines():
        if not (match := re.match(r"epoch +(\d+)/.* val loss (\S+) acc \S+(.*)", line)):
            continue
        losses = [] if match[1] == "1" else losses
        losses.append(as_number(match[2]))
        # printed losses are rounded, so that two epochs may have the lowest
        best = [k for k, loss in enumerate(losses, 1) if loss == min(losses)]
        named = re.fullmatch(r" +best epoch (\d+)", match[3])
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
        advice = f"let it run on: tail -f {run.log.name}; if it has ended, raise max_epochs"
        raise Wrong(found, "a validation loss that has not fallen for ten epochs", advice)


def is_cancelled(run):
    """You have ended the job while it was training."""
    job = f"job {run.job}" if run.state else "the training"
    if run.state in UNFINISHED:
        raise Wrong(f"{job} is {run.state}", "a job that you have ended", f"scancel {run.job}")
    if TEST.search(run.text):
        found = f"{job} has reached the test after its last epoch"
        raise Wrong(found, "a job that you have ended", "submit it again, and scancel it in time")
    if run.state and not run.state.startswith("CANCELLED"):
        advice = f"see the end of {run.log.name}, then submit it again, and end it with scancel"
        raise Wrong(f"{job} is {run.state}", "a job in state CANCELLED", advice)


CHALLENGES = {
    1: {"overfitting": overfitting},
}
