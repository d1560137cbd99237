"""The probe job of make preflight: a small job on two nodes, started as the jobs of the lessons."""

from __future__ import annotations

import io
import json
import re
import secrets
import shutil
import time
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from site_checks.report import Answer, Report, shortened
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
    output: str = ""
    errors: str = ""
    facts: Facts = field(default_factory=list)
    waited: float = 0.0
    # on the clock of the login node: the job had not begun, its first file was there
    before: float = 0.0
    after: float = 0.0


def submit(report: Report, job: Job, script: Path, text: str) -> tuple[str, str]:
    """Submit as run.py does; return the job id, or "" and why not."""
    script.write_text(text)
    said = io.StringIO()  # of a wrapper; it belongs into the report, not between the rows
    try:
        with redirect_stderr(said):
            job_id = job.submit(script)
    except UserError as error:
        report.record(f"bash src/launch/submit.sh {script}", Answer(1, "", f"{error}\n"))
        return "", reason(str(error)) if isinstance(error, NotSubmittedError) else str(error)
    report.record(f"bash src/launch/submit.sh {script}", Answer(0, f"{job_id}\n", said.getvalue()))
    return str(job_id), ""


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
        self.asked_mb = 0

    def run(self, wait: float, usable: int = 2) -> Outcome:
        """Run the probe on two nodes, or on one if there are not two or Slurm refuses two."""
        two = "only one node of the partition is usable now" if usable == 1 else ""
        outcome = self.submit(1 if two else 2)
        if not outcome.job and not two:
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
        outcome.job, outcome.refused = submit(self.report, job, run / "job.sh", text)
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
        self.report.run(["scancel", *who, f"--name={self.name}"])


def log_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[-20000:]
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
