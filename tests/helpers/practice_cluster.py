"""The practice cluster for tests: a session-wide fixture, and methods to work with a cluster."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from processes import environments, threads_of, with_variables

PRACTICE = Path(__file__).resolve().parents[2] / "cluster" / "practice"
FINISHED = {
    "COMPLETED",
    "FAILED",
    "CANCELLED",
    "TIMEOUT",
    "OUT_OF_MEMORY",
    "NODE_FAIL",
    "PREEMPTED",
    "DEADLINE",
    "BOOT_FAIL",
}
SITE = ("SLURM_", "SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_")


def wait_until(
    condition: Callable[[], bool], timeout: float, what: str, explain: Callable[[], str] = str
) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: if it does not come about in time, with what `explain` says then.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain for: {what}\n{explain()}")
        time.sleep(0.2)


def clean_environment() -> dict[str, str]:
    """Return the environment without Slurm's variables: tests start their own Slurm."""
    return {key: value for key, value in os.environ.items() if not key.startswith(SITE)}


class PracticeCluster:
    """One practice cluster in its own state folder; `prefix` runs every command as another user."""

    def __init__(
        self,
        state: Path,
        program: Path = PRACTICE,
        prefix: Sequence[str] = (),
        extra: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state
        self.program = program
        self.prefix = list(prefix)
        self.env = {**clean_environment(), **(extra or {})}

    def practice(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run cluster/practice; the caller checks the exit code."""
        return subprocess.run(
            [*self.prefix, sys.executable, str(self.program), *words, f"--state={self.state}"],
            env=self.env,
            text=True,
            capture_output=True,
            timeout=timeout,
        )

    def up(self) -> str:
        """Start the cluster or its missing daemons, and read the environment that it needs."""
        done = self.practice("up")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = self.practice("env").stdout
        shell = ["bash", "-c", f"{lines}\nenv -0"]
        shown = subprocess.run(shell, env=self.env, text=True, capture_output=True, check=True)
        self.env = dict(pair.split("=", 1) for pair in shown.stdout.split("\0") if "=" in pair)
        return done.stdout

    def down(self) -> None:
        done = self.practice("down")
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, cmd: Sequence[str], cwd: Path | None = None, timeout: float = 120) -> str:
        """Return the standard output of a command, such as Slurm's, that must succeed."""
        done = subprocess.run(
            [*self.prefix, *cmd],
            env=self.env,
            cwd=cwd,
            text=True,
            capture_output=True,
            timeout=timeout,
        )
        assert done.returncode == 0, f"{' '.join(cmd)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: str | Path, *args: str, cwd: Path) -> str:
        """Submit a script, given as a file or as its text, and return the job id."""
        if isinstance(script, str):
            text, script = script, cwd / f"job-{time.monotonic_ns()}.sh"
            script.write_text(text)
        shown = self.run(["sbatch", "--parsable", *args, str(script)], cwd=cwd)
        return shown.strip().partition(";")[0]

    def show(self, job_id: str) -> dict[str, str]:
        """Return the fields of `scontrol show job`."""
        shown = self.run(["scontrol", "--oneliner", "show", "job", job_id]).strip()
        # a path may contain spaces
        return dict(field.split("=", 1) for field in re.split(r" (?=[A-Z][\w:/]*=)", shown))

    def state_of(self, job_id: str) -> str:
        return self.show(job_id)["JobState"]

    def wait(self, job_id: str, timeout: float = 120) -> str:
        """Wait for the job's end, and return its state. A requeued job restarts at once."""
        found = [""]

        def is_finished() -> bool:
            found[0] = self.start_soon(job_id)
            return found[0] in FINISHED

        what = f"job {job_id} finished"
        wait_until(is_finished, timeout, what, lambda: self.explain(job_id))
        return found[0]

    def wait_for_restart(self, job_id: str, timeout: float = 120) -> None:
        """Wait until a requeued job, which has ended or still ends, runs again."""
        wait_until(lambda: self.state_of(job_id) != "RUNNING", timeout, f"job {job_id} requeued")
        what = f"job {job_id} started again"
        wait_until(
            lambda: self.start_soon(job_id) == "RUNNING",
            timeout,
            what,
            lambda: self.explain(job_id),
        )

    def explain(self, job_id: str) -> str:
        """Tell what a job does; this aborts its processes, to see their stacks."""
        mine = f"SLURM_CONF={self.env['SLURM_CONF']}"
        pids = list(with_variables(f"SLURM_JOB_ID={job_id}", mine))
        parts = [self.run(["scontrol", "show", "job", job_id]), self.run(["squeue"])]
        parts += threads_of(pids)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
        time.sleep(5)  # Python writes the stacks
        for key in ("StdOut", "StdErr"):
            file = Path(self.show(job_id)[key])
            parts.append(f"{file}:\n{file.read_text()[-8000:]}" if file.exists() else f"no {file}")
        return "\n".join(parts)

    def wait_for_state(self, job_id: str, state: str, timeout: float = 60) -> None:
        wait_until(
            lambda: self.state_of(job_id) == state, timeout, f"job {job_id} in state {state}"
        )

    def start_soon(self, job_id: str) -> str:
        """Start a requeued job that Slurm holds for two minutes; return the state that it had.

        Call this until the job runs: the end of the first start sets the two minutes again.
        """
        job = self.show(job_id)
        is_requeued = job["JobState"] == "PENDING" and job["Restarts"] != "0"
        soon = datetime.now() + timedelta(seconds=10)
        # one that starts by itself is left alone: another call would put that off
        if is_requeued and job["EligibleTime"] >= soon.isoformat():
            # not "now": a node refuses a job that it ended within the same second
            command = ["scontrol", "update", f"jobid={job_id}", "StartTime=now+3"]
            # this fails if the job has been cancelled meanwhile, which does no harm
            subprocess.run([*self.prefix, *command], env=self.env, capture_output=True)
        return job["JobState"]

    def sacct(self, job_id: str, fields: str) -> dict[str, dict[str, str]]:
        """Return the accounting of a job and its steps: {"12": {"State": ...}, "12.batch": {...}}.

        The end of a job may be recorded before its start. Until then a finished job has no ReqTRES,
        a ReqMem of `16?`, and the node list of its batch script.
        """
        deadline = time.monotonic() + 60
        while True:
            rows = self.query_sacct(job_id, f"{fields},State,ReqTRES")
            row = rows.get(job_id, {"State": "", "ReqTRES": ""})
            finished = row["State"].partition(" ")[0] in FINISHED
            if not finished or row["ReqTRES"] or time.monotonic() > deadline:
                return rows
            time.sleep(0.5)

    def query_sacct(self, job_id: str, fields: str) -> dict[str, dict[str, str]]:
        names = list(dict.fromkeys(["JobID", *fields.split(",")]))
        shown = self.run(["sacct", "-nP", "-j", job_id, "-o", ",".join(names)])
        rows = [line.split("|") for line in shown.splitlines()]
        return {row[0]: dict(zip(names, row, strict=True)) for row in rows}

    def processes(self) -> dict[int, str]:
        """Return process id -> daemon for all processes with this cluster's mark."""
        found = {}
        root = (self.env.get("SLURM_CONF") or str(self.state)).removesuffix("/etc/slurm.conf")
        for pid, variables in environments():
            if f"PRACTICE_CLUSTER={root}" in variables:
                mark = "PRACTICE_DAEMON="
                named = [one.removeprefix(mark) for one in variables if one.startswith(mark)]
                found[pid] = named[0] if named else "job"
        return found

    def kill(self, *daemons: str) -> None:
        """Kill daemons as a crash would, with their slurmstepd and tasks."""
        for pid, name in self.processes().items():
            if name in daemons:
                # it may have ended since it was listed
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def repair(self) -> None:
        """Repair what a test broke: cancel all jobs, start all daemons, resume both nodes."""
        self.up()
        self.run(["scancel", "--partition=work"])
        self.run(["scancel", "--partition=urgent"])
        wait_until(lambda: not self.run(["squeue", "--noheader"]), 60, "an empty queue")
        self.run(["scontrol", "update", "partitionname=work", "GraceTime=30"])
        for node in ["node1", "node2"]:
            wait_until(lambda node=node: self.is_idle(node), 60, f"{node} is idle")

    def is_idle(self, node: str) -> bool:
        """Tell whether a node is idle; resume it if Slurm drained it or marked it down."""
        # not sinfo, which may show an ended job until somebody queries the node itself
        words = self.run(["scontrol", "--oneliner", "show", "node", node]).split()
        [state] = [word.removeprefix("State=") for word in words if word.startswith("State=")]
        if any(word in state for word in ("DOWN", "DRAIN", "FAIL")):
            # refused while the node ends its last job, hence repeated
            command = ["scontrol", "update", f"nodename={node}", "state=resume"]
            subprocess.run([*self.prefix, *command], env=self.env, capture_output=True)
        return state == "IDLE"


@contextmanager
def hold_apt_lock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hold a lock across all processes of this test run: one apt-get at a time."""
    with (tmp_path_factory.getbasetemp().parent / "apt-get.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def require_packages(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Install Slurm's packages; if that is not possible, skip and say why."""
    env = clean_environment()
    command = [sys.executable, str(PRACTICE), "install"]
    with hold_apt_lock(tmp_path_factory):
        done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=900)
    if done.returncode != 0:
        pytest.skip(f"no practice cluster: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def practice_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PracticeCluster]:
    require_packages(tmp_path_factory)
    # not in pytest's own folder: its path may be too long, or not accessible to other users
    folder = Path(tempfile.mkdtemp(prefix="practice-test-"))
    cluster = PracticeCluster(folder / "state")
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)
