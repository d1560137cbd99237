"""Continue a run from its folder: python run.py --resume logs/cifar10/version_0"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from src.config.compose import Composed, compose_runs
from src.config.files import read_values
from src.config.problems import SettingsError, in_words
from src.config.rules import has_argument
from src.config.words import COMMAND_LINE
from src.launch.provenance import ROOT
from src.utils.errors import UserError
from src.utils.targets import LENGTHS

# settings that another machine may need, or that make the training longer; the others decide what
# the run computes
MAY_CHANGE = (
    *("trainer.max_epochs", "trainer.accelerator", "trainer.timeout_min", "trainer.checkpoint_min"),
    *("data.num_workers", "data.data_dir", "slurm", "plots"),
)
PROGRAM = "code/src/main.py"  # in the folder of a run


def continued(folder: Path, words: Sequence[str], cwd: Path) -> Composed:
    """Return the settings of the run in this folder, with the given ones that may change.

    Raises:
        UserError: if this is not the folder of a run, or if a job already works in it.
        SettingsError: with all given settings that may not change.
    """
    if not re.fullmatch(r"version_\d+(-[\w.-]+)?", folder.name):
        raise UserError(f"--resume {folder}: the folder of a run is called version_N")
    values, where = read_values(folder)
    runs = compose_runs(words, base=(values, where), cwd=cwd, resumes=True)
    if len(runs) > 1:
        raise UserError(f"--resume continues one run: {len(runs)} are described by these lists")
    [run] = runs
    remedy = "leave it out, or start a new run with --from"
    problems = [
        f"{COMMAND_LINE}: {key}={in_words(value)}: {folder} continues with its own value,"
        f" {in_words(before)}; {remedy}"
        for key, before, value in changes(values, run.values, "")
        if not any(f"{key}.".startswith(f"{name}.") for name in MAY_CHANGE)
    ]
    problems += longer_schedule(values, run, folder)
    if problems:
        raise SettingsError(problems)
    if not (folder / PROGRAM).is_file():
        lost = f"{folder / PROGRAM} is missing, the program that began the run"
        raise UserError(f"{lost}: cannot continue it")
    refuse_active(folder)
    return run


def longer_schedule(values: Mapping[str, Any], run: Composed, folder: Path) -> list[str]:
    """Refuse more epochs for a schedule whose length is that of the training.

    It would rise again after its end; the checkpoint has its length.
    """
    schedule, trainer = run.settings.schedule, run.settings.trainer
    path, own = schedule.target, schedule.model_extra or {}
    given = {name for name, value in own.items() if value is not None}
    lengths = [name for name in LENGTHS if path and has_argument(path, name)]
    if trainer.max_epochs == values["trainer"].get("max_epochs") or not set(lengths) - given:
        return []
    rule = f"the schedule of {folder} has the length of its training"
    remedy = "start a longer run with --from, and init_from for its weights"
    return [f"{COMMAND_LINE}: trainer.max_epochs={trainer.max_epochs}: {rule}; {remedy}"]


def changes(before: Mapping[str, Any], after: Mapping[str, Any],
            prefix: str) -> Iterator[tuple[str, Any, Any]]:  # fmt: skip
    """Yield the names of the settings that differ, with both values."""
    for name in dict.fromkeys([*before, *after]):
        old, new, key = before.get(name), after.get(name), f"{prefix}{name}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes(old, new, f"{key}.")
        elif old != new:
            yield key, old, new


def refuse_active(folder: Path) -> None:
    """Check that no job that waits or runs uses this folder.

    Raises:
        UserError: with the id of the job.
    """
    command = ["squeue", "--me", "--noheader", "--format=%i|%Z|%k"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):  # no Slurm here
        return
    for line in shown.splitlines():
        job, root, run = line.split("|", 2)
        if Path(root, run) == ROOT / folder:
            remedy = f"wait for it, or end it with scancel {job}"
            raise UserError(f"job {job} already works in {folder}: {remedy}")


def run_here(folder: Path, *words: str) -> None:
    """Replace this process by the copy of the program in a run folder."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, str(folder / PROGRAM), str(folder), *words])
