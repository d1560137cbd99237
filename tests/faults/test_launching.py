"""Launches that fail, against a real Slurm: make test."""

import re
import shutil
import subprocess
import sys

import pytest

from clone import ARGUMENTS_LESSON
from page_rows import shows

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=1"]


def left_behind(login_node):
    return list(login_node.folder.glob("logs/*/*"))


REFUSED = {
    "an unknown partition": ([], {"SBATCH_PARTITION": "nowhere"}, "invalid partition"),
    "more memory than a node has": (["--mem_gb=100000"], {}, "Memory specification"),
    "more CPUs than a node has": (["--num_workers=256"], {}, "More processors requested"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_f15_a_request_that_slurm_refuses_is_not_submitted(login_node, page, reason):
    args, env, expected = REFUSED[reason]

    done = login_node.launch(*args, **env)

    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not left_behind(login_node)
    page("Slurm refuses the job", done.stderr)


def test_a_site_file_that_exits_submits_nothing(login_node, page):
    site = login_node.folder / "site.sh"
    site.write_text("exit 0\n")

    done = login_node.launch()
    site.unlink()

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not left_behind(login_node)
    page("site.sh cannot be read", done.stderr)


def test_f15_a_launch_without_sbatch_leaves_nothing_behind(login_node, page, tmp_path):
    for tool in ("bash", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool))

    done = login_node.launch(PATH=str(tmp_path))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not left_behind(login_node)
    page("sbatch is missing", done.stderr)


def test_f15_a_dead_controller_is_reported_in_one_sentence(login_node, page):
    login_node.main.kill("slurmctld")

    done = login_node.launch()
    login_node.main.repair()

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not left_behind(login_node)
    page("The controller does not answer", done.stderr)
    shows("practice-cluster", "Unable to contact", done.stderr)


def test_f16_a_value_that_contains_a_command_is_refused_and_not_run(login_node, page):
    done = login_node.launch("--experiment_name=x;touch PWNED;")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not list(login_node.folder.rglob("PWNED"))
    assert not left_behind(login_node)
    page("A value is refused", done.stderr)


def test_f16_a_job_that_launches_itself_is_refused(login_node, page):
    words = ["salloc", "--ntasks=1", "--time=1", sys.executable, "run.py"]

    done = login_node.clone.run(*words, env=login_node.env)

    assert done.returncode == 1
    page("The launch is inside a job", done.stderr)
    assert not left_behind(login_node)


def test_f16_a_dry_run_under_srun_is_refused(login_node):
    words = ["srun", "--ntasks=1", sys.executable, "run.py", "--local", "--dry-run"]

    done = login_node.clone.run(*words, env=login_node.env)

    assert done.returncode == 1
    assert "--dry_run cannot be used under srun: remove it" in done.stderr
    assert "Traceback" not in done.stderr


def test_f17_ten_launches_at_once_get_ten_jobs_and_ten_folders(login_node):
    command = [sys.executable, "run.py", *FAST]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # drained, so that all jobs stay in the queue and can be counted
    nodes = ["scontrol", "update", "nodename=node[1-2]"]
    login_node.run([*nodes, "state=drain", "reason=test"])

    launches = [
        subprocess.Popen(command, cwd=login_node.folder, env=login_node.env, **pipes)
        for _ in range(10)
    ]
    outputs = [launch.communicate(timeout=180) for launch in launches]
    queued = login_node.run(["squeue", "--noheader", "--format=%i %o"]).splitlines()
    login_node.run(["scancel", "--state=PENDING", "--partition=work"])
    login_node.run([*nodes, "state=resume"])

    assert [launch.returncode for launch in launches] == [0] * 10, outputs
    found = [re.fullmatch(r"job (\d+) -> logs/cifar10/version_(\d)\n", out) for out, _ in outputs]
    jobs, versions = {match[1] for match in found}, {match[2] for match in found}
    assert (len(jobs), versions) == (10, set("0123456789"))
    assert {line.split()[0] for line in queued} == jobs
    scripts = {str(path) for path in login_node.folder.glob("logs/cifar10/version_*/job.sh")}
    assert {line.split(" ", 1)[1] for line in queued} == scripts
    assert len(scripts) == 10


def test_f23_a_missing_environment_fails_the_job_in_one_sentence(login_node, page):
    [job] = login_node.launch_jobs(VENV="/nowhere")

    log = login_node.wait_for_failure(job)

    assert log.count("\n") == 1
    page("The environment is missing", log)


@pytest.mark.parametrize("branch", ["1-simple-model-training", ARGUMENTS_LESSON])
def test_f23_a_job_submitted_from_another_folder_fails_in_one_sentence(
    login_node, page, tmp_path, branch
):
    login_node.clone.git("switch", "--quiet", branch)
    script, log = login_node.folder / "run.sh", tmp_path / "log"
    # an absolute path, as on sites that share one environment
    options = [f"--output={log}", f"--export=ALL,VENV={sys.prefix}"]

    job = login_node.main.submit(script, *options, cwd=tmp_path)

    assert login_node.main.wait(job) == "FAILED"
    assert log.read_text().count("\n") == 1
    page("run.sh was submitted from another folder", log.read_text())
    shows("lessons/1", "No cluster/job_env.sh", log.read_text())
