"""Interrupted trainings that cannot or must not continue, without Slurm: make test."""

import os
import re
import shutil

import pytest

from clone import epochs
from page_rows import advice, shows

pytestmark = pytest.mark.slow
BATCHES = 25  # per epoch, at most
SMALL = ["--local", "--dataset=mnist", "--arch=fully_connected", "--no-plots"]
# sends a signal to this process when the training waits for Ctrl-C
SEND = """
import os, signal, threading, time

def send():
    while getattr(signal.getsignal(signal.SIGINT), "__name__", "") != "note":
        time.sleep(0.1)
    os.kill(os.getpid(), signal.NAME)

threading.Thread(target=send, daemon=True).start()
"""


@pytest.fixture(scope="module")
def run_py(module_clone, warm_python):
    """Run run.py of lesson 9; return its exit code and all that it printed."""
    module_clone.git("switch", "--quiet", "9-requeue-and-resume")

    def run(*words, before="", **env):
        done = warm_python.run("run.py", *words, cwd=module_clone.folder, before=before, **env)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def interrupt(run_py):
    """Begin a training, and send it a signal; return its exit code and what it printed."""

    def begin(name):
        before = SEND.replace("NAME", name)
        return run_py(*SMALL, "--max_epochs=500", f"--experiment_name={name}", before=before)

    return begin


@pytest.fixture(scope="module")
def after_ctrl_c(interrupt):
    return interrupt("SIGINT")


FOLDER = "logs/SIGINT/version_0"


def test_ctrl_c_saves_and_the_run_continues(run_py, after_ctrl_c):
    code, printed = after_ctrl_c
    command = advice("lessons/9", "saved at step", "python run.py --resume <folder>")
    words = command.replace("<folder>", FOLDER).split()[2:]
    step = int(re.search(r"saved at step (\d+)", printed)[1])
    more = step // BATCHES + 2  # epochs: the signal may have come after the first one
    resumed, log = run_py(*words, "--local", f"--max_epochs={more}")

    assert code == 130
    assert "Traceback" not in printed
    shows("lessons/9", "saved at step", printed)
    assert resumed == 0, log
    assert re.search(rf"continues from {FOLDER}/checkpoints/last.ckpt: step [1-9]", log)
    assert epochs(log)


def test_without_slurm_a_signal_saves_and_requeues_nothing(run_py, interrupt, page):
    code, printed = interrupt("SIGUSR1")
    command = advice("lessons/9", "SIGUSR1: saved at step", "the command in the message")
    [words] = re.findall(r"to continue: python run.py (.*)", printed)
    resumed, log = run_py(*words.split(), "--local", "--max_epochs=1")

    assert command
    assert code == 1
    shows("lessons/9", "SIGUSR1: saved at step", printed)
    page("The job was not requeued", printed)
    assert resumed == 0, log


def test_a_run_without_a_whole_checkpoint_does_not_continue(
    run_py, after_ctrl_c, module_clone, page
):
    run_py("--local", f"--resume={FOLDER}", "--max_epochs=1")  # if the test above has not run
    checkpoints = module_clone.folder / FOLDER / "checkpoints"
    for name in ("last.ckpt", "previous.ckpt"):
        (checkpoints / name).write_bytes(b"damaged")

    code, printed = run_py("--local", f"--resume={FOLDER}", "--max_epochs=9")
    advice("lessons/9", "no checkpoint of this run", "copy `best.ckpt` to `last.ckpt`")
    shutil.copy(checkpoints / "best.ckpt", checkpoints / "last.ckpt")
    resumed, log = run_py("--local", f"--resume={FOLDER}", "--max_epochs=9")

    assert code == 1
    shows("lessons/9", "no checkpoint of this run", printed)
    page("No checkpoint can be loaded", printed)
    assert resumed == 0, log
    assert epochs(log)


def test_a_run_continues_only_with_its_own_settings(run_py, after_ctrl_c, page):
    code, printed = run_py("--local", f"--resume={FOLDER}", "--optimizer=SGD")
    advice("lessons/9", "... continues with its own", "leave it out")

    assert code == 2
    shows("lessons/9", "... continues with its own", printed)
    page("The arguments contradict the run", printed)


def test_two_jobs_do_not_share_a_folder(run_py, after_ctrl_c, module_clone, tmp_path):
    squeue = tmp_path / "squeue"
    squeue.write_text(f"#!/bin/bash\necho '7|{module_clone.folder}|{FOLDER}'\n")
    squeue.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), *os.get_exec_path()])
    code, printed = run_py("--local", f"--resume={FOLDER}", PATH=path)

    assert code == 1
    shows("lessons/9", "job <job id> already works", printed)
