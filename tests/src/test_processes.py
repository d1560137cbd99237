"""The processes of a distributed run on one machine: make test-fast."""

import json
import os
import signal
import subprocess
import sys

import pytest

from practice_cluster import wait_until
from programs import LESSON_9

# what every process runs: it starts the others, then does what its argument says
PROGRAM = """
import json, os, signal, sys, time
from src.launch.processes import start_processes
start_processes(3, [__file__, *sys.argv[1:]])
rank = int(os.environ["LOCAL_RANK"])
names = ("MASTER_ADDR", "MASTER_PORT")
with open(f"{os.path.dirname(__file__)}/{rank}.json", "w") as file:
    json.dump({"pid": os.getpid(), **{name: os.environ[name] for name in names}}, file)
EXEC
"""


@pytest.fixture
def start(tmp_path):
    """Start three processes that run a statement, which may use `rank`."""
    started = []

    def start(statement, **env):
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.replace("EXEC", statement))
        env = {**os.environ, "PYTHONPATH": str(LESSON_9), **env}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, program], env=env, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def described(folder):
    """Return what each process wrote about itself, once all have."""
    files = [folder / f"{rank}.json" for rank in range(3)]
    wait_until(
        lambda: all(file.is_file() and file.read_text().endswith("}") for file in files),
        60,
        "all processes have started",
    )
    return [json.loads(file.read_text()) for file in files]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_all_processes_meet_at_the_same_free_port(start, tmp_path):
    process = start("time.sleep(1)")

    rows = described(tmp_path)

    assert process.wait(60) == 0
    assert len({row["pid"] for row in rows}) == 3
    assert {row["MASTER_ADDR"] for row in rows} == {"127.0.0.1"}
    [port] = {row["MASTER_PORT"] for row in rows}
    assert 1024 < int(port) < 65536


def test_a_process_that_fails_ends_all_with_its_exit_code(start, tmp_path):
    process = start("time.sleep(1)\nif rank == 2: sys.exit(3)\ntime.sleep(600)")
    rows = described(tmp_path)

    assert process.wait(60) == 3
    wait_until(lambda: not any(is_running(row["pid"]) for row in rows), 60, "all have ended")


def test_a_process_that_is_killed_is_named(start, tmp_path):
    process = start("time.sleep(1)\nif rank == 1: os.kill(os.getpid(), 9)\ntime.sleep(600)")
    rows = described(tmp_path)

    _, message = process.communicate(timeout=60)

    assert process.returncode == 128 + signal.SIGKILL
    assert message == "process 1 was ended by SIGKILL\n"
    wait_until(lambda: not any(is_running(row["pid"]) for row in rows), 60, "all have ended")


def test_no_process_outlives_the_first_one(start, tmp_path):
    process = start("time.sleep(600)")
    rows = described(tmp_path)

    process.kill()

    wait_until(lambda: not any(is_running(row["pid"]) for row in rows[1:]), 60, "all have ended")


def test_the_others_may_end_before_the_first_one(start, tmp_path):
    process = start("time.sleep(1 if rank else 3)")

    assert process.wait(60) == 0


@pytest.mark.parametrize("value", ["99", "1 99 1", "", "x"])
def test_a_variable_left_over_from_another_training_is_named(start, value):
    process = start("", HPC_STARTER_PIPE=value)

    _, message = process.communicate(timeout=60)

    assert process.returncode == 1
    sentence = "is left over from another training: unset HPC_STARTER_PIPE"
    assert f"HPC_STARTER_PIPE={value} {sentence}" in message
