"""run.py of lessons 4 and later on the practice cluster: make test."""

import re
import shutil
import sys

import pytest

from clone import ROOT, epochs, final_accuracy
from log_lines import unexpected_lines
from login_node import WRAPPERS

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

BRANCHES = [path.stem for path in sorted((ROOT / "lessons").glob("[4-9]-*.txt"))]
# the last lesson on MNIST, which a job learns in seconds
NEWEST = BRANCHES[1]


@pytest.fixture
def login_node(module_login_node):
    module_login_node.clone.git("switch", "--quiet", NEWEST)
    shutil.rmtree(module_login_node.clone.folder / "logs", ignore_errors=True)
    return module_login_node


@pytest.mark.parametrize("branch", BRANCHES)
def test_run_py_submits_a_job_that_trains_to_the_end(module_login_node, branch):
    module_login_node.clone.git("switch", "--quiet", branch)
    shutil.rmtree(module_login_node.folder / "logs", ignore_errors=True)

    # a ResNet takes long: make docs trains it for ten epochs
    is_resnet = branch.startswith("7")
    arguments = ["--arch=fully_connected"] if branch > "8" else []
    num_epochs = 2 if is_resnet else 10
    [job] = module_login_node.launch_jobs(f"--max_epochs={num_epochs}", *arguments)
    state = module_login_node.wait(job, timeout=400)

    log = module_login_node.log(job)
    assert state == "COMPLETED", log + module_login_node.log(job, "err")
    assert unexpected_lines(log) == []
    assert module_login_node.log(job, "err") == ""
    assert len(epochs(log)) == num_epochs
    on_mnist = branch < "6"
    # the CIFAR-10 sample is hard: chance is 0.1, and lesson 6 has no convolutions yet
    assert final_accuracy(log) > (0.9 if on_mnist else 0.15)
    logs = module_login_node.folder / f"logs/{'mnist' if on_mnist else 'cifar10'}"
    folders = {"slurm_out_logs", "slurm_err_logs", "slurm_scripts"} if branch < "9" else set()
    assert {path.name for path in logs.iterdir()} == {*folders, "version_0"}
    assert list(logs.glob("version_0/checkpoints/*.ckpt"))
    assert list(logs.glob("version_0/events.out.tfevents.*"))


def test_a_second_launch_has_its_own_folders(login_node):
    jobs = [*login_node.launch_jobs("--max_epochs=1"), *login_node.launch_jobs("--max_epochs=1")]

    states = [login_node.wait(job, timeout=180) for job in jobs]

    assert states == ["COMPLETED", "COMPLETED"]
    assert login_node.log(jobs[0]).count("epoch  1/1") == 1
    for version in (0, 1):
        folder = login_node.folder / f"logs/mnist/version_{version}"
        assert len(list(folder.glob("checkpoints/*.ckpt"))) == 1


def test_a_waiting_job_runs_the_program_that_it_was_submitted_with(login_node):
    [job] = login_node.launch_jobs("--max_epochs=1", "--", "--hold")

    login_node.clone.git("switch", "--quiet", BRANCHES[0])
    login_node.run(["scontrol", "release", job])
    state = login_node.wait(job, timeout=180)

    log = login_node.log(job)
    assert state == "COMPLETED", log + login_node.log(job, "err")
    assert "INFO network: " in log  # lesson 4 has no summary
    run = login_node.folder / "logs/mnist/version_0"
    assert "torch==" in (run / "packages.txt").read_text()
    assert (run / "DONE.json").is_file()


def test_trials_differ_in_their_learning_rate(login_node):
    jobs = login_node.launch_jobs("--nb_trials=2", "--max_epochs=1")

    states = [login_node.wait(job, timeout=180) for job in jobs]

    assert states == ["COMPLETED", "COMPLETED"]
    rates = [
        re.search("learning_rate: (.*)", path.read_text())[1]
        for path in sorted(login_node.folder.glob("logs/mnist/version_*/hparams.yaml"))
    ]
    assert len(set(rates)) == 2


