"""Launches that go wrong, against a real Slurm: make test."""

import re
import shutil
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

FAST = ["--arch=fully_connected", "--max_epochs=1"]


def left_behind(desk):
    return [*desk.folder.glob("logs/*/version_*"), *desk.folder.glob("logs/*/slurm_scripts/*")]


REFUSED = {
    "a partition that is not there": ([], {"SBATCH_PARTITION": "nowhere"}, "invalid partition"),
    "more memory than a node has": (["--mem_gb=100000"], {}, "Memory specification"),
    "more CPUs than a node has": (["--num_workers=256"], {}, "More processors requested"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_f15_what_slurm_refuses_is_not_submitted(desk, page, reason):
    args, env, expected = REFUSED[reason]

    done = desk.launch(*args, **env)

    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not left_behind(desk)
    page("Slurm refuses the job", done.stderr)


def test_f15_without_sbatch_nothing_looks_submitted(desk, page, tmp_path):
    for tool in ("bash", "cat"):
        (tmp_path / tool).symlink_to(shutil.which(tool))

    done = desk.launch(PATH=str(tmp_path))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not left_behind(desk)
    page("sbatch is missing", done.stderr)


def test_f15_a_dead_controller_is_one_sentence(desk, page):
    desk.main.kill("slurmctld")

    done = desk.launch()
    desk.main.heal()

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not left_behind(desk)
    page("The controller does not answer", done.stderr)


def test_f16_a_value_that_could_be_a_command_is_refused_and_not_run(desk, page):
    done = desk.launch("--experiment_name=x;touch PWNED;")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not list(desk.folder.rglob("PWNED"))
    assert not left_behind(desk)
    page("A value is refused", done.stderr)


def test_f16_a_job_that_launches_itself_is_refused(desk, page):
    words = ["salloc", "--ntasks=1", "--time=1", sys.executable, "run.py"]

    done = desk.clone.run(*words, env=desk.env)

    assert done.returncode == 1
    page("The launch is inside a job", done.stderr)
    assert not left_behind(desk)


def test_f16_a_job_that_only_prints_a_script_is_refused(desk):
    words = ["srun", "--ntasks=1", sys.executable, "run.py", "--local", "--dry-run"]

    done = desk.clone.run(*words, env=desk.env)

    assert done.returncode == 1
    assert "--dry-run prints the script of a job, but this is one: leave it out" in done.stderr
    assert "Traceback" not in done.stderr


def test_f17_ten_launches_at_once_are_ten_jobs_with_ten_folders(desk):
    command = [sys.executable, "run.py", *FAST]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # so that they all wait in the queue, to be counted
    nodes = ["scontrol", "update", "nodename=node[1-2]"]
    desk.run([*nodes, "state=drain", "reason=test"])

    launches = [
        subprocess.Popen(command, cwd=desk.folder, env=desk.env, **pipes) for _ in range(10)
    ]
    said = [launch.communicate(timeout=180) for launch in launches]
    queued = desk.run(["squeue", "--noheader", "--format=%i %o"]).splitlines()
    desk.run(["scancel", "--state=PENDING", "--partition=work"])
    desk.run([*nodes, "state=resume"])

    assert [launch.returncode for launch in launches] == [0] * 10, said
    found = [re.fullmatch(r"job (\d+) -> logs/cifar10 \(version_(\d)\)\n", out) for out, _ in said]
    jobs, versions = {match[1] for match in found}, {match[2] for match in found}
    assert (len(jobs), versions) == (10, set("0123456789"))
    assert {line.split()[0] for line in queued} == jobs
    scripts = {path.name for path in desk.folder.glob("logs/cifar10/slurm_scripts/*")}
    assert scripts == {f"version_{number}.sh" for number in range(10)}
    assert {line.rsplit("/", 1)[1] for line in queued} == scripts


def test_f23_an_environment_that_is_missing_fails_the_job_in_one_sentence(desk, page):
    [job] = desk.launched(VENV="/nowhere")

    log = desk.failed(job)

    assert log.count("\n") == 1
    page("The environment is missing", log)


@pytest.mark.parametrize("branch", ["1-simple-model-training", "8-distributed-training"])
def test_f23_a_job_submitted_from_another_folder_fails_in_one_sentence(
    desk, page, tmp_path, branch
):
    desk.clone.git("switch", "--quiet", branch)
    script, log = desk.folder / "run.sh", tmp_path / "log"
    # the environment is found from everywhere, as on sites that share one
    options = [f"--output={log}", f"--export=ALL,VENV={sys.prefix}"]

    job = desk.main.submit(script, *options, cwd=tmp_path)

    assert desk.main.wait(job) == "FAILED"
    assert log.read_text().count("\n") == 1
    page("run.sh was submitted from another folder", log.read_text())
