"""Too many, too few, dead or stuck processes: make test."""

import re
import shlex
import socket
import sys

import pytest

from clone import ARGUMENTS_LESSON, ROOT, epochs
from page_rows import advice, shows
from practice_cluster import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=1"]
LASTING = ["--arch=fully_connected", "--max_epochs=500"]


# --- F18: numbers of processes


@pytest.mark.parametrize(
    ("srun", "shape", "sentence"),
    [
        ("-n1", "--devices=2", "2 processes, but srun started 1 on 1 nodes"),
        ("-N2 -n4", "--num_nodes=1 --devices=2", "2 processes, but srun started 4 on 2 nodes"),
        ("-N2 -n2", "--num_nodes=2 --devices=2", "4 processes, but srun started 2 on 2 nodes"),
        ("-N1 -n2", "--num_nodes=2", "2 processes, but srun started 2 on 1 nodes"),
        ("-N2 -n3", "--num_nodes=2 --devices=2", "4 processes, but srun started 3 on 2 nodes"),
        ("-n1 --gres=gpu:1", "--accelerator=gpu", "PyTorch sees no GPU here"),
    ],
)
def test_f18_counts_that_differ_from_srun_are_reported_in_one_sentence(
    login_node, page, srun, shape, sentence
):
    words = ["srun", "--mem=2G", "--kill-on-bad-exit=1", *srun.split()]
    words += [sys.executable, "run.py", "--local", *FAST, *shape.split()]

    done = login_node.clone.run(*words, env=login_node.env, timeout=60)

    assert done.returncode != 0  # 1, or 143 if srun ended this task first
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    page("There is no GPU" if "gpu" in shape else "The counts differ", done.stderr)
    if srun == "-N2 -n2":
        shows("lessons/8", "--num_nodes 2 --devices 2", done.stderr)


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
def test_f18_a_launch_with_wrong_counts_leaves_nothing_behind(login_node, args, sentence):
    done = login_node.launch(*args)

    assert done.returncode != 0
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(login_node.folder.glob("logs/*/*"))
    if sentence == "not submitted: ":
        shows("lessons/8", "not submitted: sbatch: error", done.stderr)
        words = advice("lessons/8", "not submitted: sbatch: error", 'sinfo -o "%P %D %G %c %m"')
        listed = login_node.clone.run(*shlex.split(words), env=login_node.env)
        assert re.fullmatch(r"(\S+ \d+ gpu:\S+ \d+ \d+\n)+", listed.stdout.split("\n", 1)[1])


@pytest.mark.parametrize(
    "options", [["--ntasks-per-node=2"], ["--nodes=2"]], ids=["two tasks", "two nodes"]
)
def test_f18_single_process_lessons_refuse_more_tasks(login_node, page, options):
    job = login_node.submit_run_sh("2-lightning-module", *options)

    login_node.wait(job)

    assert login_node.accounting_state(job) == "FAILED"
    page("The program is a single process", login_node.run_sh_log(job))
    assert "Traceback" not in login_node.run_sh_log(job)


def test_f18_a_single_process_run_py_refuses_more_tasks(login_node):
    login_node.clone.git("switch", "--quiet", "5-improved-logging")

    done = login_node.clone.run(
        *("srun", "--ntasks=2", "--mem=2G", sys.executable, "run.py", "--local"), env=login_node.env
    )

    assert done.returncode == 1
    assert "until lesson 8 the program is a single process: use srun --ntasks=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_f18_matching_counts_train_whichever_option_sets_them(login_node):
    words = ["srun", "--nodes=2", "--ntasks=2", "--mem=4G", "--kill-on-bad-exit=1"]
    words += [sys.executable, "run.py", "--local", "--num_nodes=2", *FAST]

    done = login_node.clone.run(*words, env=login_node.env, timeout=120)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" test loss") == 1
    assert len(list(login_node.folder.glob("logs/cifar10/version_*"))) == 1


# --- F19: no srun


@pytest.mark.parametrize("shape", ["--num_nodes=2", "", "--devices=2"])
def test_f19_a_forgotten_srun_is_reported_in_one_sentence(login_node, page, shape):
    script = f"#!/bin/bash\n{sys.executable} run.py --local {' '.join(FAST)} {shape}\n"
    (login_node.folder / "forgotten.sh").write_text(script)
    options = ["--nodes=2", "--ntasks-per-node=1", "--output=forgotten.out", "--wait"]

    done = login_node.clone.run("sbatch", *options, "forgotten.sh", env=login_node.env, timeout=60)

    assert done.returncode == 1
    log = (login_node.folder / "forgotten.out").read_text()
    (login_node.folder / "forgotten.out").unlink()
    page("srun was forgotten", log)
    shows("lessons/8", "... was started without srun", log)
    assert "Traceback" not in log


