"""Rows about the machines on which the probe job ran: see node.py."""

from __future__ import annotations

import re
from typing import Any

from site_checks.probe import Facts, Outcome, host
from site_checks.report import FAIL, PASS, SKIPPED, WARN, Report
from site_checks.site_file import Site, without_count
from site_checks.slurm import Partition

NEED_MB = 2048  # the logs and checkpoints of all lessons
SHM_MB = 64  # batches of the worker processes
CLOCK_S = 5.0


def check_disk(report: Report, facts: Facts) -> None:
    broken = [one for one in facts if one.get("write_error")]
    least = min(one["disk_free_mb"] for one in facts)
    if broken:
        found = f"{host(broken[0])} cannot write a file of 64 MB: {broken[0]['write_error']}"
        cure = "free some space or ask for more quota (quota -s shows it), or clone elsewhere"
        report.add("disk space", FAIL, found, cure)
        return
    done = report.run(["quota", "-s"])
    found, state, cure = f"{least / 1024:.0f} GB free for logs and checkpoints", PASS, ""
    full = full_quota(done.out)
    if least < NEED_MB:
        found = f"{least} MB free; the logs of all lessons need {NEED_MB // 1024} GB per person"
        state, cure = WARN, "remove old logs, or clone the course to a larger file system"
    elif full:
        state, found, cure = WARN, f"{found}, but {full}", "free some space, or ask for more quota"
    slowest = max(one.get("write_s", 0) for one in facts)
    report.add("disk space", state, f"{found}; 64 MB written in {slowest} s", cure)


def full_quota(text: str) -> str:
    """Return the file system on which over 90 % of the quota is used, or ""."""
    lines = re.findall(r"(\S+)\s+(\d+)([KMGT]?)\*?\s+(\d+)([KMGT]?)\s+\d+", text)
    sizes = {"": 1, "K": 1, "M": 1024, "G": 1024**2, "T": 1024**3}
    for name, used, unit, limit, unit_of_limit in lines:
        most = int(limit) * sizes[unit_of_limit]
        if most and int(used) * sizes[unit] > 0.9 * most:
            return f"{used}{unit} of the quota of {limit}{unit_of_limit} on {name} are used"
    return ""


def check_shm(report: Report, facts: Facts) -> None:
    least = min(facts, key=lambda one: int(one["shm_mb"]))
    size = least["shm_mb"]
    if size < SHM_MB:
        shown = "is missing" if size < 0 else f"has {size} MB free"
        found = f"/dev/shm {shown} on {host(least)}; worker processes need {SHM_MB} MB"
        cure = "ask the help desk, or use 0 workers from lesson 3 on (run.py: --num_workers=0)"
        report.add("/dev/shm", FAIL, found, cure)
    else:
        report.add("/dev/shm", PASS, f"{size} MB free, for worker processes")


def check_resources(report: Report, facts: Facts) -> None:
    few = [one for one in facts if one["cpus"] < one["cpus_asked"]]
    tight = [one for one in facts if 0 < one["mem_limit_mb"] < one["mem_asked_mb"]]
    if few:
        one = few[0]
        found = (
            f"on {host(one)}, a task gets {one['cpus']} of the {one['cpus_asked']} requested CPUs"
        )
        cure = "worker processes will share them: ask the help desk how --cpus-per-task works here"
        report.add("CPUs and memory", WARN, found, cure)
    elif tight:
        one = tight[0]
        found = f"{host(one)} limits the job to {one['mem_limit_mb']} MB of {one['mem_asked_mb']}"
        cure = "ask for more in site.sh, such as export SBATCH_MEM_PER_NODE=4G"
        report.add("CPUs and memory", FAIL, found, cure)
    else:
        one = facts[0]
        memory = f"{one['mem_asked_mb']} MB" if one["mem_asked_mb"] else "the site's default memory"
        found = f"as requested: {one['cpus_asked']} CPUs per task, {memory} per node"
        report.add("CPUs and memory", PASS, found)


