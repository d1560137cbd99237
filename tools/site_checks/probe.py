"""The probe job of make preflight: a small job on two nodes, started as the jobs of the lessons."""

from __future__ import annotations

import io
import json
import re
import secrets
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from site_checks.report import KEPT, Answer, Report, shortened
from site_checks.site_file import Site, without_count
from src.launch.job import Job
from src.utils.errors import NotSubmittedError, UserError

NODE_PROGRAM = Path(__file__).with_name("node.py")
OVER = (
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL"),
    *("PREEMPTED", "DEADLINE", "GONE"),
)
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")
MINUTES = 5  # time limit of the probe
PAUSE = 1.0  # seconds between two questions to Slurm
TO_SUBMIT = 120.0  # seconds for sbatch
LATE = 20.0  # seconds that a network file system may take to show a file


Facts = list[dict[str, Any]]


@dataclass
class Outcome:
    """How the probe job ended: its id, its nodes' facts, or why there are none."""

    nodes: int
    job: str = ""
    refused: str = ""  # why there is no job; afterwards, why it has one node instead of two
    state: str = ""
    problem: str = ""
    cure: str = ""
    unclear: bool = False  # whether there is a job
    output: str = ""
    errors: str = ""
    facts: Facts = field(default_factory=list)
    waited: float = 0.0
    # on the clock of the login node: the job had not begun, its first file was there
    before: float = 0.0
    after: float = 0.0


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError if the block takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def submit(report: Report, job: Job, script: Path, text: str, outcome: Outcome) -> None:
    """Submit as run.py does; note the job id, or why there is none."""
    script.write_text(text)
    said = io.StringIO()  # of a wrapper; it belongs into the report, not between the rows
    answer = Answer(1, "", "")
    try:
        with redirect_stderr(said), at_most(TO_SUBMIT):
            outcome.job = str(job.submit(script))
        answer = Answer(0, f"{outcome.job}\n", said.getvalue())
    except NotSubmittedError as error:
        answer.err, outcome.refused = f"{error}\n", shortened(reason(str(error)))
    except (UserError, TimeoutError) as error:
        answer.err = f"{error}" or f"sbatch did not answer within {TO_SUBMIT:.0f} s"
        # its remedy names the script, which is deleted at the end
        outcome.refused, outcome.unclear = shortened(answer.err.partition("; look for")[0]), True
        outcome.cure = "see squeue --me, and ask the help desk why sbatch gives no job id"
    report.record(f"bash src/launch/submit.sh {script}", answer)


def host(one: dict[str, Any]) -> str:
    return str(one.get("host", "?"))


def reason(said: str) -> str:
    """Return what sbatch says in run.py's sentence, each reason once."""
    said = re.sub(r"^not submitted: |; see sinfo and site\.sh$", "", said)
    errors = re.findall(r"error: (.*?)(?= sbatch: |$)", said)
    found = [error.replace("Batch job submission failed: ", "") for error in errors]
    return "; ".join(dict.fromkeys(found)) or said


