"""Processes that are too many, too few, dead or stuck: make test."""

import re
import socket
import sys

import pytest
from course import ROOT, epochs
from practice import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=1"]
LASTING = ["--arch=fully_connected", "--max_epochs=500"]


# --- F18: counts


@pytest.mark.parametrize(
    ("srun", "shape", "sentence"),
    [
        ("-n1", "--devices=2", "make 2 processes, but srun started 1 on 1 nodes"),
        ("-N2 -n4", "--num_nodes=1 --devices=2", "make 2 processes, but srun started 4 on 2 nodes"),
        ("-N2 -n2", "--num_nodes=2 --devices=2", "make 4 processes, but srun started 2 on 2 nodes"),
        ("-N1 -n2", "--num_nodes=2", "make 2 processes, but srun started 2 on 1 nodes"),
        ("-N2 -n3", "--num_nodes=2 --devices=2", "make 4 processes, but srun started 3 on 2 nodes"),
        ("-n1 --gres=gpu:1", "--accelerator=gpu", "PyTorch sees no NVIDIA GPU here"),
    ],
)
def test_f18_counts_that_differ_from_those_of_srun_are_one_sentence(
    desk, page, srun, shape, sentence
):
    words = ["srun", "--mem=2G", "--kill-on-bad-exit=1", *srun.split()]
    words += [sys.executable, "run.py", "--local", *FAST, *shape.split()]

    done = desk.clone.run(*words, env=desk.env, timeout=60)

    assert done.returncode != 0  # 1, or 143 where the other tasks were ended first
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    page("There is no GPU" if "gpu" in shape else "The counts differ", done.stderr)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--num_nodes=4"], "not submitted: "),
        (["--devices=2", "--accelerator=gpu", "--num_nodes=4"], "not submitted: "),
        (["--devices=4", "--accelerator=gpu"], "not submitted: "),
        (["--batch_size=256", "--devices=3"], "try 255 or 258"),
        (["--num_nodes=2", "--local"], "--num_nodes 2 needs a Slurm job"),
    ],
)
def test_f18_a_launch_with_wrong_counts_leaves_nothing_behind(desk, args, sentence):
    done = desk.launch(*args)

    assert done.returncode != 0
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(desk.folder.glob("logs/*/slurm_scripts/*"))
    assert not list(desk.folder.glob("logs/*/version_*"))


@pytest.mark.parametrize(
    "options", [["--ntasks-per-node=2"], ["--nodes=2"]], ids=["two tasks", "two nodes"]
)
def test_f18_lessons_of_one_process_refuse_more(desk, page, options):
    job = desk.submit_run_sh("2-lightning-module", *options)

    desk.wait(job)

    assert desk.accounted(job) == "FAILED"
    page("The program is a single process", desk.run_sh_log(job))
    assert "Traceback" not in desk.run_sh_log(job)


def test_f18_a_launcher_of_one_process_refuses_more(desk):
    desk.clone.git("switch", "--quiet", "5-improved-logging")

    done = desk.clone.run(
        *("srun", "--ntasks=2", "--mem=2G", sys.executable, "run.py", "--local"), env=desk.env
    )

    assert done.returncode == 1
    assert "this is a single process until lesson 8: call srun with --ntasks=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_f18_counts_that_fit_train_whichever_option_named_them(desk):
    words = ["srun", "--nodes=2", "--ntasks=2", "--mem=4G", "--kill-on-bad-exit=1"]
    words += [sys.executable, "run.py", "--local", "--num_nodes=2", *FAST]

    done = desk.clone.run(*words, env=desk.env, timeout=120)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" test loss") == 1
    assert len(list(desk.folder.glob("logs/cifar10/version_*"))) == 1


# --- F19: no srun


@pytest.mark.parametrize("shape", ["--num_nodes=2", "", "--devices=2"])
def test_f19_a_forgotten_srun_is_one_sentence(desk, page, shape):
    script = f"#!/bin/bash\n{sys.executable} run.py --local {' '.join(FAST)} {shape}\n"
    (desk.folder / "forgotten.sh").write_text(script)
    options = ["--nodes=2", "--ntasks-per-node=1", "--output=forgotten.out", "--wait"]

    done = desk.clone.run("sbatch", *options, "forgotten.sh", env=desk.env, timeout=60)

    assert done.returncode == 1
    log = (desk.folder / "forgotten.out").read_text()
    (desk.folder / "forgotten.out").unlink()
    page("srun was forgotten", log)
    assert "Traceback" not in log


# --- F20: a process that is dead or stuck