def check_requeue(report: Report, facts: Facts) -> None:
    flags = {str(one["requeue"]) for one in facts}
    if flags == {"1"}:
        report.add("requeue", PASS, "allowed, and the nodes have scontrol (lesson 9)")
    elif "no scontrol" in flags:
        cure = "jobs of lesson 9 save, but you continue them by hand: run.py --resume <folder>"
        report.add("requeue", WARN, "the compute nodes have no scontrol", cure)
    else:
        cure = "jobs of lesson 9 do not return to the queue: continue them with run.py --resume"
        found = f"Slurm does not requeue jobs here (Requeue={', '.join(sorted(flags))})"
        report.add("requeue", FAIL, found, cure)


def check_clocks(report: Report, outcome: Outcome) -> None:
    apart = max((abs(one.get("clock_apart_s", 0.0)) for one in outcome.facts), default=0.0)
    wrong = 0.0  # seconds outside the time in which the job must have begun
    for one in outcome.facts:
        early, late = outcome.before - one["began"], one["began"] - outcome.after
        wrong = max(wrong, early, late if outcome.after else 0.0)
    cure = "ask the help desk: Slurm refuses messages whose times differ by 5 minutes"
    if max(apart, wrong) > CLOCK_S:
        between = "the two nodes" if apart > wrong else "this node and a compute node"
        found = f"the clocks of {between} differ by {max(apart, wrong):.0f} s"
        report.add("clocks", WARN if max(apart, wrong) < 60 else FAIL, found, cure)
    else:
        report.add("clocks", PASS, f"agree: nodes within {apart:.1f} s of each other")


def check_network(report: Report, outcome: Outcome) -> None:
    facts = outcome.facts
    if outcome.nodes < 2:
        report.add("MASTER_ADDR", SKIPPED, "needs two nodes")
        return
    wrong = [one for one in facts if one.get("network_error")]
    master = facts[0].get("master", "?")
    if wrong:
        found = (
            f"{host(wrong[-1])} and rank 0 at {master} do not connect: {wrong[-1]['network_error']}"
        )
        cure = "lesson 8 cannot run on several nodes: ask the help desk to open the ports 20000 to"
        cure += " 29999 and those above 32767 between compute nodes"
        report.add("MASTER_ADDR", FAIL, found, cure)
    else:
        report.add("MASTER_ADDR", PASS, f"the second node and rank 0 at {master} reach each other")


def check_gpus(report: Report, site: Site, partition: Partition, facts: Facts) -> None:
    name = without_count(site.get("GRES"))
    if not name:
        found = "site.sh sets no GRES"
        if partition.gres:
            found += f"; to train on the GPUs ({partition.gres}), write into site.sh: export"
            found += f" GRES={partition.gpu_name}"
        report.add("GPU of a job", SKIPPED, found)
        return
    for one in facts:
        if not one.get("gpus"):
            found = f"PyTorch {one.get('torch')} sees no GPU on {host(one)} with --gres={name}:1"
            found += f" ({one['gpu_error']})" if one.get("gpu_error") else ""
            cure = (
                "to run the course on the CPUs instead, delete the line GRES from site.sh; you can"
                " then ignore a warning in the row GPU job"
            )
            report.add("GPU of a job", FAIL, found, f"{cure_of_no_gpu(one)}\n{cure}")
            return
    report.add("GPU of a job", PASS, f"PyTorch sees {facts[0]['gpus']} GPU with --gres={name}:1")


def cure_of_no_gpu(one: dict[str, Any]) -> str:
    if "+cpu" in str(one.get("torch")):
        return "this PyTorch is a build without CUDA: install another one, make setup TORCH=pypi"
    return (
        "either a container does not pass the GPUs through (Apptainer: exec --nv), or the"
        " driver is missing on the node: ask the help desk"
    )
