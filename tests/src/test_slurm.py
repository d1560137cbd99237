"""Where a process stands, told from the variables of real jobs: make test-fast."""

import os
import socket
import subprocess
import sys

import pytest

from programs import LESSON_9
from src.launch.layout import check_tasks
from src.utils.errors import UserError
from src.utils.slurm import (
    LAUNCHERS,
    RANKS,
    current_job,
    forget_other_launchers,
    refuse_other_launchers,
    requeue,
    started_by_srun,
)

ALIVE = str(os.getpid())
# as recorded with Slurm 22.05, without SLURM_
IN_JOB = {"JOB_ID": "5", "JOB_NUM_NODES": "2", "NNODES": "2"}
BATCH = IN_JOB | {
    **{"NTASKS": "2", "PROCID": "0", "NODEID": "0", "LOCALID": "0", "TASK_PID": ALIVE},
}
TASK = BATCH | {
    **{"STEP_ID": "0", "STEP_NUM_NODES": "2", "STEP_NUM_TASKS": "2"},
    **{"STEP_TASKS_PER_NODE": "1(x2)"},
}
# salloc at a site with use_interactive_step
INTERACTIVE = TASK | {
    **{"STEP_ID": "4294967290", "STEP_NUM_NODES": "1", "STEP_NUM_TASKS": "1"},
    **{"STEP_TASKS_PER_NODE": "1", "PTY_PORT": "41673"},
}
PTY = TASK | {"PTY_PORT": "41673", "TASK_PID": "of a shell"}
ENDED = TASK | {"TASK_PID": "999999999"}
SQUEUE = {
    "running": "echo 5 work bash",
    "just ended": "true",
    "long ended": "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
    "no answer": "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "MASTER_")) or name in (*RANKS, *LAUNCHERS):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def shell():
    """The id of a process that leads a process group of its own."""
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield str(process.pid)
    process.kill()
    process.wait()


@pytest.fixture
def stand(monkeypatch, tmp_path, shell):
    """Set the variables of a place in Slurm, and what squeue answers."""

    def stand(variables, answer="running", **others):
        for name, value in variables.items():
            monkeypatch.setenv(f"SLURM_{name}", shell if value == "of a shell" else value)
        for name, value in others.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{SQUEUE[answer]}\n")
        (tmp_path / "squeue").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return stand


def without(variables, *names):
    return {name: value for name, value in variables.items() if name not in names}


# --- started by srun, or not


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (TASK, True),
        (without(TASK, "STEP_NUM_NODES", "STEP_NUM_TASKS", "NNODES"), True),
        (TASK | {"PTY_PORT": "41673"}, True),
        (ENDED, True),  # as in a container with process ids of its own
        (without(TASK, "TASK_PID"), True),
        ({}, False),
        (IN_JOB, False),
        (BATCH, False),
        (PTY, False),
        (INTERACTIVE, False),
        (without(TASK, "JOB_ID"), False),
        (without(TASK, "PROCID"), False),
        (TASK | {"STEP_ID": "x"}, False),
        (TASK | {"JOB_ID": ""}, False),
    ],
    ids=[
        *("task", "older srun", "task with a terminal", "container", "no process id", "no job"),
        *("salloc", "batch script", "shell of srun --pty", "interactive step"),
        *("no job id", "no rank", "not a number", "empty"),
    ],
)
def test_a_task_of_srun_is_told_from_all_of_its_variables(stand, variables, expected):
    stand(variables)

    assert started_by_srun() is expected


@pytest.mark.parametrize(("answer", "ended"), [(name, "ended" in name) for name in SQUEUE])
def test_variables_do_not_outlive_their_job(stand, answer, ended):
    stand(ENDED, answer)

    assert started_by_srun() is not ended
    assert current_job() == (None if ended else "5")


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        (IN_JOB, "the job has 2 tasks, but this process was started without srun: put srun before"),
        (BATCH, "the job has 2 tasks, but this process was started without srun: put srun before"),
        (PTY, "the job has 2 tasks, but this process was started without srun: put srun --overlap"),
        (INTERACTIVE, "started without srun: put srun --overlap before python"),
        (IN_JOB | {"NTASKS": "x"}, "the job has 2 tasks, but"),
        (without(TASK, "JOB_ID"), "--num_nodes 2 needs a Slurm job; here, use --num_nodes 1"),
        (TASK | {"STEP_TASKS_PER_NODE": "2,1"}, "srun distributed them across the nodes as 2,1"),
        (TASK | {"NTASKS": "3"}, "but srun started 3 on 2 nodes: request --nodes=2"),
    ],
)
def test_two_nodes_are_refused_with_the_remedy_of_the_place(stand, variables, sentence):
    stand(variables)

    with pytest.raises(UserError) as error:
        check_tasks(2, 1)

    assert sentence in str(error.value)