FAULTS = {
    "killed": ("os.kill(os.getpid(), 9)", "A process was killed"),
    "out of memory": ("hog = b'x' * 3 * 2**30; time.sleep(60)", "The memory was too small"),
    # it lives on, so that Slurm has no reason to end the other one first
    "disconnected": (
        "import contextlib, glob, socket\n"
        "            for fd in glob.glob('/proc/self/fd/*'):\n"
        "                with contextlib.suppress(OSError):\n"
        "                    link = socket.socket(fileno=os.dup(int(fd[14:])))\n"
        "                    if not link.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):\n"
        "                        link.shutdown(socket.SHUT_RDWR)\n"
        "            time.sleep(60)",
        "Another process has ended",
    ),
    "ended by SIGTERM": ("os.kill(os.getpid(), 15)", "A process was ended by SIGTERM"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_f20_the_job_ends_with_a_process_that_dies(desk, plant, page, fault):
    statement, heading = FAULTS[fault]
    plant(statement, rank=1)

    [job] = desk.launched("--num_nodes=2", "--mem_gb=2", *LASTING)
    log = desk.failed(job, timeout=90)

    page(heading, log)
    assert desk.sacct(job, "State")[f"{job}.0"]["State"] != "COMPLETED"
    assert "Traceback" not in log


def test_f20_a_process_that_raises_ends_the_job_and_says_where(desk, plant):
    plant("raise ValueError('boom')", rank=1)

    [job] = desk.launched("--num_nodes=2", *LASTING)
    log = desk.failed(job, timeout=90)

    assert "ValueError: boom" in log
    # whichever comes first: the end of the connection, or Slurm's signal
    assert re.search("process 0: (another process ended|ended by SIGTERM)", log), log


def test_f20_the_job_ends_with_a_process_that_is_stuck(desk, plant, page):
    plant("os.kill(os.getpid(), 19)", rank=1)  # SIGSTOP

    [job] = desk.launched("--num_nodes=2", "--timeout_min=1", *LASTING)
    log = desk.failed(job, timeout=150)

    page("A process is stuck", log)
    assert "Traceback" not in log


@pytest.mark.parametrize("statement", ["os.kill(os.getpid(), 9)", "raise ValueError('boom')"])
def test_f20_without_slurm_too_no_process_is_left(desk, plant, statement):
    plant(statement, rank=1)

    done = desk.clone.run(
        *(sys.executable, "run.py", "--local", "--devices=2", *LASTING), timeout=120
    )

    assert done.returncode != 0
    assert "test loss" not in done.stdout
    left = desk.clone.run("pgrep", "--full", f"{desk.folder}/run.py").stdout
    assert left == ""


# --- F25: a node that is lost


def test_f25_a_job_whose_node_was_lost_starts_again(desk, page):
    [job] = desk.launched("--num_nodes=2", "--arch=fully_connected", "--max_epochs=100")
    desk.wait_for_training(job)

    desk.main.kill("node2")
    wait_until(lambda: desk.show(job)["Restarts"] == "1", 120, "node2 is lost")
    desk.main.up()
    state = desk.wait(job, timeout=240)

    log = desk.log(job)
    assert state == "COMPLETED", log + desk.log(job, "err")
    assert log.count("epoch  1/") == log.count("data: ") == 2
    assert log.count(" test loss") == 1
    assert len(list(desk.folder.glob("logs/**/DONE.json"))) == 1
    page("A node was lost", log + desk.log(job, "err"))


# --- F21: the port


def test_f21_two_trainings_in_one_job_both_finish(desk):
    step = f"srun --exact --nodes=1 --ntasks=2 --mem=3G {sys.executable} run.py --local"
    step = f"{step} --devices=2 {' '.join(FAST)} --experiment_name"
    script = f"#!/bin/bash\n{step} one &\nfirst=$!\n{step} two &\nwait $!\nwait $first\n"
    (desk.folder / "two.sh").write_text(script)
    options = ["--nodes=2", "--ntasks-per-node=2", "--mem=6G", "--output=two.out", "--parsable"]

    job = desk.clone.run("sbatch", *options, "two.sh", env=desk.env).stdout.strip()
    state = desk.wait(job, timeout=180)

    log = (desk.folder / "two.out").read_text()
    assert state == "COMPLETED", log
    assert len(epochs(log)) == 2
    assert len(re.findall(r"^.* INFO test loss", log, re.MULTILINE)) == 2
    steps = desk.sacct(job, "State,NTasks")
    assert [steps[f"{job}.{number}"]["NTasks"] for number in (0, 1)] == ["2", "2"]


def test_f21_a_port_that_is_taken_is_one_sentence(desk, page):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        env = {**desk.env, "MASTER_PORT": str(other.getsockname()[1])}
        words = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--mem=3G", "--kill-on-bad-exit=1"]
        done = desk.clone.run(
            *words, sys.executable, "run.py", "--local", "--devices=2", *FAST, env=env, timeout=120
        )

    assert done.returncode != 0
    page("The port is taken", done.stderr)
    assert "Traceback" not in done.stderr


# --- F22: CPUs of each task


SCRIPTS = [
    *sorted(ROOT.glob("tests/golden/*.sh")),
    *sorted(ROOT.glob("lessons/*/run.sh")),
    ROOT / "run.sh",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name + path.name)
def test_f22_srun_learns_how_many_cpus_each_task_has(script):
    text = script.read_text()

    before, srun, _ = text.partition("\nsrun ") if "\nsrun " in text else text.partition("  srun ")

    assert srun
    assert re.search(r'^ *export SRUN_CPUS_PER_TASK="\$\{?SLURM_CPUS_PER_TASK', before, re.M)
