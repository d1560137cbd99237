"""Rows of "When it goes wrong", caused on the practice cluster: make test."""

import re
import subprocess
import sys

import pytest

from page_rows import advice, row, shows
from practice_cluster import wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

LESSON_1, LESSON_2, LESSON_3, LESSON_4 = (
    "1-simple-model-training",
    "2-lightning-module",
    "3-improved-data-loading",
    "4-auto-slurm-script-generation",
)


@pytest.fixture(scope="module")
def login_node(module_login_node):
    return module_login_node


@pytest.fixture
def shell(login_node):
    """Run a command in bash on the login node; return what it printed, and cancel its job."""

    def run(branch, command, **env):
        login_node.clone.git("switch", "--quiet", branch)
        env = {name: value for name, value in {**login_node.env, **env}.items() if value}
        words = ["bash", "-c", command, "bash", sys.executable]
        shown = login_node.clone.run(*words, env=env, stderr=subprocess.STDOUT).stdout
        for job in re.findall(r"job (\d+)", shown):
            login_node.run(["scancel", job])
        return shown

    yield run
    (login_node.folder / "site.sh").unlink(missing_ok=True)


RUN_SH, RUN_PY = "sbatch --hold run.sh", '"$1" run.py -- --hold'


def test_a_job_waits_for_other_jobs(login_node):
    command = ["sbatch", "--parsable", "--nodes=2", "--exclusive", "--output=/dev/null"]
    other = login_node.run([*command, "--wrap=sleep 600"]).strip()
    login_node.wait_for_state(other, "RUNNING")
    first, second = (login_node.submit_run_sh(LESSON_1) for _ in range(2))
    reasons = ["squeue", "--me", "--noheader", "--format=%r"]
    wait_until(lambda: "Resources" in login_node.run(reasons), 60, "a reason to wait")
    wait_until(lambda: "Priority" in login_node.run(reasons), 60, "another reason")

    shown = login_node.run(["squeue", "--me"])
    command = advice("lessons/1", "the job stays PD", "squeue --me --start")
    wait_until(lambda: "N/A" not in login_node.run(command.split()), 60, "a plan")
    login_node.run(["scancel", other])
    login_node.wait_for_state(first, "RUNNING")
    login_node.run(["scancel", first, second])

    shows("lessons/1", "the job stays PD", shown)


@pytest.mark.parametrize("option", ["--nodes", "--ntasks-per-node"])
def test_two_tasks_are_too_many_for_lesson_1(login_node, option):
    assert option in row("lessons/1", "This job has 2 tasks").cause

    job = login_node.submit_run_sh(LESSON_1, f"{option}=2")
    login_node.wait(job)

    shows("lessons/1", "This job has 2 tasks", login_node.run_sh_log(job))


def test_a_job_may_not_use_more_memory_than_it_requests(login_node):
    logs = []
    for branch in (LESSON_1, LESSON_3):
        job = login_node.submit_run_sh(branch, "--mem=100M")
        login_node.wait(job)
        logs.append(login_node.run_sh_log(job))

    state = login_node.accounting_state(job)
    shows("lessons/1", "sacct says", f"sacct: {state}", logs[0], elsewhere=["OUT_OF_MEMORY"])
    shows("lessons/3", "exceeded memory limit", logs[1])


@pytest.fixture
def no_default_partition(login_node):
    command = ["scontrol", "update", "partitionname=work"]
    login_node.run([*command, "default=no"])
    yield
    login_node.run([*command, "default=yes"])


def test_a_partition_of_another_site_is_refused(login_node, shell, no_default_partition):
    site = login_node.folder / "site.sh"
    by_default = shell(LESSON_1, RUN_SH)
    site.write_text("export SBATCH_PARTITION=nowhere\n")
    by_hand = shell(LESSON_1, f"source site.sh; {RUN_SH}")
    by_run_py = shell(LESSON_4, RUN_PY)

    partitions = shell(LESSON_1, advice("lessons/1", "sbatch: error: invalid", "sinfo"))
    name = advice("lessons/1", "sbatch: error: invalid", "SBATCH_PARTITION")
    assert name == advice("lessons/4", "not submitted: sbatch: error: invalid", "SBATCH_PARTITION")
    site.write_text(f"export {name}={re.search('^(urgent)', partitions, re.M)[1]}\n")
    accepted = [shell(LESSON_1, f"source site.sh; {RUN_SH}"), shell(LESSON_4, RUN_PY)]

    shows("lessons/1", "sbatch: error: invalid partition", by_hand, by_default)
    shows("lessons/4", "not submitted: sbatch: error: invalid partition", by_run_py)
    for shown in accepted:
        assert re.search(r"job \d+", shown), shown


