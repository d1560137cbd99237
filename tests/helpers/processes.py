"""Processes that tests start: the signals that end them, and what they do if they do not end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
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
        threads = "\n".join(threads_of(process.pid))
        os.killpg(process.pid, signal.SIGABRT)
        try:
            printed, errors = process.communicate(timeout=20)
        except subprocess.TimeoutExpired as error:
            printed, errors = error.output, error.stderr
        end_session(process)
        raise AssertionError(
            f"{process.args} did not end within {timeout} s\n{threads}\n{printed!s}\n{errors!s}"
        ) from None


def threads_of(session: int) -> list[str]:
    """Return a line for each thread of a session: its process, name, and where it waits."""
    lines = []
    for task in sorted(Path("/proc").glob("[0-9]*/task/*")):
        try:
            state, _, _, leader = (task / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(leader) == session:
                name, place = ((task / file).read_text().strip() for file in ("comm", "wchan"))
                lines.append(f"process {task.parts[2]}, {name}, {state}, {place}")
        except (OSError, ValueError):  # it has ended
            continue
    return lines


def end_session(process: subprocess.Popen[AnyStr]) -> None:
    """End what is left of a process and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
