"""A real training on two nodes, for make preflight FULL=1: lesson 8, one epoch on MNIST."""

from __future__ import annotations

import re
import time
from pathlib import Path

from site_checks.probe import OVER, PAUSE, WAITING, cure_of_waiting, log_of, state_of
from site_checks.report import FAIL, PASS, SKIPPED, Report, shortened
from site_checks.site_file import Site

ROW = "training, 2 nodes"
LESSON = 8
ARGUMENTS = ["--num_nodes=2", "--max_epochs=1", "--dataset=mnist", "--arch=fully_connected"]
NAME = "preflight"
LONGEST = 20 * 60  # seconds that the training may run


def check_training(
    report: Report,
    site: Site,
    trees: dict[int, Path],
    python: str,
    wait: float,
) -> None:
    """Submit the training with run.py of the lesson, and check what it leaves behind."""
    tree = trees.get(LESSON)
    if not tree or not python or not report.passed("two nodes"):
        report.add(ROW, SKIPPED, "needs a Python for run.py, and two nodes")
        return
    data = Path(site.get("DATA_DIR") or "data").absolute()
    words = [*ARGUMENTS, f"--data_dir={data}", f"--experiment_name={NAME}"]
    # until run.py has answered, the id of the job is unknown
    report.left["squeue --me and scancel <id>"] = "the training is perhaps not cancelled"
    done = report.run([python, "run.py", *words], cwd=tree, timeout=120)
    if done.code != 124:
        report.left.popitem()
    found = re.search(r"^job (\d+) -> (\S+)", done.out, re.MULTILINE)
    if not found:
        report.add(ROW, FAIL, f"run.py: {shortened(done.said)}", "see the rows above")
        return
    job = found[1]
    try:
        problem, cure = wait_for(report, job, wait)
    finally:
        report.cancel(f"job {job}", [job])
    log = next(iter(tree.glob(f"logs/{NAME}/slurm_out_logs/*_{job}.out")), None)
    judge_run(report, tree, job, problem, cure, log)


def wait_for(report: Report, job: str, wait: float) -> tuple[str, str]:
    """Wait for the end of a job; return what went wrong, and the remedy."""
    began = started = time.monotonic()
    while True:
        state, why = state_of(report, job)
        now = time.monotonic()
        if state in OVER:
            report.show_progress("")
            good = state in ("COMPLETED", "GONE")
            return ("", "") if good else (f"job {job} ended as {state}", "its log says why")
        if state in WAITING:
            started = now
            if now - began > wait:
                return f"job {job} has waited {now - began:.0f} s: {why}", cure_of_waiting(why)
        elif now - started > LONGEST:
            return f"job {job} has run for {now - started:.0f} s", "its log shows where it hangs"
        doing = f"waits in the queue ({why})" if state in WAITING else "trains on two nodes"
        report.show_progress(f"job {job} {doing}, {now - began:.0f} s; Ctrl-C cancels it")
        time.sleep(PAUSE)


def judge_run(
    report: Report, tree: Path, job: str, problem: str, cure: str, log: Path | None
) -> None:
    """Check that the training has ended, with all processes and a test accuracy."""
    text = log_of(log) if log else ""
    errors = "".join(map(log_of, tree.glob(f"logs/{NAME}/slurm_err_logs/*_{job}.err")))
    for name, said in (("log", text), ("errors", errors)):
        report.commands.append(f"the {name} of job {job}:\n{said}".rstrip())
    done = list(tree.glob(f"logs/{NAME}/version_*/DONE.json"))
    processes = re.search(r"processes: (\d+) ", text)
    tested = re.search(r"test loss \S+ acc (\S+)", text)
    where = f"\nlog: {log.absolute()}" if log else ""
    if problem or not done or not tested:
        last = [line for line in errors.splitlines() if line.strip()][-1:]
        found = problem or f"job {job} left no DONE.json"
        shown = f": {shortened(last[0])}" if last else ""
        report.add(ROW, FAIL, f"{found}{shown}{where}", cure or "its log says why")
    elif not processes or processes[1] != "2":
        found = f"job {job} trained with {processes[1] if processes else 'an unknown number of'}"
        report.add(ROW, FAIL, f"{found} processes instead of 2{where}", "see lesson 8")
    else:
        report.add(ROW, PASS, f"job {job} trained with 2 processes, accuracy {tested[1]}")
