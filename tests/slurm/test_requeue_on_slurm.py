"""Lesson 9 on two nodes: interrupted jobs take the same steps as one that is not: make test."""

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from clone import ARGUMENTS_LESSON, EPOCH_LINE, TEST_LINE
from practice_cluster import FINISHED, wait_until
from processes import with_variables

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

PATIENCE = 300  # seconds for what takes ten on an idle machine
STEPS = 45  # three epochs of 1350 images, 90 per step
SETTINGS = ["--arch=fully_connected", "--max_epochs=3", "--batch_size=90", "--no-plots"]
TWO_NODES = [*SETTINGS, "--num_nodes=2", "--mem_gb=2"]
ONE = [*SETTINGS, "--mem_gb=2"]
# notes what each step has used and computed; PAUSES makes the steps of each attempt longer, and
# SIGNALS lets the last rank signal itself, such as USR1@9, or USR1@9+0.2 some time after step 9
TRACE = r"""
import json, os, re, signal, threading, time
import lightning as L
from torch.nn.functional import dropout

class Trace(L.Callback):
    def __init__(self, folder):
        self.folder = folder
        self.attempt = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        pauses = os.environ.get("PAUSES", "0").split()
        self.pause = float(pauses[min(self.attempt, len(pauses) - 1)])

    def setup(self, trainer, pl_module, stage):
        if stage == "fit":
            pl_module.network.register_forward_hook(
                lambda network, _, output: dropout(output, 0.1, network.training))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        images, labels = batch
        step = [trainer.global_step, labels.tolist(), images.sum().item(), outputs["loss"].item()]
        with open(self.folder / f"trace-{trainer.global_rank}.jsonl", "a") as file:
            file.write(json.dumps([self.attempt, os.getpid(), step]) + "\n")
        time.sleep(self.pause)
        self.cut(trainer, trainer.global_step)

    def on_validation_batch_end(self, trainer, *_):
        if not trainer.sanity_checking:
            self.cut(trainer, "validation")

    def cut(self, trainer, moment):
        for cut in os.environ.get("SIGNALS", "").split():
            name, chosen, delay = re.fullmatch(r"(\w+)@(\w+)([+][\d.]+)?", cut).groups()
            if chosen == str(moment) and trainer.global_rank == trainer.world_size - 1:
                words = [os.getpid(), signal.Signals[f"SIG{name}"]]
                threading.Timer(float(delay), os.kill, words).start() if delay else os.kill(*words)
"""
# all programs of this machine but scontrol
SITE = """
if [ -n "${NO_SCONTROL:-}" ]; then
    mkdir -p bin
    ln -sf /usr/bin/* /bin/* bin/
    rm bin/scontrol
    PATH=$PWD/bin
fi
"""


@dataclass
class Run:
    job: str
    folder: Path
    log: Path

    def trace(self, rank=0):
        path = self.folder / f"trace-{rank}.jsonl"
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line[-1] == "\n"]

    def steps(self, rank=0):
        return [step for _, _, step in self.trace(rank)]

    def steps_of(self, attempt, rank=0):
        return [step for number, _, step in self.trace(rank) if number == attempt]

    def results(self):
        """Return the numbers of the epoch lines and of the test line."""
        log = self.log.read_text()
        return EPOCH_LINE.findall(log), TEST_LINE.findall(log)

    def scalars(self):
        """Return tag -> steps and values, as TensorBoard shows them.

        Lightning writes the epoch twice, with the results of training and of validation.
        """
        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 0}).Reload()
        tags = set(events.Tags()["scalars"]) - {"epoch"}
        return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}

    def attempts(self):
        path = self.folder / "attempts.jsonl"
        return [json.loads(line) for line in path.open()] if path.exists() else []

    def has_checkpoint(self):
        return any(attempt["to_step"] for attempt in self.attempts())

    def errors(self):
        return (self.folder / "job.err").read_text()


