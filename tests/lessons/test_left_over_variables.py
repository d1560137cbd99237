"""Variables that another program or job left in the shell, in every lesson: make test."""

import shutil
import sys

import pytest

from clone import ROOT, epochs

BRANCHES = [path.stem for path in sorted((ROOT / "lessons").glob("*.txt"))]
# the files that matter differ in these lessons only
WITH_RUN_PY = [BRANCHES[3], BRANCHES[4], BRANCHES[7]]
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

    done = clone.run(
        *(sys.executable, "run.py", "--local", "--max_epochs=1"), env=clone.env | LEFT_OVER
    )

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
