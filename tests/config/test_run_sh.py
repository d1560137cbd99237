"""run.sh starts run.py with what Slurm allocated, and finds its run again: make test-fast."""

import shlex
import subprocess

import pytest

from clone import ROOT, clean_environment
from src.config.compose import compose_runs

ALLOCATED = {"SLURM_JOB_ID": "41", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"}


@pytest.fixture
def start(tmp_path):
    """Return a function that runs run.sh as a job, and returns the command given to srun."""
    for name in ("run.sh", "cluster/job_env.sh", "cluster/site_env.sh", "src/launch/job.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    program = tmp_path / "bin/srun"
    program.parent.mkdir()
    program.write_text('#!/bin/bash\nprintf "%q " "$@" > "$CALLED" || exit 1\n')
    program.chmod(0o755)

    def start(*words, **env):
        given = {
            **clean_environment(tmp_path),
            **ALLOCATED,
            **env,
            "CALLED": str(tmp_path / "called"),
        }
        given["PATH"] = f"{program.parent}:{given['PATH']}"
        command = ["bash", str(tmp_path / "run.sh"), *words]
        done = subprocess.run(command, cwd=tmp_path, env=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return shlex.split((tmp_path / "called").read_text())

    return start


def test_a_job_of_run_sh_gets_nodes_and_tasks_from_slurm(start):
    called = start("network=resnet34", "trainer.max_epochs=3")

    program = called.index("run.py")
    assert called[program + 1] == "--local"
    [run] = compose_runs(called[program + 2 :])
    assert run.settings.slurm.num_nodes == 2
    assert run.settings.slurm.devices == 2
    assert run.settings.slurm.signal == "USR1"
    assert run.settings.log_path == "logs/sbatch/41"
    assert run.settings.trainer.max_epochs == 3
    assert run.values["network"]["arch"] == "resnet34"


def test_a_requeued_job_of_run_sh_continues_its_run(start, tmp_path):
    first = start(SLURM_RESTART_COUNT="1")
    folder = tmp_path / "logs/sbatch/41/cifar10/version_0"
    folder.mkdir(parents=True)
    again = start(SLURM_RESTART_COUNT="1")
    new = start(SLURM_RESTART_COUNT="0")

    assert "run.py" in first
    run = "logs/sbatch/41/cifar10/version_0"
    assert again[-2:] == [f"{run}/code/src/main.py", run]
    assert "run.py" in new