def test_more_memory_than_a_node_has_is_refused(shell):
    run_py = '"$1" run.py'  # not held: Slurm does not check the resources of a held job
    refused = shell(LESSON_4, f"{run_py} --mem_gb=100000")
    name = advice("lessons/4", "not submitted: sbatch: error: Memory", "--mem_gb")
    sinfo = 'sinfo --Node --partition=<partition> --format="%N %m"'
    sinfo = advice("lessons/4", "not submitted: sbatch: error: Memory", sinfo)
    sinfo = sinfo.replace("<partition>", "work")
    [memory, *_] = re.findall(r" (\d+)$", shell(LESSON_4, sinfo), re.MULTILINE)
    accepted = shell(LESSON_4, f"{run_py} {name}={int(memory) // 1024}")

    shows("lessons/4", "not submitted: sbatch: error: Memory", refused)
    assert re.search(r"job \d+", accepted), accepted


def test_a_shell_that_is_not_connected_to_a_cluster(login_node, shell):
    refused = [shell(LESSON_1, RUN_SH, SLURM_CONF=""), shell(LESSON_4, RUN_PY, SLURM_CONF="")]
    command = advice("lessons/1", "Could not establish", 'eval "$(cluster/practice env)"')
    assert command == advice(
        "lessons/4", "not submitted: ... Could not", 'eval "$(cluster/practice env)"'
    )
    assert command == advice("practice-cluster", "Could not", 'eval "$(cluster/practice env)"')
    connect = command.replace(" env", f" env --state={login_node.state}")
    accepted = [
        shell(branch, f"{connect}; {run}", SLURM_CONF="")
        for branch, run in ((LESSON_1, RUN_SH), (LESSON_4, RUN_PY))
    ]

    shows("lessons/1", "Could not establish", refused[0])
    shows("practice-cluster", "Could not establish", refused[0])
    shows("lessons/4", "not submitted: ... Could not establish", refused[1])
    for shown in accepted:
        assert re.search(r"job \d+", shown), shown


def test_a_drained_node_can_be_resumed(login_node):
    state = ["sinfo", "--noheader", "--nodes=node2", "--partition=work", "--format=%t"]
    drain = ["scontrol", "update", "nodename=node2", "state=drain", "reason=maintenance"]

    login_node.run(drain)
    drained = login_node.run(state)
    reasons = advice("practice-cluster", "a node stays drain", "sinfo --list-reasons")
    listed = login_node.run(reasons.split())
    words = "scontrol update nodename=<node> state=resume"
    resume = advice("practice-cluster", "a node stays drain", words).replace("<node>", "node2")
    login_node.run(resume.split())

    shows("practice-cluster", "a node stays drain", drained)
    assert "maintenance" in listed
    wait_until(lambda: login_node.run(state) == "idle\n", 60, "node2 is idle")


def test_a_job_does_not_submit_jobs(login_node, shell):
    refused = shell(LESSON_4, 'salloc --quiet --ntasks=1 --time=1 "$1" run.py')

    shows("lessons/4", "this shell is in job", refused)


def test_a_job_of_run_py_without_an_environment(login_node):
    login_node.clone.git("switch", "--quiet", LESSON_4)

    [job] = login_node.launch_jobs(VENV="")
    login_node.wait(job)

    [log] = login_node.folder.glob(f"logs/mnist/*/*_{job}.err")
    shows("lessons/4", "No Python environment", str(log), log.read_text())


def test_a_job_that_lightning_has_requeued_ends_with_a_message(login_node):
    login_node.clone.git("switch", "--quiet", LESSON_2)
    program = login_node.folder / "src/main.py"
    program.write_text(program.read_text().replace("max_epochs=10,", "max_epochs=500,"))
    job = login_node.submit_run_sh(LESSON_2)
    wait_until(lambda: "epoch  1/" in login_node.run_sh_log(job), 120, "the first epoch")

    login_node.run(["scancel", "--signal=USR1", f"{job}.0"])
    wait_until(lambda: login_node.show(job)["Restarts"] == "1", 60, "the requeued job")
    state = login_node.wait(job)
    login_node.clone.git("checkout", "--quiet", ".")

    assert state == "FAILED"
    shows("lessons/2", "<folder>/hpc_ckpt_1.ckpt", login_node.run_sh_log(job))