@pytest.mark.parametrize("missing", [[], ["STEP_NUM_NODES", "STEP_NUM_TASKS"], ["NNODES"]])
def test_counts_that_match_are_accepted_from_every_version_of_srun(stand, missing):
    stand(without(TASK, *missing))

    check_tasks(2, 1)

    assert os.environ["SLURM_NTASKS_PER_NODE"] == "1"


def test_one_process_needs_no_srun(stand):
    stand(PTY | {"NTASKS": "1"})

    check_tasks(1, 1)


# --- variables of other launchers


def test_variables_of_other_launchers_are_forgotten(stand):
    stand({"PROCID": "1", "NTASKS": "4"}, **dict.fromkeys(RANKS, "1"))

    forget_other_launchers()

    assert not {*RANKS, "SLURM_PROCID", "SLURM_NTASKS"} & os.environ.keys()


def test_a_task_of_srun_keeps_its_rank(stand):
    stand(TASK | {"PROCID": "1"}, RANK="0", LOCAL_RANK="0")

    forget_other_launchers()

    assert os.environ["SLURM_PROCID"] == "1"
    assert not set(RANKS) & os.environ.keys()


@pytest.mark.parametrize("name", LAUNCHERS)
def test_a_process_of_another_launcher_is_refused(stand, name):
    stand({}, **{name: "2"})

    with pytest.raises(UserError) as error:
        refuse_other_launchers()

    assert str(error.value).startswith(f"{name}=2: {LAUNCHERS[name]} cannot start this program")
    assert f"or unset {name}" in str(error.value)


# --- the address of process 0


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ("MASTER_ADDR=no.such.host.invalid", "is not an address of the node of process 0 ("),
        ("MASTER_ADDR=203.0.113.1", "is not an address of the node of process 0 ("),
        ("MASTER_ADDR=", "is not an address of the node of process 0 ("),
        (f"MASTER_ADDR={'a' * 70}", "is not an address of the node of process 0 ("),
        ("MASTER_PORT=x", "is not the number of a port"),
        ("MASTER_PORT=0", "is not the number of a port"),
        ("MASTER_PORT=65536", "is not the number of a port"),
        ("MASTER_PORT=", "is not the number of a port"),
    ],
)
def test_an_address_that_cannot_be_right_is_named_before_anybody_waits(stand, variable, why):
    name, _, value = variable.partition("=")
    stand(TASK, **{name: value})

    with pytest.raises(UserError) as error:
        check_tasks(2, 1)

    assert str(error.value).startswith(f"{variable} {why}")
    assert str(error.value).endswith(f": unset {name}")


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost"])
def test_an_address_of_this_node_is_accepted(stand, address):
    stand(TASK, MASTER_ADDR=address, MASTER_PORT="23456")

    check_tasks(2, 1)


def test_process_0_may_be_on_another_node(stand, monkeypatch):
    stand(TASK | {"PROCID": "1"}, MASTER_ADDR="node1")
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)

    check_tasks(2, 1)


def test_the_first_node_of_the_step_is_the_address_by_default(stand):
    step = TASK | {"NODELIST": "node[1-3]", "STEP_NODELIST": "node[2-3]", "NTASKS_PER_NODE": "1"}
    stand(step)
    program = "from src.utils.distributed import environment; print(environment().main_address)"

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=LESSON_9, capture_output=True, text=True, check=True
    )

    assert done.stdout == "node2\n"


@pytest.mark.parametrize(
    ("scontrol", "why"),
    [
        ("exit 0", ""),
        # Slurm ends all processes of the job, sometimes before scontrol has ended by itself
        ("kill -TERM $$", ""),
        ("echo Invalid job id >&2; exit 1", "scontrol requeue 5: Invalid job id"),
        ("kill -KILL $$", "scontrol requeue 5: "),
    ],
)
def test_a_requeue_that_ends_its_own_scontrol_is_no_failure(stand, tmp_path, scontrol, why):
    stand(TASK)
    (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{scontrol}\n")
    (tmp_path / "scontrol").chmod(0o755)

    assert requeue() == why
