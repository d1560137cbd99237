"""Keep one line for each attempt of a run in attempts.jsonl: see src/callbacks/interruption.py."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from src.utils import slurm

NAME = "attempts.jsonl"
LOCK = threading.Lock()  # a thread writes checkpoints, and notes their step
# why an attempt ended if it could not say so itself
KILLED = "without notice: see sacct"


def read_attempts(folder: Path) -> list[dict[str, Any]]:
    """Return the attempts of a run, the first one first."""
    try:
        lines = (folder / NAME).read_text().splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return []


def begin_attempt(folder: Path, step: int) -> int:
    """Add a line for this attempt, which starts at an optimizer step; return its number."""
    attempts = read_attempts(folder)
    if attempts and attempts[-1]["ended"] is None:
        attempts[-1]["ended"] = KILLED
    begun = {
        "job": os.environ.get("SLURM_JOB_ID"),
        "restart": slurm.restarts(),
        "nodes": os.environ.get("SLURM_JOB_NODELIST", socket.gethostname()),
        "began": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "from_step": step,
        "to_step": step,  # of the newest checkpoint
        "save_s": 0.0,  # longest time that a checkpoint took, in seconds
        "ended": None,
    }
    write_attempts(folder, [*attempts, begun])
    return len(attempts)


def update_attempt(folder: Path, **values: Any) -> None:
    """Change values in the line of this attempt."""
    with LOCK:
        attempts = read_attempts(folder)
        if attempts:
            write_attempts(folder, [*attempts[:-1], attempts[-1] | values])


def write_attempts(folder: Path, attempts: list[dict[str, Any]]) -> None:
    part = folder / f".{NAME}"
    with in_message(folder / NAME):
        part.write_text("".join(json.dumps(attempt) + "\n" for attempt in attempts))
        part.replace(folder / NAME)


@contextmanager
def in_message(path: Path) -> Iterator[None]:
    """Name this file in an error of the disk, which does not know it when a write fails."""
    before = sys.exc_info()[1]  # of a training that ends with an error
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save raises another error, about a position in the file
        cause = error if isinstance(error, OSError) else error.__context__
        if isinstance(cause, OSError) and cause is not before:
            raise OSError(cause.errno, cause.strerror, str(path)) from None
        raise


def lead_seconds(time_min: float, attempts: list[dict[str, Any]]) -> float:
    """Return how long before its time limit a job is told to stop, in seconds.

    Enough for ten saves as slow as the slowest one so far; at least two minutes, or a quarter of a
    short time limit.
    """
    slowest = max((attempt["save_s"] for attempt in attempts), default=0.0)
    return min(max(120.0, 10 * slowest), 15 * time_min)
