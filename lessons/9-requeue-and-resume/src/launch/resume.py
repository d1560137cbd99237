"""Continue a run from its folder: python run.py --resume logs/cifar10/version_0"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from src.launch.parser import Parser
from src.launch.provenance import ROOT, record_command
from src.utils.errors import UserError

# settings that another machine may need, or that make the training longer; the others decide what
# the run computes
MAY_CHANGE = {
    *("max_epochs", "num_nodes", "devices", "accelerator", "num_workers", "data_dir"),
    *("timeout_min", "checkpoint_min", "signal", "max_requeues", "plots"),
    *("log_path", "experiment_name", "run_number"),  # these follow from the folder
}


def words_of_run(parser: Parser, folder: str) -> list[str]:
    """Return the arguments with which the run in this folder was started."""
    try:
        command = Path(folder, "command.txt").read_text()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", error)
        need = f"is not the folder of a run ({folder}/command.txt: {reason})"
        parser.error(f"--resume {folder!r:.80} {need}; name one such as logs/cifar10/version_0")
    return shlex.split(command)[2:]


def continued(
    parser: Parser, folder: str, of_run: Sequence[str], given: Sequence[str]
) -> argparse.Namespace:
    """Return the settings of the run in this folder, with the given ones that may change."""
    before = parser.parse_args(of_run)
    hparams: argparse.Namespace = parser.parse_args([*of_run, *given])
    parser.given = parser.given[len(of_run) :]
    changed = [
        f"--{name} {getattr(hparams, name)} (the run has {getattr(before, name)})"
        for name, group in parser.group_of.items()
        if getattr(hparams, name) != getattr(before, name)
        and not (group.launch_only or name in MAY_CHANGE)
    ]
    if changed:
        remedy = "leave these out, or start a new run without --resume"
        parser.error(
            f"{folder} continues with its own settings, not {', '.join(changed)}: {remedy}"
        )
    if hparams.nb_trials > 1:
        parser.error("--resume continues one run: remove --nb_trials")
    path = Path(folder).resolve()
    path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    if not re.fullmatch(r"version_\d+", path.name):
        parser.error(f"--resume {folder}: the folder of a run is called version_N")
    hparams.log_path, hparams.experiment_name = str(path.parents[1]), path.parent.name
    hparams.run_number = int(path.name.removeprefix("version_"))
    refuse_active(path)
    return hparams


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


def continue_here(folder: Path, words: Sequence[str], number: int) -> None:
    """Replace this process by the copy of the program that began the run.

    Raises:
        UserError: if the copy is missing.
    """
    program = folder / "code/run.py"
    if not program.is_file():
        raise UserError(f"{program} is missing, the program that began the run: cannot continue it")
    record_command(folder, words)
    words = ["--local", *words, f"--run_number={number}"]
    os.execv(sys.executable, [sys.executable, str(program), *words])


def finished_epochs(folder: Path) -> int:
    """Return the number of epochs of a finished run, or 0."""
    try:
        return int(json.loads((folder / "DONE.json").read_text())["epochs"])
    except (OSError, ValueError, KeyError):
        return 0
