"""Processes that tests start: the signals that end them, and what they do if they do not end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import AnyStr

# Python prints the stacks of its threads at SIGABRT
SHOW_STACKS = {"PYTHONFAULTHANDLER": "1"}


def accept_signals() -> None:
    """Undo what children inherit if the tests run under nohup, or in the background."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def output_of(process: subprocess.Popen[AnyStr], timeout: float | None) -> tuple[AnyStr, AnyStr]:
    """Return what a process prints until it ends; it leads a session, and has SHOW_STACKS.

    Raises:
        AssertionError: if it does not end in time; its text says where each thread is. No process
            of the session is left.
    """
    try:
        return process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        threads = "\n".join(threads_of(in_session(process.pid)))
        os.killpg(process.pid, signal.SIGABRT)
        try:
            printed, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired as error:
            printed, errors = error.output, error.stderr
        end_session(process)
        raise AssertionError(
            f"{process.args} did not end within {timeout} s\n{threads}\n{printed!s}\n{errors!s}"
        ) from None


def in_session(session: int) -> Iterator[int]:
    """Yield the ids of the processes of a session."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                yield int(folder.name)


def with_variables(*variables: str) -> Iterator[int]:
    """Return the ids of the processes with these variables, such as SLURM_JOB_ID=7."""
    return (pid for pid, found in environments() if set(variables) <= set(found))


def environments() -> Iterator[tuple[int, list[str]]]:
    """Yield the id of each process and its variables, such as SLURM_JOB_ID=7."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            text = (folder / "environ").read_bytes().decode(errors="replace")
            yield int(folder.name), text.split("\0")


def threads_of(pids: Iterable[int]) -> list[str]:
    """Return a line for each thread of processes: its process, name, and where it waits."""
    lines = []
    for task in [task for pid in sorted(pids) for task in Path(f"/proc/{pid}").glob("task/*")]:
        with contextlib.suppress(OSError):
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            name, place = ((task / file).read_text().strip() for file in ("comm", "wchan"))
            lines.append(f"process {task.parts[2]}, {name}, {state}, {place}")
    return lines


def end_session(process: subprocess.Popen[AnyStr]) -> None:
    """End what is left of a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
