"""When an attempt stops, and what it may write: make test-fast."""

import errno
import math
import os
import signal
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest

from programs import LESSON_9
from src.callbacks import interruption
from src.callbacks.interruption import Interruption
from src.launch.site_settings import time_limit
from src.utils.attempts import in_message, lead_seconds, read_attempts
from src.utils.errors import UserError
from src.utils.slurm import OF_A_TASK, in_seconds

RANK_0 = SimpleNamespace(is_global_zero=True)


def begin(folder):
    attempt = Interruption(folder, first_step=0, checkpoint_min=5, max_requeues=20)
    attempt.setup(RANK_0, None, "fit")
    return attempt


def test_an_attempt_that_was_replaced_neither_saves_nor_changes_the_line_of_the_next_one(tmp_path):
    replaced = begin(tmp_path)
    begin(tmp_path)

    with pytest.raises(UserError, match="another attempt has begun in") as caught:
        replaced.save(RANK_0)
    replaced.on_exception(RANK_0, None, caught.value)

    first, second = read_attempts(tmp_path)
    assert first["ended"] == "without notice: see sacct"
    assert second["ended"] is None


def test_an_error_is_noted_in_the_line_of_the_attempt(tmp_path):
    failed = begin(tmp_path)

    failed.on_exception(RANK_0, None, ValueError("no such\nvalue"))

    [attempt] = read_attempts(tmp_path)
    assert attempt["ended"] == "ValueError: no such"


def test_a_worker_that_ends_meanwhile_does_not_keep_an_error_from_being_noted(
    tmp_path, monkeypatch
):
    failed = begin(tmp_path)
    write = interruption.update_attempt

    def end_a_worker(*args, **values):
        signal.raise_signal(signal.SIGCHLD)
        write(*args, **values)

    def raise_error(*_):  # like the handler that PyTorch's DataLoader sets
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(interruption, "update_attempt", end_a_worker)
    before = signal.signal(signal.SIGCHLD, raise_error)
    try:
        failed.on_exception(RANK_0, None, ValueError("no such\nvalue"))
    finally:
        signal.signal(signal.SIGCHLD, before)

    [attempt] = read_attempts(tmp_path)
    assert attempt["ended"] == "ValueError: no such"


def test_an_error_of_the_training_is_not_taken_for_one_of_the_disk(tmp_path):
    """The context of a RuntimeError may be the error with which the training has ended."""
    seen = []
    try:
        raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
    except ConnectionResetError:
        try:
            with in_message(tmp_path):
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        except Exception as error:
            seen.append(error)
        try:
            with in_message(tmp_path):
                fill_the_disk()
        except Exception as error:
            seen.append(error)

    assert isinstance(seen[0], RuntimeError)
    assert (seen[1].errno, seen[1].filename) == (errno.ENOSPC, str(tmp_path))


def fill_the_disk():
    """Raise what torch.save raises on a full disk."""
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("unexpected pos 64 vs 0")


def test_two_ranks_look_about_once_a_second_also_after_a_quick_validation(tmp_path, monkeypatch):
    """As batches of a validation are quicker, their number must not be that of training batches."""
    clock, looks = [0.0], []
    monkeypatch.setattr(interruption.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(interruption, "agree", lambda _, values: looks.append(clock[0]) or values)
    ranks = SimpleNamespace(world_size=2, sanity_checking=False, training=True,
                            fit_loop=SimpleNamespace(_should_accumulate=lambda: False))  # fmt: skip
    attempt = Interruption(tmp_path, first_step=0, checkpoint_min=5, max_requeues=20)
    attempt.on_validation_start(ranks, None)
    for _ in range(1000):
        clock[0] += 0.001
        attempt.on_validation_batch_end(ranks)
    assert 1 <= len(looks) <= 12
    attempt.on_validation_end(ranks, None)
    for seconds in [0.3] * 20 + [0.01] * 400:
        clock[0] += seconds
        attempt.on_train_batch_end(ranks)

    since_validation = [look for look in looks if look > 1.0]
    assert since_validation[0] == pytest.approx(1.3)
    steady = [look for look in since_validation if look < 7.5]
    assert max(b - a for a, b in pairwise(steady)) < 1.5
    assert len(since_validation) < 20


STOP_WITH_WORKERS = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from torch.utils.data import DataLoader
from src.callbacks.interruption import SIGNAL, Interruption
from src.utils.errors import plain_errors

with plain_errors():
    batches = iter(DataLoader(range(1000), num_workers=2))
    next(batches)
    os.environ["SLURM_TASK_PID"] = str(os.getpid())
    io = SimpleNamespace(teardown=lambda: None)
    trainer = SimpleNamespace(is_global_zero=True, testing=True, global_step=9)
    trainer.strategy = SimpleNamespace(checkpoint_io=io, barrier=lambda: None)
    attempt = Interruption(Path(sys.argv[1]), first_step=0, checkpoint_min=5, max_requeues=20)
    attempt.setup(trainer, None, "fit")
    try:
        attempt.stop(trainer, SIGNAL)
    except Exception as error:
        attempt.on_exception(trainer, None, error)
        raise
"""
# like Slurm, which ends all processes of a requeued job, in any order
SCONTROL = """#!/bin/bash
for pid in $(pgrep -P $PPID); do
    [ "$pid" = $$ ] || kill "$pid"
done
sleep 1
kill $PPID
"""


def test_workers_that_slurm_ends_with_the_requeued_job_are_no_failure(tmp_path):
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    task = {f"SLURM_{name}": "0" for name in OF_A_TASK} | {"SLURM_NTASKS": "1"}
    env = {**os.environ, **task, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [sys.executable, "-c", STOP_WITH_WORKERS, str(tmp_path)]

    done = subprocess.run(command, cwd=LESSON_9, env=env, capture_output=True, text=True)

    [attempt] = read_attempts(tmp_path)
    assert attempt["ended"] == "a signal to another process; requeued", done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("time_min", "slowest", "expected"),
    [(60, 0.1, 120), (600, 60, 600), (4, 0.1, 60), (1, 0.1, 15), (1, 60, 15)],
)
def test_slow_saves_need_more_time_but_not_most_of_a_short_job(time_min, slowest, expected):
    attempts = [{"save_s": 0.0}, {"save_s": slowest}]

    assert lead_seconds(time_min, attempts) == expected
    assert lead_seconds(math.inf, []) == 120


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("59:30", 3570), ("1:00:00", 3600), ("2-00:00:01", 172801), ("UNLIMITED", math.inf)],
)
def test_the_times_of_squeue_are_read(text, seconds):
    assert in_seconds(text) == seconds


@pytest.mark.parametrize(("of_site", "minutes"), [("2:00:00", 120), ("", 60), ("UNLIMITED", 60)])
def test_the_time_limit_of_the_site_counts(of_site, minutes):
    assert time_limit({"SBATCH_TIMELIMIT": of_site}, 60) == minutes