def in_shell(login_node, start, command):
    """Type a command in an interactive shell that `start` opens on a node."""
    # script gives srun the terminal that --pty needs
    words = ["script", "-qec", f"{start} --pty bash --norc", "/dev/null"]
    return login_node.clone.run(*words, input=f"{command}; exit\n", env=login_node.env)


@pytest.mark.parametrize(
    "start",
    ["srun --nodes=2 --mem=3G", "salloc --nodes=2 --mem=3G srun --interactive --preserve-env"],
)
def test_f19_a_forgotten_srun_in_a_shell_on_a_node_is_reported(login_node, start):
    command = f"{sys.executable} run.py --local --num_nodes=2"

    done = in_shell(login_node, start, command)

    assert "the job has 2 tasks, but this process was started without srun" in done.stdout
    assert "put srun --overlap before python" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("branch", "start"),
    [
        ("1-simple-model-training", "srun --mem=3G"),
        (ARGUMENTS_LESSON, "srun --mem=3G"),
        (ARGUMENTS_LESSON, "srun --nodes=2 --ntasks-per-node=1 --mem=3G"),
    ],
)
def test_f19_run_sh_shares_the_resources_of_the_shell_that_starts_it(login_node, branch, start):
    login_node.clone.git("switch", "--quiet", branch)

    done = in_shell(login_node, start, f"bash run.sh {' '.join(FAST)}")

    assert done.returncode == 0, done.stdout
    assert len(re.findall("test loss [0-9]", done.stdout)) == 1


def test_f19_ranks_of_another_launcher_do_not_reach_a_job(login_node):
    left_over = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "nosuch"}

    [job] = login_node.launch_jobs("--devices=2", *FAST, **left_over)

    assert login_node.wait(job) == "COMPLETED", login_node.log(job, "err")
    assert login_node.log(job).count("test loss") == 1


# --- F20: a process that is dead or stuck