@pytest.fixture(scope="module")
def node(module_login_node):
    """A login node of lesson 9, where each training notes its steps."""
    clone = module_login_node.folder
    module_login_node.clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    (clone / "src/callbacks/trace.py").write_text(TRACE)
    main = clone / "src/main.py"
    text = main.read_text()
    assert "            CleanStart(),\n" in text
    text = text.replace("            CleanStart(),\n", "            Trace(run_folder(hparams)),\n"
                        "            CleanStart(),\n")  # fmt: skip
    main.write_text(f"from src.callbacks.trace import Trace\n{text}")
    (clone / "site.sh").write_text(SITE)
    ended = threading.Event()
    helper = threading.Thread(target=start_requeued_jobs, args=(module_login_node, ended))
    helper.start()
    yield module_login_node
    ended.set()
    helper.join()


def start_requeued_jobs(node, ended):
    """Start jobs that Slurm holds for two minutes, until the tests have ended."""
    command = ["squeue", "--noheader", "--states=PENDING", "--format=%A %r"]
    while not ended.wait(6):
        with suppress(AssertionError, subprocess.TimeoutExpired):  # the controller was busy
            rows = [line.split() for line in node.run(command).splitlines()]
            for job in [job for job, reason in rows if reason == "BeginTime"]:
                node.start_soon(job)


def launch(node, name, *args, **env):
    [job] = node.launch_jobs(f"--experiment_name={name}", *args, **env)
    folder = node.folder / f"logs/{name}/version_0"
    return Run(job, folder, folder / "job.out")


def wait_for_restart(node, run, times):
    restarted = f"job {run.job} requeued {times} times"

    def has_restarted():
        return node.show(run.job)["Restarts"] == str(times)

    wait_until(has_restarted, PATIENCE, restarted, lambda: node.explain(run.job))


def wait_for_step(node, run, step, rank=0):
    done = f"job {run.job} at step {step}"

    def has_done():
        return any(s[0] >= step for s in run.steps(rank))

    wait_until(has_done, PATIENCE, done, lambda: node.explain(run.job))


def finish(node, job, timeout=PATIENCE):
    """Wait for the end of a job, and return its state in the accounting."""
    what = f"job {job} finished"
    wait_until(lambda: node.state_of(job) in FINISHED, timeout, what, lambda: node.explain(job))
    return node.accounting_state(job)


def assert_complete(node, run, whole, ranks=2):
    """Check that an interrupted run has done what the other one did, and each thing once."""
    state = finish(node, run.job)
    assert state == "COMPLETED", run.log.read_text() + run.errors()
    for rank in range(ranks):
        assert run.steps(rank) == whole.steps(rank)
    assert len(run.results()[0]) == 3
    assert run.results() == whole.results()
    assert json.loads((run.folder / "DONE.json").read_text())["steps"] == STEPS
    assert [path.name for path in run.folder.parent.iterdir()] == [run.folder.name]
    scalars = run.scalars()
    assert scalars == whole.scalars()
    assert all(a < b for rows in scalars.values() for (a, _), (b, _) in pairwise(rows))


def assert_attempts(run, number):
    """Check that attempts.jsonl and the log tell of each attempt."""
    attempts = run.attempts()
    ends = [run.steps_of(attempt)[-1][0] for attempt in range(number)]
    assert [attempt["restart"] for attempt in attempts] == list(range(number))
    assert [attempt["from_step"] for attempt in attempts] == [0, *ends[:-1]]
    assert [attempt["to_step"] for attempt in attempts] == ends
    assert all(attempt["ended"].endswith("; requeued") for attempt in attempts[:-1])
    assert attempts[-1]["ended"] == "finished"
    log = run.log.read_text()
    assert log.count("INFO processes: ") == number
    for end in ends[:-1]:
        assert f": saved at step {end}, and requeued" in log