def test_a_log_path_with_spaces_reaches_slurm_unchanged(login_node):
    [job] = re.findall(
        r"^job (\d+)", login_node.launch("--max_epochs=1", "--log_path=logs/a b,c=d").stdout
    )

    state = login_node.wait(job, timeout=180)

    [log] = login_node.folder.glob(f"logs/a b,c=d/mnist/slurm_out_logs/*_{job}.out")
    assert state == "COMPLETED"
    assert "epoch  1/1" in log.read_text()


def test_a_site_that_exports_no_environment_still_trains(login_node):
    site = login_node.folder / "site.sh"
    site.write_text(f"export VENV={sys.prefix}\n")

    [job] = login_node.launch_jobs("--max_epochs=1", SBATCH_EXPORT="NONE")
    state = login_node.wait(job, timeout=180)
    site.unlink()

    assert state == "COMPLETED", login_node.log(job, "err")


def test_a_saved_script_can_be_submitted_from_another_folder(login_node, tmp_path):
    [first] = login_node.launch_jobs("--max_epochs=1")
    login_node.wait(first, timeout=180)
    script = login_node.folder / "logs/mnist/slurm_scripts/version_0.sh"

    job = login_node.run(["sbatch", "--parsable", str(script)], cwd=tmp_path).strip()
    state = login_node.wait(job, timeout=180)

    assert state == "COMPLETED"
    assert "test loss" in login_node.log(job)


def test_slurm_applies_the_limits_of_the_site_unless_others_are_given(login_node):
    site = login_node.folder / "site.sh"
    site.write_text("export SBATCH_TIMELIMIT=30 SBATCH_MEM_PER_CPU=300M\n")

    [default] = login_node.launch_jobs("--", "--hold", SBATCH_TIMELIMIT="7")
    [given] = login_node.launch_jobs("--time_min=10", "--mem_gb=1", "--", "--hold")
    shown = [login_node.show(job) for job in (default, given)]
    login_node.run(["scancel", default, given])
    site.unlink()

    assert [job["TimeLimit"] for job in shown] == ["00:30:00", "00:10:00"]
    assert [job.get("MinMemoryCPU") for job in shown] == ["300M", None]
    assert shown[1]["MinMemoryNode"] == "1G"


@pytest.fixture(params=WRAPPERS)
def containerized(login_node, request):
    """A site where Python is a command of several words instead of an environment."""
    wrapper = login_node.folder / "container"
    wrapper.write_text(f"#!/bin/bash\nshift 3\n{WRAPPERS[request.param]}\n")
    wrapper.chmod(0o755)
    site = login_node.folder / "site.sh"
    site.write_text(
        f'export REAL_PYTHON={sys.executable} PATH="{wrapper.parent}:$PATH" VENV=/nowhere\n'
        'export PYTHON="container exec image.sif python"\n'
    )
    yield login_node
    site.unlink()
    wrapper.unlink()


def test_a_site_with_a_command_as_python_trains(containerized):
    [job] = containerized.launch_jobs("--max_epochs=1")

    state = containerized.wait(job, timeout=180)

    assert state == "COMPLETED", containerized.log(job, "err")
    assert "test loss" in containerized.log(job)


def test_the_job_gets_the_exit_code_of_a_command_that_runs_python(containerized):
    [job] = containerized.launch_jobs("--data_dir=/nowhere")

    log = containerized.wait_for_failure(job)

    assert containerized.sacct(job, "ExitCode")[job]["ExitCode"] == "1:0"
    assert "/nowhere/MNIST is missing" in log


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_signal_reaches_the_python_that_a_command_runs(containerized, signal):
    [job] = containerized.launch_jobs("--max_epochs=500")
    containerized.wait_for_training(job)

    containerized.run(["scancel", f"--signal={signal}", f"{job}.0"])
    log = containerized.wait_for_failure(job)

    assert f"A process was ended by SIG{signal}." in log
    assert containerized.accounting_state(job) == "FAILED"