class Probe:
    """Submits the probe, waits for it, and cancels what is left of it."""

    def __init__(self, report: Report, site: Site, folder: Path) -> None:
        self.report, self.site, self.folder = report, site, folder
        # known before sbatch answers, so that an interrupt leaves no job behind
        self.name = f"preflight-{secrets.token_hex(4)}"
        self.job = f"the job {self.name}"
        self.asked_mb = 0

    def run(self, wait: float, usable: int = 2) -> Outcome:
        """Run the probe on two nodes, or on one if there are not two or Slurm refuses two."""
        two = "only one node of the partition is usable now" if usable == 1 else ""
        outcome = self.submit(1 if two else 2)
        if not outcome.job and not two and not outcome.unclear:
            two = f"sbatch: {outcome.refused}"
            outcome = self.submit(1)
        outcome.problem, outcome.refused = outcome.refused, two
        if outcome.job:
            self.wait(outcome, wait)
            self.read(outcome)
        return outcome

    def submit(self, nodes: int) -> Outcome:
        run = self.folder / f"probe-{nodes}"
        program = run / "code/src/main.py"
        program.parent.mkdir(parents=True)
        shutil.copy(NODE_PROGRAM, program)
        name = without_count(self.site.get("GRES"))
        gres = f"{name}:1" if name else ""
        memory = ("NO_MEM", "SBATCH_MEM_PER_NODE", "SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU")
        mem_gb = 0 if any(map(self.site.get, memory)) else 2
        self.asked_mb = mem_gb * 1024
        job = Job(
            nodes=nodes, cpus_per_task=2, mem_gb=mem_gb, time_min=MINUTES, gres=gres, lead_s=30
        )
        text = job.script(self.name, str(run))
        outcome = Outcome(nodes, before=time.time())
        self.report.show_progress(
            f"job {self.name} is submitted to {nodes} nodes; Ctrl-C cancels it"
        )
        submit(self.report, job, run / "job.sh", text, outcome)
        self.job = f"job {outcome.job}" if outcome.job else self.job
        return outcome

    # --- waiting

    def wait(self, outcome: Outcome, wait: float) -> None:
        """Wait until the job has ended, or cannot be waited for any longer."""
        began = time.monotonic()
        while True:
            asked = time.time()  # the answer may be late
            state, why = state_of(self.report, outcome.job)
            waited, outcome.state = time.monotonic() - began, state
            if state in WAITING:
                outcome.before, outcome.waited = asked, waited
            if state in OVER or self.is_complete(outcome):
                self.report.show_progress("")
                return
            if state in WAITING and waited > wait:
                outcome.problem = f"job {outcome.job} has waited {waited:.0f} s: {why}"
                outcome.cure = cure_of_waiting(why)
                return
            if waited - outcome.waited > MINUTES * 60 + 90:
                outcome.problem = f"job {outcome.job} has not ended in time ({state})"
                outcome.cure = "look at its node: scontrol show job, then ask the help desk"
                return
            text = f"job {outcome.job} runs on {outcome.nodes} nodes, {waited:.0f} s"
            if state in WAITING:
                text = f"job {outcome.job} waits in the queue ({why}), {waited:.0f} s of {wait:.0f}"
            self.report.show_progress(f"{text}; Ctrl-C cancels it")
            time.sleep(PAUSE)

    def is_complete(self, outcome: Outcome) -> bool:
        facts = self.facts(outcome)
        if facts and not outcome.after:
            outcome.after = time.time()
        return len(facts) == outcome.nodes and all(one.get("done") for one in facts)

    def facts(self, outcome: Outcome) -> list[dict[str, Any]]:
        found = []
        for path in sorted((self.folder / f"probe-{outcome.nodes}").glob("node-*.json")):
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError):
                continue  # a network file system shows it a moment later
        return found

    def read(self, outcome: Outcome) -> None:
        """Read what the nodes have written, and the log of the job."""
        deadline = time.monotonic() + (0 if outcome.problem else LATE)
        run = self.folder / f"probe-{outcome.nodes}"
        while not self.is_complete(outcome) and time.monotonic() < deadline:
            time.sleep(0.5)
            if (run / "job.err").is_file() and not self.facts(outcome):
                deadline = min(deadline, time.monotonic() + 5)
        outcome.facts = [one for one in self.facts(outcome) if "host" in one]
        outcome.output, outcome.errors = log_of(run / "job.out"), log_of(run / "job.err")
        self.report.run(["scontrol", "show", "job", outcome.job])
        for name, text in (("job.out", outcome.output), ("job.err", outcome.errors)):
            self.report.commands.append(f"$ cat {run / name}\n{text}".rstrip())
        shown = [json.dumps(one, indent=1) for one in outcome.facts]
        self.report.commands.append("\n".join(["what the nodes found:", *shown]))

    def cancel(self) -> None:
        """Cancel the job by its name, if it is still there."""
        user = self.site.env.get("USER") or self.site.env.get("LOGNAME", "")
        who = [f"--user={user}"] if user else []
        self.report.cancel(self.job, [*who, f"--name={self.name}"])


def log_of(path: Path) -> str:
    try:
        # with its heading, the report must not cut off the end
        return path.read_text(errors="replace")[1000 - KEPT :]
    except OSError:
        return ""


def state_of(report: Report, job: str) -> tuple[str, str]:
    """Return the state of a job, and squeue's reason; GONE if Slurm no longer knows it."""
    command = ["squeue", "--noheader", "--states=all", "--format=%T|%r", f"--jobs={job}"]
    done = report.run(command)
    # the file needs the same answer only once
    if len(report.commands) > 1 and report.commands[-1] == report.commands[-2]:
        report.commands.pop()
    lines = [line.strip() for line in done.out.splitlines() if "|" in line]
    if lines:
        state, _, why = lines[-1].partition("|")
        return state, why
    gone = done.code == 0 or "Invalid job id" in done.err
    return ("GONE", "") if gone else ("UNKNOWN", shortened(done.said))


REASONS = {
    "ReqNodeNotAvail|DOWN|DRAINED|Maint|Reserved": "its nodes are down, drained or reserved (see"
    " sinfo --list-reasons): use another partition, or write the reservation of the class into"
    " site.sh: export SBATCH_RESERVATION=<name>",
    "Priority|Resources|None": "the partition is busy: wait longer with make preflight WAIT=3600,"
    " try another partition, or write the reservation of the class into site.sh: export"
    " SBATCH_RESERVATION=<name>",
    "Partition": "the partition is down, or its limits do not allow the job: export"
    " SBATCH_PARTITION=<name>",
    "Assoc|QOS|MaxJobs|Grp": "a limit of your account or QOS is reached: wait for your other jobs,"
    " or write another one into site.sh: export SBATCH_QOS=<name>",
    "Reservation": "the reservation has ended or has not begun: remove export"
    " SBATCH_RESERVATION=... from site.sh, or wait",
    "Held|JobHeld": "the job is held: ask the help desk why",
}


def cure_of_waiting(why: str) -> str:
    for pattern, cure in REASONS.items():
        if re.search(pattern, why):
            return cure
    return "the reason is explained in man squeue, JOB REASON CODES"
