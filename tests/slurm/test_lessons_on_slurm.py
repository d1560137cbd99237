"""The lessons as jobs on the practice cluster: make test."""

import functools
import shutil
import sys

import pytest

from clone import ARGUMENTS_LESSON, epochs, final_accuracy
from log_lines import unexpected_lines
from page_rows import shows
from practice_cluster import PracticeCluster, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

BY_SBATCH = ["1-simple-model-training", "2-lightning-module", "3-improved-data-loading"]


@pytest.fixture(scope="module")
def cluster(practice_cluster, module_clone):
    """The practice cluster, with jobs that use the environment of these tests."""
    practice_cluster.repair()
    ours = PracticeCluster(practice_cluster.state)
    ours.env = {**practice_cluster.env, "VENV": sys.prefix, "HOME": module_clone.env["HOME"]}
    return ours


@pytest.fixture(scope="module")
def train(cluster, module_clone):
    """Train a lesson as a job, once for all tests; return the job's id and final state."""

    @functools.cache
    def job_of(branch):
        module_clone.git("switch", "--quiet", branch)
        job = cluster.submit(module_clone.folder / "run.sh", cwd=module_clone.folder)
        return job, cluster.wait(job, timeout=180)

    return job_of


@pytest.mark.parametrize("branch", BY_SBATCH)
def test_sbatch_run_sh_trains_a_lesson(train, module_clone, branch):
    job, state = train(branch)

    log = (module_clone.folder / f"slurm.{job}.out").read_text()
    assert state == "COMPLETED", log
    assert unexpected_lines(log) == []
    assert len(epochs(log)) == 10
    assert final_accuracy(log) > 0.9
    if branch != BY_SBATCH[0]:
        folder = module_clone.folder / f"lightning_logs/version_{job}"
        assert list(folder.glob("checkpoints/*.ckpt"))
        assert list(folder.glob("events.out.tfevents.*"))


OTHER_LESSONS = [BY_SBATCH[1], "4-auto-slurm-script-generation", ARGUMENTS_LESSON]


@pytest.mark.parametrize("other", OTHER_LESSONS)
def test_a_waiting_job_refuses_the_program_of_another_lesson(cluster, module_clone, other):
    module_clone.git("switch", "--quiet", BY_SBATCH[0])
    job = cluster.submit(module_clone.folder / "run.sh", "--hold", cwd=module_clone.folder)

    module_clone.git("switch", "--quiet", other)
    cluster.run(["scontrol", "release", job])
    state = cluster.wait(job)

    log = (module_clone.folder / f"slurm.{job}.out").read_text()
    assert state == "FAILED"
    shows("lessons/1", "This job was submitted", log)
    assert log.count("\n") == 1


def test_the_accounting_shows_the_resources_of_a_lesson(cluster, train):
    job, _ = train(BY_SBATCH[2])

    columns = "JobName,State,Elapsed,TotalCPU,MaxRSS,ReqMem,ReqCPUS,NodeList"
    # the accounting is updated a moment after the controller
    wait_until(lambda: cluster.sacct(job, columns)[job]["State"] == "COMPLETED", 60, "in sacct")
    rows = cluster.sacct(job, columns)

    assert rows[job]["JobName"] == "mnist"
    assert rows[job]["ReqCPUS"] == "3"
    assert rows[job]["ReqMem"] == "4G"
    assert rows[job]["NodeList"] in ("node1", "node2")
    # the training uses its memory in the step that srun started
    assert rows[f"{job}.0"]["MaxRSS"].endswith("K")
    assert int(rows[f"{job}.0"]["MaxRSS"][:-1]) > 200_000


@pytest.mark.parametrize("branch", BY_SBATCH)
def test_a_job_without_its_environment_fails_in_one_sentence(cluster, module_clone, branch):
    module_clone.git("switch", "--quiet", branch)
    export = "--export=ALL,VENV=/nowhere"

    job = cluster.submit(module_clone.folder / "run.sh", export, cwd=module_clone.folder)
    state = cluster.wait(job)

    log = (module_clone.folder / f"slurm.{job}.out").read_text()
    assert state == "FAILED"
    assert log.startswith("No Python environment at /nowhere (seen from ")
    assert log.count("\n") == 1


def test_a_job_with_damaged_data_fails_in_one_sentence(cluster, module_clone, tmp_path):
    module_clone.git("switch", "--quiet", BY_SBATCH[1])
    shutil.copytree(module_clone.folder / "data/MNIST", tmp_path / "MNIST")
    (tmp_path / "MNIST/raw/t10k-images-idx3-ubyte").write_bytes(b"")
    export = f"--export=ALL,DATA_DIR={tmp_path}"

    job = cluster.submit(module_clone.folder / "run.sh", export, cwd=module_clone.folder)
    state = cluster.wait(job)

    log = (module_clone.folder / f"slurm.{job}.out").read_text()
    assert state == "FAILED"
    assert "t10k-images-idx3-ubyte is empty; run " in log
    assert "Traceback" not in log
