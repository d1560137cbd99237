"""Rows about what the nodes of the probe job have found: see node.py."""

from __future__ import annotations

import re

from site_checks.judge_machine import (
    check_clocks,
    check_disk,
    check_gpus,
    check_network,
    check_requeue,
    check_resources,
    check_shm,
)
from site_checks.judge_software import (
    check_data,
    check_internet,
    check_modules,
    check_packages,
    check_python,
    site_modules,
)
from site_checks.probe import Outcome, host
from site_checks.report import FAIL, PASS, SKIPPED, WARN, Report, shortened
from site_checks.site_file import Site
from site_checks.slurm import Partition

ROWS = [
    *("probe job", "two nodes", "shared folder", "modules", "Python of jobs", "packages", "data"),
    *("internet", "disk space", "/dev/shm", "CPUs and memory", "requeue", "clocks", "MASTER_ADDR"),
    "GPU of a job",
]
CURES = {
    "TIMEOUT": "the imports are too slow: use another file system or an image (docs/sites.md)",
    "OUT_OF_MEMORY": "write into site.sh: export SBATCH_MEM_PER_NODE=4G",
}
NO_PYTHON = r"does not run (?:Python )?here|No Python environment"


def judge(report: Report, site: Site, partition: Partition, outcome: Outcome) -> None:
    """Add a row for everything that the probe looks at."""
    facts = outcome.facts
    if not job_ran(report, site, outcome):
        if site_modules(site):
            check_modules(report, site, outcome)
        return
    check_two_nodes(report, outcome)
    check_folder(report, outcome)
    check_modules(report, site, outcome)
    check_python(report, facts)
    check_packages(report, facts)
    check_data(report, site, facts)
    check_internet(report, facts)
    check_disk(report, facts)
    check_shm(report, facts)
    check_resources(report, facts)
    check_requeue(report, facts)
    check_clocks(report, outcome)
    check_network(report, outcome)
    check_gpus(report, site, partition, facts)


def job_ran(report: Report, site: Site, outcome: Outcome) -> bool:
    errors = last_lines(outcome.errors)
    row = report.row_that_says(outcome.problem)
    if row and not outcome.job:
        report.add("probe job", SKIPPED, f"it is refused for the same reason: see {row}")
        return False
    if outcome.problem and not outcome.facts:
        cure = outcome.cure or "see the rows above: jobs of the lessons would be refused, too"
        report.add("probe job", FAIL, outcome.problem, cure)
        return False
    if not outcome.facts:
        cure = "the last line of its log names the cause; the whole log is in the report"
        if not outcome.errors and not outcome.output:
            errors = (
                "it left no log in this folder: perhaps the compute nodes do not see the folder"
            )
            cure = "clone the course into a folder that all nodes see, such as your home"
        elif re.search(NO_PYTHON, outcome.errors):
            cure = cure_of_python(site)
        report.add("probe job", FAIL, f"job {outcome.job} reported nothing: {errors}", cure)
        return False
    crashed = [one for one in outcome.facts if not one.get("done")]
    if crashed or outcome.problem:
        step = crashed[0].get("importing") if crashed else ""
        while_ = f" while importing {step}" if step else ""
        found = f"job {outcome.job} ended early, as {outcome.state}{while_}: "
        cure = "the last line of its log names the cause; the whole log is in the report"
        cure = CURES.get(outcome.state, cure)
        report.add("probe job", FAIL, found + (outcome.problem or errors), cure)
    else:
        hosts = ", ".join(host(one) for one in outcome.facts)
        report.add(
            "probe job", PASS, f"job {outcome.job} ran on {hosts}, after {outcome.waited:.0f} s"
        )
    return True


def cure_of_python(site: Site) -> str:
    if site.get("PYTHON") or site.get("VENV"):
        return "look at the site.sh line of VENV or PYTHON, and at the modules (docs/sites.md)"
    return (
        "write the Python of your site into site.sh, as in step 2 of docs/instructor.md: export"
        " VENV=<folder> or export PYTHON=<command>"
    )


def last_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    ours = [line for line in lines if re.search(NO_PYTHON, line)]
    others = [line for line in lines if not line.startswith(("slurmstepd:", "srun:"))]
    return shortened(" / ".join(ours[:1] or others[-2:] or lines[-2:]))


def check_two_nodes(report: Report, outcome: Outcome) -> None:
    if outcome.refused:
        cure = "lesson 8 needs two nodes: use a partition or QOS that allows them"
        report.add("two nodes", WARN, f"one node instead of two; {outcome.refused}", cure)
    elif len(outcome.facts) < outcome.nodes:
        cure = "ask the help desk: a node of the job has started no task"
        only = ", ".join(map(host, outcome.facts))
        report.add("two nodes", FAIL, f"only {only} has reported", cure)
    else:
        report.add("two nodes", PASS, "both nodes ran one task each")


def check_folder(report: Report, outcome: Outcome) -> None:
    facts = outcome.facts
    blind = [one for one in facts if one.get("sees_other") is False]
    if blind:
        found = (
            f"{host(blind[0])} does not see what the other node writes to {facts[0].get('folder')}"
        )
        cure = "clone the course into a folder that all nodes share, such as your home"
        report.add("shared folder", FAIL, found, cure)
    elif len(facts) < outcome.nodes:
        found = f"only {host(facts[0])} has written to {facts[0].get('folder')}"
        cure = "clone the course into a folder that all nodes share, such as your home"
        report.add("shared folder", FAIL, found, cure)
    elif len(facts) < 2:
        report.add("shared folder", PASS, f"{host(facts[0])} writes, and this node reads")
    else:
        found = "each node reads what the other one and this node write"
        report.add("shared folder", PASS, found)
