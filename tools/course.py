"""A clone of the course in which tools/measure.py runs commands, locally or as jobs."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import run_docs
from measured import ROOT, MeasuredError

Values = dict[str, Any]
CLUSTER_PAGE = "docs/practice-cluster.md"


class Course:
    """The repository as a reader has it: a clone in a new home, with samples and branches."""

    def __init__(self, venv: Path) -> None:
        self.reader = run_docs.Reader(venv, any_version=True)
        self.folder = self.reader.home / "hpc-starter"
        self.has_cluster = False
        try:
            self.prepare()
        except BaseException:
            self.reader.close()
            raise

    def prepare(self) -> None:
        self.reader.clone()
        for name in run_docs.BEFORE:
            if name != CLUSTER_PAGE:
                self.reader.follow(ROOT / name, only_setup=True)
        # one thread per process, as in the jobs
        self.run("source env/bin/activate && export OMP_NUM_THREADS=1")

    def start_cluster(self) -> None:
        """Start a practice cluster, unless an earlier measurement has started it."""
        if not self.has_cluster:
            self.has_cluster = True
            self.reader.follow(ROOT / CLUSTER_PAGE, only_setup=True)

    def run(self, command: str, minutes: float = 2) -> str:
        """Run a command in the reader's shell and return what it prints.

        Raises:
            MeasuredError: if it fails, or takes too long.
        """
        try:
            found, code = self.reader.login.run(command, minutes * 60)
        except TimeoutError as error:
            raise MeasuredError(f"{command}: no end after {minutes:.0f} minutes\n{error}") from None
        if code:
            raise MeasuredError(f"{command}: exit code {code}\n{found}")
        return found

    def use_data(self, folder: Path | None) -> None:
        """Let the following commands use these data; None: the sample."""
        chosen = f"export DATA_DIR={shlex.quote(str(folder))}" if folder else "unset DATA_DIR"
        self.run(chosen)

    def switch(self, lesson: int) -> None:
        [message] = ROOT.glob(f"lessons/{lesson}-*.txt")
        self.run(f"git checkout --quiet . && git switch --quiet {message.stem}")

    @contextmanager
    def solution(self, name: str) -> Iterator[None]:
        """Apply docs/solutions/NAME.patch for a while."""
        self.run(f"git apply docs/solutions/{name}.patch")
        try:
            yield
        finally:
            self.run(f"git apply --reverse docs/solutions/{name}.patch")

    def job(self, command: str, minutes: float) -> tuple[str, Values]:
        """Submit a job, wait for its end, and return its log and what the accounting says."""
        self.start_cluster()
        found = self.run(command)
        [job] = run_docs.JOB.findall(found)
        run = re.search(rf"^job {job} -> (\S+)", found, re.MULTILINE)
        deadline = time.monotonic() + minutes * 60
        while (state := self.reader.job_state(job)) in run_docs.RUNNING:
            if time.monotonic() > deadline:
                raise MeasuredError(f"{command}: job {job} is {state} after {minutes:.0f} minutes")
            time.sleep(1)
        names = [f"slurm.{job}.out", f"logs/*/slurm_out_logs/*_{job}.out"]
        names += [f"{run[1]}/job.out"] if run else []  # from lesson 9 on
        [log] = [path for name in names for path in self.folder.glob(name)]
        if state != "COMPLETED":
            raise MeasuredError(f"{command}: job {job} is {state}\n{log.read_text()}")
        return log.read_text(), self.accounting(job)

    def accounting(self, job: str) -> Values:
        fields = "JobID,State,Elapsed,ElapsedRaw,TotalCPU,MaxRSS"
        for _ in range(60):  # the accounting is updated a moment later
            rows = [row.split("|") for row in self.run(f"sacct -nP -j {job} -o {fields}").split()]
            if len(rows) == 3 and rows[0][1] == "COMPLETED" and rows[2][5]:
                break
            time.sleep(0.5)
        else:
            raise MeasuredError(f"sacct has no MaxRSS of job {job} after 30 seconds")
        whole, batch, step = rows
        seconds = int(whole[3])
        found = {"seconds": seconds, "minutes": round(seconds / 60, 2), "elapsed": whole[2]}
        memory_mb = int(step[5].removesuffix("K")) / 1024
        found |= {"mb": round(memory_mb), "gb": round(memory_mb / 1024, 2)}
        found["minutes_up"] = rounded_up(seconds)
        found |= {"job_cpu": whole[4], "batch_cpu": batch[4], "step_cpu": step[4]}
        return {**found, "batch_rss": batch[5], "step_rss": step[5]}

    def peak_gb(self, command: str) -> float:
        """Run a command, and return the peak memory of its largest process.

        Slurm's MaxRSS counts a page that several processes share as a part for each of them, so it
        depends on what else the machine runs.
        """
        program = (
            "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
            "print('peak', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        shown = self.run(f"python -c {shlex.quote(program)} {command}", minutes=10)
        return round(int(re.findall(r"^peak (\d+)$", shown, re.MULTILINE)[-1]) / 1024**2, 2)

    def versions(self) -> Values:
        """Return the versions of what the measurements so far have used."""
        found = {name: version(name) for name in ("torch", "torchvision", "lightning")}
        found["python"] = ".".join(map(str, sys.version_info[:3]))
        if self.has_cluster:  # the release, without the number of its maintenance version
            found["slurm"] = re.findall(r"\d+\.\d+", self.run("sinfo --version"))[0]
        return found

    def close(self) -> None:
        self.reader.close()


def rounded_up(seconds: float) -> int:
    """Return the minutes that a reader should plan for."""
    return max(1, -int(-seconds // 60))
