"""Variables that another program or job left in the shell, in lessons 1 to 9: make test."""

import shutil
import sys

import pytest

from clone import ROOT, epochs

BRANCHES = [path.stem for path in sorted((ROOT / "lessons").glob("[1-9]-*.txt"))]
WITH_RUN_SH = [*BRANCHES[:3], BRANCHES[-1]]
# the files that matter differ in these lessons only
WITH_RUN_PY = [BRANCHES[3], BRANCHES[4], BRANCHES[-1]]
LEFT_OVER = {
    **{"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "nosuch"},
    **{"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "SLURM_LOCALID": "1", "SLURM_STEP_ID": "0"},
}


@pytest.fixture
def clone(module_clone):
    for name in ("logs", "lightning_logs"):
        shutil.rmtree(module_clone.folder / name, ignore_errors=True)
    return module_clone


@pytest.mark.slow
@pytest.mark.parametrize("branch", BRANCHES[1:3])
def test_run_sh_trains_and_logs(clone, branch):
    clone.git("switch", "--quiet", branch)

    done = clone.run("bash", "run.sh", env=clone.env | LEFT_OVER)

    assert done.returncode == 0, done.stderr
    assert len(epochs(done.stdout)) == 10
    assert list(clone.folder.glob("lightning_logs/version_0/events.out.tfevents.*"))


@pytest.mark.slow
@pytest.mark.parametrize("branch", WITH_RUN_PY)
def test_run_py_trains_and_logs(clone, branch):
    clone.git("switch", "--quiet", branch)

    # not a ResNet, which takes long; the earlier lessons have none
    fast = ["--arch=fully_connected"] if branch == BRANCHES[-1] else []
    words = [sys.executable, "run.py", "--local", "--max_epochs=1", *fast]
    done = clone.run(*words, env=clone.env | LEFT_OVER)

    assert done.returncode == 0, done.stderr
    assert len(epochs(done.stdout)) == 1
    assert list(clone.folder.glob("logs/*/version_0/events.out.tfevents.*"))


@pytest.mark.slow
@pytest.mark.parametrize("branch", WITH_RUN_PY)
def test_run_py_refuses_torchrun(clone, branch):
    clone.git("switch", "--quiet", branch)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1")

    done = clone.run(sys.executable, *torchrun, "run.py", "--max_epochs=1")

    assert done.returncode == 1
    assert "torchrun cannot start this program, which starts its own processes" in done.stderr
    assert not list(clone.folder.glob("logs/*/*"))


@pytest.mark.parametrize("branch", WITH_RUN_SH)
def test_run_sh_trains_the_code_beside_it_in_the_shell_of_a_job(clone, tmp_path, branch):
    clone.git("switch", "--quiet", branch)
    shutil.copytree(clone.folder / "cluster", tmp_path / "cluster")
    for name in ("run.sh", "run.py"):
        (tmp_path / name).write_text("")
    # salloc was called in another clone
    env = clone.env | {"SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": str(tmp_path), "VENV": "nowhere"}

    done = clone.run("bash", "run.sh", env=env)

    assert f"No Python environment at nowhere (seen from {clone.folder})" in done.stderr


@pytest.mark.parametrize("branch", WITH_RUN_SH)
def test_the_copy_that_sbatch_runs_finds_the_folder_of_the_submission(clone, tmp_path, branch):
    clone.git("switch", "--quiet", branch)
    shutil.copy(clone.folder / "run.sh", tmp_path / "slurm_script")
    job = {"SLURM_JOB_ID": "1", "SLURM_SUBMIT_DIR": str(clone.folder), "VENV": "nowhere"}

    done = clone.run("bash", str(tmp_path / "slurm_script"), env=clone.env | job, cwd="/")

    assert f"No Python environment at nowhere (seen from {clone.folder})" in done.stderr