@pytest.fixture(scope="module")
def launched(node):
    """Runs that signal themselves; they go on while other tests wait."""
    # two ranks look for signals about once a second: steps must not be too fast
    twice, workers = "USR1@9 USR1@21", ["--num_workers=2", "--signal=USR2"]
    bounded = [*TWO_NODES, "--max_requeues=1"]
    return {
        "usr2": launch(node, "usr2", *TWO_NODES, *workers, SIGNALS="USR2@20", PAUSES="0.15 0"),
        "bounded": launch(node, "bounded", *bounded, SIGNALS=twice, PAUSES="0.15"),
        "no_scontrol": launch(node, "no_scontrol", *ONE, SIGNALS="USR1@20", NO_SCONTROL="1"),
        "no_gain": launch(node, "no_gain", *ONE, SIGNALS="USR1@validation"),
    }


@pytest.fixture(scope="module")
def whole(node):
    """A run that is not interrupted."""
    run = launch(node, "whole", *TWO_NODES)
    assert finish(node, run.job) == "COMPLETED", run.errors()
    assert [step[0] for step in run.steps()] == list(range(1, STEPS + 1))
    assert run.steps(1) != run.steps(0)
    return run


def notes_signals(pid):
    """Tell whether a process notes USR1."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return bool(int(caught, 16) >> (signal.SIGUSR1 - 1) & 1)


def have_armed(run, number):
    tasks = list(with_variables(f"SLURM_JOB_ID={run.job}", "SLURM_STEP_ID=0"))
    return len(tasks) == number and all(notes_signals(pid) for pid in tasks)


def send(node, run, where):
    if where == "job":
        node.run(["scancel", "--signal=USR1", run.job])
    else:
        os.kill(run.trace(rank=1)[-1][1], signal.SIGUSR1)


def random_signal(node, run, attempt, where, latest):
    """Send the signal at a random moment of an attempt, while enough steps are left to see it."""
    first = run.steps()[-1][0] if run.steps() else 0
    assert first < latest
    moment = random.uniform(first + 1, latest)
    wait_for_step(node, run, int(moment), rank=1)
    time.sleep(moment % 1 * 0.2)
    print(f"attempt {attempt}: USR1 to the {where} at step {moment}")
    send(node, run, where)


@pytest.mark.usefixtures("launched")
def test_a_job_that_is_signalled_three_times_takes_the_same_steps(node, whole):
    run = launch(node, "signals", *TWO_NODES, PAUSES="0.3")
    # while Python imports PyTorch
    wait_until(lambda: have_armed(run, 2), PATIENCE, "both processes note signals")
    send(node, run, "job")
    comment = node.run(["squeue", f"--jobs={run.job}", "--noheader", "--format=%k"])
    wait_for_restart(node, run, 1)
    # the ranks look about once a second: at 0.3 s a step, at most six steps later
    for attempt, (where, latest) in enumerate({"job": STEPS // 3, "rank": STEPS // 1.5}.items(), 1):
        random_signal(node, run, attempt, where, latest)
        wait_for_restart(node, run, attempt + 1)

    assert_complete(node, run, whole)

    assert_attempts(run, 4)
    assert node.folder / comment.strip() == run.folder


def test_another_signal_and_workers_that_load_the_data_change_nothing(node, launched, whole):
    assert_complete(node, launched["usr2"], whole)

    assert_attempts(launched["usr2"], 2)
    assert len(launched["usr2"].steps_of(0)) >= 20


def test_a_job_is_requeued_before_its_time_limit(node, whole):
    run = launch(node, "limit", *TWO_NODES, PAUSES="2 0")
    wait_for_step(node, run, 3)
    # not a job of one minute, which an import on a busy machine may fill
    hours, minutes, _ = node.show(run.job)["RunTime"].split(":")
    soon = int(hours) * 60 + int(minutes) + 2
    node.run(["scontrol", "update", f"jobid={run.job}", f"TimeLimit={soon}"])
    wait_for_restart(node, run, 1)
    node.run(["scontrol", "update", f"jobid={run.job}", "TimeLimit=60"])

    assert_complete(node, run, whole)
    assert_attempts(run, 2)
    assert run.attempts()[0]["ended"] == "SIGUSR1; requeued"


def test_a_preempted_job_continues_after_the_urgent_one(node, whole):
    run = launch(node, "preempted", *TWO_NODES, PAUSES="0.5 0")
    wait_for_step(node, run, 5)

    script = "#!/bin/bash\n"
    urgent = node.submit(script, "--partition=urgent", "--nodelist=node2", "--exclusive",
                         cwd=node.folder.parent)  # fmt: skip
    assert finish(node, urgent) == "COMPLETED"

    assert_complete(node, run, whole)
    assert_attempts(run, 2)


def test_a_job_whose_node_is_lost_continues_from_its_last_checkpoint(node, whole):
    shape = ["--devices=2", "--mem_gb=4", "--checkpoint_min=0.02"]
    run = launch(node, "lost", *SETTINGS, *shape, "--", "--nodelist=node2", PAUSES="0.3 0")
    wait_until(run.has_checkpoint, PATIENCE, "a checkpoint")
    wait_for_step(node, run, run.attempts()[-1]["to_step"] + 2)

    node.kill("node2")
    for pid in with_variables(f"SLURM_JOB_ID={run.job}"):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for_restart(node, run, 1)
    node.up()
    state = finish(node, run.job)

    assert state == "COMPLETED", run.log.read_text() + run.errors()
    [first, second] = run.attempts()
    assert first["ended"] == "without notice: see sacct"
    assert 0 < first["to_step"] == second["from_step"]
    for rank in range(2):
        before, after = run.steps_of(0, rank), run.steps_of(1, rank)
        assert before == whole.steps(rank)[: len(before)]
        assert after == whole.steps(rank)[first["to_step"] :]
    assert run.scalars() == whole.scalars()
    assert run.results()[0][-1] == whole.results()[0][-1]
    assert run.results()[1] == whole.results()[1]


def refused(node, run, restarts):
    """Return what a job says that ends without being requeued again."""
    assert finish(node, run.job) == "FAILED", run.log.read_text()
    job = node.show(run.job)
    assert (job["ExitCode"], job["Restarts"]) == ("1:0", str(restarts))
    assert "Traceback" not in run.errors()
    said = [line for line in run.errors().splitlines() if "not requeued" in line]
    assert len(said) == 1
    name = run.folder.parent.name
    assert said[0].endswith(f"to continue: python run.py --resume logs/{name}/version_0")
    assert not (run.folder / "DONE.json").exists()
    return said[0]


def test_a_job_is_requeued_only_as_often_as_allowed_and_can_be_resumed(node, launched, whole):
    run = launched["bounded"]
    said = refused(node, run, 1)

    ends = [attempt["to_step"] for attempt in run.attempts()]
    assert 9 <= ends[0] < 21 <= ends[1]
    reason = "it has been requeued 1 times, see --max_requeues"
    assert f"saved at step {ends[1]}, but not requeued: {reason}" in said
    [resumed] = node.launch_jobs(f"--resume={run.folder}", SIGNALS="")
    run = Run(resumed, run.folder, run.log)
    assert_complete(node, run, whole)
    assert [attempt["from_step"] for attempt in run.attempts()] == [0, *ends]
    assert run.attempts()[-1]["job"] == resumed


def test_a_node_without_scontrol_cannot_requeue_but_the_run_can_be_resumed(node, launched):
    run = launched["no_scontrol"]
    said = refused(node, run, 0)

    assert "SIGUSR1: saved at step 20, but not requeued: this node has no scontrol" in said
    done = node.launch("--local", f"--resume={run.folder}", SIGNALS="")
    assert done.returncode == 0, done.stderr
    assert [attempt["from_step"] for attempt in run.attempts()] == [0, 20]
    assert [step[0] for step in run.steps()] == list(range(1, STEPS + 1))
    assert json.loads((run.folder / "DONE.json").read_text())["steps"] == STEPS


def test_an_attempt_that_gains_no_step_is_not_requeued(node, launched):
    run = launched["no_gain"]
    said = refused(node, run, 1)

    assert "saved at step 15, but not requeued: this attempt has gained no step" in said
    assert [attempt["from_step"] for attempt in run.attempts()] == [0, 15]


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "job.out"
    }


def test_a_finished_run_that_is_submitted_again_says_so_and_changes_nothing(node, whole):
    before = contents(whole.folder)

    job = node.submit(whole.folder / "job.sh", cwd=node.folder)

    assert finish(node, job) == "COMPLETED"
    assert node.show(job)["ExitCode"] == "0:0"
    assert contents(whole.folder) == before
    last = whole.log.read_text().splitlines()[-1]
    done = "logs/whole/version_0/DONE.json"
    assert last == f"logs/whole/version_0 is finished, see {done}: nothing to do"


def test_a_cancelled_job_keeps_its_checkpoint_and_looks_unfinished(node):
    run = launch(node, "cancelled", *ONE, "--checkpoint_min=0.02", PAUSES="0.3")
    wait_until(run.has_checkpoint, PATIENCE, "a checkpoint")

    node.run(["scancel", run.job])

    assert finish(node, run.job) == "CANCELLED"
    last = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)
    assert 0 < last["global_step"] <= run.steps()[-1][0]
    assert not (run.folder / "DONE.json").exists()


def test_in_an_array_only_the_task_that_is_signalled_starts_again(node):
    shape = ["--array=1-3", "--nodes=1", "--ntasks-per-node=1", "--mem=2G"]
    command = ["env", "PAUSES=0.2 0", "sbatch", "--parsable", *shape, "run.sh", *SETTINGS]
    array = node.run(command, cwd=node.folder).strip()
    runs = {}
    for task in (1, 2, 3):
        job = f"{array}_{task}"
        node.wait_for_state(job, "RUNNING", PATIENCE)
        number = node.show(job)["JobId"]
        folder = node.folder / f"logs/sbatch/cifar10/version_{number}"
        runs[task] = Run(job, folder, node.folder / f"slurm.{number}.out")
    wait_for_step(node, runs[2], 5)

    node.run(["scancel", "--signal=USR1", runs[2].job])

    assert {finish(node, run.job) for run in runs.values()} == {"COMPLETED"}
    restarts = [node.show(run.job)["Restarts"] for run in runs.values()]
    assert restarts == ["0", "1", "0"]
    assert runs[2].steps() == runs[1].steps() == runs[3].steps()
    assert runs[2].results() == runs[1].results()
    assert_attempts(runs[2], 2)


@pytest.mark.long
def test_a_job_outlives_two_time_limits(node, whole):
    shape = [*TWO_NODES, "--time_min=1", "--max_requeues=100"]  # on a busy machine it needs more
    run = launch(node, "limits", *shape, PAUSES="3 3 0")

    finish(node, run.job, 1200)
    assert_complete(node, run, whole)
    assert_attempts(run, len(run.attempts()))
    assert len(run.attempts()) >= 3


@pytest.mark.long
def test_twenty_signals_at_random_moments_requeue_twenty_times(node):
    shape = [*TWO_NODES, "--max_epochs=8"]
    whole = launch(node, "long", *shape)
    runs = {}
    for number in range(4):
        steps = [24 * k + random.randint(1, 13) for k in range(5)]
        signals = " ".join(f"USR1@{step}+{random.uniform(0.001, 0.3):.3f}" for step in steps)
        run = launch(node, f"random{number}", *shape, PAUSES="0.1", SIGNALS=signals)
        runs[signals] = run

    for run in (whole, *runs.values()):
        assert finish(node, run.job, 1200) == "COMPLETED", run.errors()
    for signals, run in runs.items():
        print(signals, run.attempts(), sep="\n")

    assert [node.show(run.job)["Restarts"] for run in runs.values()] == ["5"] * 4
    for run in runs.values():
        assert_attempts(run, 6)
        for rank in range(2):
            assert run.steps(rank) == whole.steps(rank)
        assert run.results() == whole.results()
        assert run.scalars() == whole.scalars()
