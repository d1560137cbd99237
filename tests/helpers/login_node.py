"""Login nodes for tests: a clone of the course that submits to a real or a fake Slurm."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from practice_cluster import FINISHED, PracticeCluster, wait_until
from processes import SHOW_STACKS

# records the script and its arguments, then answers as sbatch --parsable does
SBATCH = """#!/bin/bash
cat "${@: -1}" > "$RECORD/script.$$"
printf '%s\\0' "$@" > "$RECORD/sbatch.$$"
echo $$
"""
# records the arguments of the training, as read by the shell of the job
SRUN = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD/srun"
"""
# calls main of run.py many times in one process, since the imports take seconds; bash runs each
# submitted job, with the srun that only records
DRIVER = """
import contextlib, io, json, os, subprocess, sys
import run
record, home = os.environ["RECORD"], os.getcwd()
for arguments in json.load(sys.stdin):
    for file in os.listdir(record):
        os.unlink(os.path.join(record, file))
    os.chdir(home)
    sys.argv = ["run.py", *arguments]
    result = {"code": 0, "crash": None, "job": None}
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            with run.plain_errors():
                run.main()
        except SystemExit as error:
            result["code"] = error.code
        except BaseException as error:
            result["crash"] = repr(error)
    result["stderr"] = errors.getvalue()
    for script in [file for file in os.listdir(record) if file.startswith("script")]:
        job = {**os.environ, "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "1"}
        subprocess.run(["bash", os.path.join(record, script)], stderr=subprocess.DEVNULL,
                       env=job, check=True)
        with open(os.path.join(record, "srun"), "rb") as file:
            result["job"] = [os.fsdecode(word) for word in file.read().split(b"\\0")]
    print("RESULT", json.dumps(result))
"""


# stand-ins for `apptainer exec ... python` and `conda run ... python`
WRAPPERS = {
    "a wrapper that becomes Python": 'exec "$REAL_PYTHON" "$@"',
    "a wrapper that waits for Python": '"$REAL_PYTHON" "$@"',
}


class SlurmLoginNode(PracticeCluster):
    """A login node of the practice cluster."""

    def __init__(self, cluster, clone):
        super().__init__(cluster.state)
        self.clone, self.folder = clone, clone.folder
        home = {"VENV": sys.prefix, "HOME": clone.env["HOME"]}
        self.env = {**cluster.env, **SHOW_STACKS, **home}
        self.main = cluster

    def launch(self, *args, **env):
        return self.clone.run(sys.executable, "run.py", *args, env={**self.env, **env})

    def launch_jobs(self, *args, **env):
        """Launch, and return the job ids."""
        done = self.launch(*args, **env)
        assert done.returncode == 0, done.stderr
        return re.findall(r"^job (\d+) -> logs/", done.stdout, re.MULTILINE)

    def log(self, job, kind="out"):
        return Path(self.show(job)[f"Std{kind.title()}"]).read_text()

    def wait_for_training(self, job):
        """Wait for the end of the first epoch."""

        def has_begun():
            log = Path(self.show(job)["StdOut"])
            return log.exists() and "epoch  1/" in log.read_text()

        wait_until(has_begun, 120, "the first epoch")

    def accounting_state(self, job):
        """Return the state of a finished job in sacct, which is updated after the controller."""
        found = [""]

        def is_there():
            found[0] = self.sacct(job, "State").get(job, {}).get("State", "").split(" ")[0]
            return found[0] in FINISHED

        wait_until(is_there, 60, f"job {job} finished in sacct")
        return found[0]

    def wait_for_failure(self, job, timeout=120):
        """Wait for the end of a job that must not look like a finished training; return its log."""
        self.wait(job, timeout)
        log = self.log(job) + self.log(job, "err")
        state = self.accounting_state(job)
        assert state != "COMPLETED", log
        assert "test loss" not in log
        assert not list(self.folder.glob("logs/**/DONE.json"))
        return log

    def submit_run_sh(self, branch, *options, args=()):
        """Submit the run.sh of a lesson, and return the job id."""
        self.clone.git("switch", "--quiet", branch)
        words = ["sbatch", "--parsable", *options, "run.sh", *args]
        done = self.clone.run(*words, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def run_sh_log(self, job):
        path = self.folder / f"slurm.{job}.out"
        return path.read_text() if path.exists() else ""


class FakeLoginNode:
    """A login node on which sbatch and srun only record their arguments."""

    def __init__(self, clone, folder):
        self.clone, self.folder = clone, clone.folder
        self.bin, self.record = folder / "bin", folder / "record"
        self.bin.mkdir()
        self.record.mkdir()
        self.install("sbatch", SBATCH)
        self.install("srun", SRUN)
        path = f"{self.bin}:{os.environ['PATH']}"
        self.env = {**clone.env, "PATH": path, "RECORD": str(self.record)}
        self.logs = self.folder / "logs"

    def install(self, name, text):
        """Put a fake command in front of the real one."""
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def command(self, *args):
        return [sys.executable, "run.py", *args]

    def launch(self, *args, **env):
        return self.clone.run(*self.command(*args), env={**self.env, **env})

    def drive(self, calls):
        """Call run.py with each list of arguments; return exit code, stderr and job arguments."""
        command = [sys.executable, "-c", DRIVER]
        pipes = {"input": json.dumps(calls), "capture_output": True, "text": True}
        done = subprocess.run(command, cwd=self.folder, env=self.env, check=False, **pipes)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        return [json.loads(line[7:]) for line in lines if line.startswith("RESULT ")]

    def scripts(self):
        return sorted(path.read_text() for path in self.record.glob("script.*"))


@pytest.fixture(scope="module")
def module_login_node(practice_cluster, module_clone):
    """The practice cluster as the login node of the clone."""
    practice_cluster.repair()
    return SlurmLoginNode(practice_cluster, module_clone)