FAULTS = {
    "killed": ("os.kill(os.getpid(), 9)", "A process was killed"),
    "out of memory": ("hog = b'x' * 3 * 2**30; time.sleep(60)", "The memory was too small"),
    # it stays alive, so that Slurm has no reason to end the other one first
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
def test_f20_the_job_ends_when_a_process_dies(login_node, inject_fault, page, fault):
    statement, heading = FAULTS[fault]
    inject_fault(statement, rank=1)

    [job] = login_node.launch_jobs("--num_nodes=2", "--mem_gb=2", *LASTING)
    log = login_node.wait_for_failure(job, timeout=90)

    page(heading, log)
    assert login_node.sacct(job, "State")[f"{job}.0"]["State"] != "COMPLETED"
    assert "Traceback" not in log


def test_f20_a_process_that_raises_ends_the_job_and_shows_where(login_node, inject_fault):
    inject_fault("raise ValueError('boom')", rank=1)

    [job] = login_node.launch_jobs("--num_nodes=2", *LASTING)
    log = login_node.wait_for_failure(job, timeout=90)

    assert "ValueError: boom" in log
    # either can come first: the end of the connection, or Slurm's signal
    assert re.search("process 0: (another process ended|ended by SIGTERM)", log), log


def test_f20_the_job_ends_when_a_process_is_stuck(login_node, inject_fault, page):
    inject_fault("os.kill(os.getpid(), 19)", rank=1)  # SIGSTOP
    program = login_node.folder / "src/utils/distributed.py"
    minutes, seconds = "minutes=hparams.timeout_min", "seconds=hparams.timeout_min"
    assert minutes in program.read_text()
    program.write_text(program.read_text().replace(minutes, seconds))

    [job] = login_node.launch_jobs("--num_nodes=2", "--timeout_min=30", *LASTING)
    log = login_node.wait_for_failure(job)

    page("A process is stuck", log.replace("30000ms", "60000ms"))  # as after a minute
    assert "Traceback" not in log


@pytest.mark.parametrize("statement", ["os.kill(os.getpid(), 9)", "raise ValueError('boom')"])
def test_f20_no_process_is_left_without_slurm_either(login_node, inject_fault, statement):
    inject_fault(statement, rank=1)

    done = login_node.clone.run(
        *(sys.executable, "run.py", "--local", "--devices=2", *LASTING), timeout=120
    )

    assert done.returncode != 0
    assert "test loss" not in done.stdout
    left = login_node.clone.run("pgrep", "--full", f"{login_node.folder}/run.py").stdout
    assert left == ""


# --- F25: a lost node


def test_f25_a_job_continues_after_its_node_is_lost(login_node, inject_fault, page):
    # the first attempt does not end before Slurm notices the loss
    inject_fault("'SLURM_RESTART_COUNT' in os.environ or time.sleep(600)")
    [job] = login_node.launch_jobs("--num_nodes=2", "--arch=fully_connected", "--max_epochs=5")
    login_node.wait_for_training(job)

    login_node.main.kill("node2")
    wait_until(lambda: login_node.show(job)["Restarts"] == "1", 120, "node2 is lost")
    lost = login_node.run(["sinfo", "-hN", "-n", "node2", "-o", "%T"]).split()[0]
    login_node.main.up()
    state = login_node.wait(job, timeout=240)

    assert lost.startswith("down")
    log = login_node.log(job)
    assert state == "COMPLETED", log + login_node.log(job, "err")
    assert log.count("data: ") == 2
    assert "continues from logs/cifar10/version_0/checkpoints/last.ckpt: step 21" in log
    assert len(epochs(log)) == 5
    assert log.count(" test loss") == 1
    assert len(list(login_node.folder.glob("logs/**/DONE.json"))) == 1
    page("A node was lost", log + login_node.log(job, "err"))


# --- F21: the port


def test_f21_two_trainings_in_one_job_both_finish(login_node):
    step = f"srun --exact --nodes=1 --ntasks=2 --mem=3G {sys.executable} run.py --local"
    step = f"{step} --devices=2 {' '.join(FAST)} --experiment_name"
    script = f"#!/bin/bash\n{step} one &\nfirst=$!\n{step} two &\nwait $!\nwait $first\n"
    (login_node.folder / "two.sh").write_text(script)
    options = ["--nodes=2", "--ntasks-per-node=2", "--mem=6G", "--output=two.out", "--parsable"]

    job = login_node.clone.run("sbatch", *options, "two.sh", env=login_node.env).stdout.strip()
    state = login_node.wait(job, timeout=180)

    log = (login_node.folder / "two.out").read_text()
    assert state == "COMPLETED", log
    assert len(epochs(log)) == 2
    assert len(re.findall(r"^.* INFO test loss", log, re.MULTILINE)) == 2
    steps = login_node.sacct(job, "State,NTasks")
    assert [steps[f"{job}.{number}"]["NTasks"] for number in (0, 1)] == ["2", "2"]


def test_f21_a_port_in_use_is_reported_in_one_sentence(login_node, page):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        env = {**login_node.env, "MASTER_PORT": str(other.getsockname()[1])}
        words = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--mem=3G", "--kill-on-bad-exit=1"]
        done = login_node.clone.run(
            *words, sys.executable, "run.py", "--local", "--devices=2", *FAST, env=env, timeout=120
        )

    assert done.returncode != 0
    page("The port is taken", done.stderr)
    assert "Traceback" not in done.stderr


def test_f21_an_address_left_over_from_another_job_is_reported_at_once(login_node, page):
    # the practice cluster sets the variable in each task, so it is changed after that
    command = f"MASTER_ADDR=nosuch exec {sys.executable} run.py --local --devices=2"
    words = ["srun", "--ntasks=2", "--ntasks-per-node=2", "--mem=3G", "--kill-on-bad-exit=1"]

    done = login_node.clone.run(*words, "bash", "-c", command, env=login_node.env, timeout=120)

    assert done.returncode != 0
    page("A variable is left over", done.stderr)
    assert "Traceback" not in done.stderr


# --- F22: CPUs per task


SCRIPTS = [
    *sorted(ROOT.glob("tests/launch/golden/*.sh")),
    *sorted(ROOT.glob("lessons/*/run.sh")),
    ROOT / "run.sh",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name + path.name)
def test_f22_scripts_tell_srun_the_cpus_per_task(script):
    text = script.read_text()

    before, srun, _ = text.partition("\nsrun ") if "\nsrun " in text else text.partition("  srun ")

    # job_env.sh exports SRUN_CPUS_PER_TASK: see tests/launch/test_job_env.py
    assert srun
    assert "\nsource cluster/job_env.sh\n" in before
