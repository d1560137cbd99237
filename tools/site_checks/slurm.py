"""Rows about Slurm: its commands, the controller, and what site.sh asks for."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from site_checks.report import FAIL, PASS, SKIPPED, WARN, Answer, Report, ending, shortened
from site_checks.site_file import Site, assigned

COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct")
ROWS = [
    *("Slurm's commands", "controller", "squeue", "sacct", "partition", "account", "QOS"),
    *("reservation", "short job"),
]
# what sbatch says -> the row that it belongs to; first match wins
SENTENCES = {
    r"account|association": "account",
    r"partition": "partition",
    r"qos": "QOS",
    r"reservation": "reservation",
}
NAMES = {"account": "SBATCH_ACCOUNT", "QOS": "SBATCH_QOS", "reservation": "SBATCH_RESERVATION"}
CURES = {
    "partition": "write a partition of sinfo into site.sh: export SBATCH_PARTITION=<name>",
    "account": "write one of your accounts into site.sh: export SBATCH_ACCOUNT=<name> (they are"
    " listed by: sacctmgr show associations user=$USER format=account,partition,qos)",
    "QOS": "write a QOS of yours into site.sh: export SBATCH_QOS=<name> (they are listed by:"
    " sacctmgr show associations user=$USER format=account,qos)",
    "reservation": "remove export SBATCH_RESERVATION=... from site.sh, or name one of these:",
}
# states of nodes that run jobs, or could
WORKING = re.compile(r"(idle|mix|mixed|alloc|allocated|comp|completing|resv|plnd|planned)[~#%-]?")
SHORT = "#!/bin/bash\n#SBATCH --test-only\n#SBATCH --nodes=1\n#SBATCH --time=1\ntrue\n"


@dataclass
class Partition:
    """A partition of Slurm, as `scontrol show partition` shows it."""

    fields: dict[str, str] = field(default_factory=dict)
    usable: int = 0  # nodes; -1 if sinfo does not show them
    gres: str = ""

    @property
    def name(self) -> str:
        return self.fields.get("PartitionName", "")

    @property
    def gpu_name(self) -> str:
        """Return the name of its GPUs for GRES: without their number, and sockets in brackets."""
        kind = re.match(r"gpu(?::(?=[\w.-]*[A-Za-z])[\w.-]+)?", self.gres)
        return kind[0] if kind else "gpu"


def fields_of(text: str) -> dict[str, str]:
    """Return the fields of a line of scontrol."""
    return dict(word.split("=", 1) for word in text.split() if "=" in word)


def check_slurm(report: Report, site: Site, folder: Path) -> Partition | None:
    """Add the rows; return the partition of the jobs, or None if no job can be submitted."""
    missing = [name for name in COMMANDS if not shutil.which(name, path=site.env.get("PATH"))]
    if "sbatch" in missing:
        cure = "run make preflight on a login node of the cluster; on a laptop, use make run"
        report.add("Slurm's commands", FAIL, "this machine has no sbatch", cure)
        return None
    if missing:
        found = f"not found: {', '.join(missing)}"
        cure = "add the folder of sbatch to PATH, or load its module, in site.sh"
        report.add("Slurm's commands", FAIL, found, cure)
        return None
    report.add("Slurm's commands", PASS, f"{', '.join(COMMANDS)} are here")
    if not controller_answers(report):
        return None
    check_queue(report)
    partition = check_partition(report, site)
    if partition is None:
        return None
    answer = submit_trial(report, folder / "short.sh", SHORT)
    check_names(report, site, partition, answer)
    refused = any(row.state == FAIL and row.name in NAMES for row in report.rows)
    # where sbatch hangs, each further job would take a minute
    return None if refused or answer.code == 124 else partition


def controller_answers(report: Report) -> bool:
    ping = report.run(["scontrol", "ping"])
    up = re.search(r"^.*Slurmctld.* (?:is|are) UP", ping.out, re.MULTILINE)
    if ping.code or not up:
        said = sentence(ping)
        cure = cure_of_controller(report, said)
        report.add("controller", FAIL, f"does not answer: {said}", cure)
        return False
    version = re.search(r"^slurm\S* \S+", report.run(["scontrol", "--version"]).out, re.MULTILINE)
    report.run(["scontrol", "show", "config"])
    report.add("controller", PASS, f"{version[0] if version else 'Slurm'}: {up[0].strip()}")
    return True


def cure_of_controller(report: Report, said: str) -> str:
    if not re.search(r"No cluster '.*' known", said):
        return (
            "wait, or ask the help desk; sinfo shows when it is back (practice cluster: make"
            " cluster-up)"
        )
    shown = report.run(["sacctmgr", "--noheader", "show", "clusters", "format=cluster%40"])
    known = shown.out.split() if not shown.code else []
    clusters = f", with one of: {', '.join(known)}" if known else " with the name of a cluster"
    return f"correct the line in site.sh: export SLURM_CLUSTERS=<name>{clusters}"


def check_queue(report: Report) -> None:
    """squeue and sacct, with the options that the pages use."""
    shown = report.run(["squeue", "--me"])
    if shown.code:
        cure = "the lessons call squeue --me, which needs Slurm 20.02: use squeue --user=$USER"
        report.add("squeue", FAIL, shortened(shown.said), cure)
    else:
        jobs = re.findall(r"^ *\d", shown.out, re.MULTILINE)
        report.add("squeue", PASS, f"works; jobs of yours now: {len(jobs)}")
    shown = report.run(["sacct", "--noheader", "--starttime=now-1hours", "--format=JobID,State"])
    if shown.code or "disabled" in shown.said:
        cure = (
            "the lessons show ended jobs with sacct: tell the class to use scontrol show job"
            " <id> instead, and ask the help desk for accounting"
        )
        report.add("sacct", WARN, f"no accounting: {shortened(shown.said)}", cure)
    else:
        report.add("sacct", PASS, "works")


def check_partition(report: Report, site: Site) -> Partition | None:
    """Look for the partition that site.sh names, or for the default one."""
    shown = report.run(["scontrol", "--oneliner", "show", "partition"])
    found = [fields_of(line) for line in shown.out.splitlines() if line]
    by_name = {one["PartitionName"]: one for one in found if "PartitionName" in one}
    wanted = site.env.get("SBATCH_PARTITION", "")
    names = wanted.split(",") if wanted else [n for n in by_name if is_default(by_name[n])]
    missing = [name for name in names if name not in by_name]
    there = ", ".join(by_name) or "none"
    if missing or not names:
        what = f"there is no partition {missing[0]}" if missing else "there is no default partition"
        cure = f"write one of them into site.sh: export SBATCH_PARTITION={next(iter(by_name), '')}"
        if wanted and "SBATCH_PARTITION" not in assigned(site.text):
            cure = "it comes from your shell, not from site.sh: unset SBATCH_PARTITION"
        report.add("partition", FAIL, f"{what}; partitions: {there}", cure)
        return None
    partition = Partition(by_name[names[0]])
    count_nodes(report, partition)
    state, limit = partition.fields.get("State", ""), partition.fields.get("MaxTime", "")
    nodes = partition.usable if partition.usable >= 0 else "unknown"
    about = f"{partition.name}: state {state}, time limit {limit}, usable nodes: {nodes}"
    about += f", {partition.gres}" if partition.gres else ""
    if state != "UP":
        cure = "wait until it is up, or write another one into site.sh: export SBATCH_PARTITION=..."
        report.add("partition", FAIL, about, cure)
        return None
    if not partition.usable:
        cure = "sinfo --list-reasons says why its nodes are down or drained: ask the help desk"
        report.add("partition", FAIL, about, cure)
        return None
    if partition.usable == 1:
        cure = "lesson 8 needs two nodes: use another partition, or leave out its two-node jobs"
        report.add("partition", WARN, about, cure)
    else:
        report.add("partition", PASS, about)
    return partition


def is_default(fields: dict[str, str]) -> bool:
    return fields.get("Default") == "YES"


def count_nodes(report: Report, partition: Partition) -> None:
    """Count the nodes that run jobs now or could, and read the GPUs that they have."""
    command = ["sinfo", "--noheader", "--Node", f"--partition={partition.name}"]
    shown = report.run([*command, "--format=%N %t %G"])
    nodes = {}
    for line in shown.out.splitlines():
        name, state, gres = (*line.split(), "", "", "")[:3]
        if name == "CLUSTER:":  # of a federation
            continue
        nodes[name] = state
        if "gpu" in gres:
            partition.gres = gres
    if shown.code or not nodes:
        partition.usable = -1
        return
    partition.usable = sum(bool(WORKING.fullmatch(state)) for state in nodes.values())


def sentence(answer: Answer) -> str:
    """Return why sbatch refuses a job, without what it always says, and what a wrapper adds."""
    lines = [line.strip() for line in f"{answer.err}\n{answer.out}".splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(error|fatal|failure): ", line)]
    said = [re.sub(r"^(sbatch: )?(error|fatal|allocation failure): ", "", line) for line in errors]
    said = [line.replace("Batch job submission failed: ", "") for line in said]
    why = "; ".join(dict.fromkeys(said)) or answer.said or ending(answer.code)
    return shortened(why)


def submit_trial(report: Report, script: Path, text: str) -> Answer:
    """Pass a script with --test-only to sbatch, in the way of run.py."""
    script.write_text(text)
    return report.run(["bash", "src/launch/submit.sh", str(script)], timeout=60, who="sbatch")


def row_of(sentence: str) -> str:
    for pattern, row in SENTENCES.items():
        if re.search(pattern, sentence, re.IGNORECASE):
            return row
    return "short job"


def check_names(report: Report, site: Site, partition: Partition, answer: Answer) -> None:
    """Add the rows of account, QOS and reservation, and of a job that asks for nothing else."""
    why = sentence(answer) if answer.code else ""
    refused = row_of(why) if why else ""
    if refused == "partition":
        refused = "short job"  # its row has looked at the partition itself
    for row, name in NAMES.items():
        value = site.env.get(name, "")
        about = f"{name}={value}" if value else f"site.sh sets no {name}"
        if row == refused:
            add_refused(report, site, partition, row, why)
        elif why:
            found = f"sbatch refuses the job for another reason: see the row {refused}"
            report.add(row, SKIPPED, found)
        elif row == "account" and value:
            check_account(report, value)
        else:
            report.add(
                row, PASS, f"{about}: accepted" if value else f"{about}, and sbatch needs none"
            )
    if refused == "short job":
        cure = "the message of sbatch names the cause; see also sinfo"
        cure = CURES.get(row_of(why), cure)
        report.add("short job", FAIL, f"sbatch: {why}", cure)
    elif why:
        report.add("short job", SKIPPED, f"refused because of the {refused}, see above")
    else:
        start = re.search(r"to start at \S+", answer.said)
        report.add("short job", PASS, f"accepted{', ' + start[0] if start else ''}")


def add_refused(report: Report, site: Site, partition: Partition, row: str, why: str) -> None:
    """Add the row of an account, a QOS or a reservation that sbatch refuses."""
    name = NAMES[row]
    value = site.env.get(name, "")
    about, cure = f"{name}={value}" if value else f"site.sh sets no {name}", CURES[row]
    if row == "account":
        about, cure = account_refused(report, value, partition)
    elif row == "reservation":
        cure = cure_of_reservation(report)
    if value and name not in assigned(site.text):
        cure = f"it comes from your shell, not from site.sh: unset {name}"
    report.add(row, FAIL, f"{about}; sbatch: {why}", cure)


def account_refused(report: Report, account: str, partition: Partition) -> tuple[str, str]:
    """Return what is wrong with the account of a job, and the remedy."""
    about = "site.sh sets no SBATCH_ACCOUNT"
    if account:
        about = f"SBATCH_ACCOUNT={account} is not one of your accounts, or may not use"
        about += f" {partition.name}"
    others = [name for name in own_accounts(report) if name != account]
    cure = CURES["account"]
    if others:
        cure = f"write into site.sh: export SBATCH_ACCOUNT={others[0]}"
    if len(others) > 1:
        cure += f" (your accounts: {', '.join(others)})"
    return about, cure


def cure_of_reservation(report: Report) -> str:
    shown = report.run(["scontrol", "--oneliner", "show", "reservation"])
    names = re.findall(r"ReservationName=(\S+)", shown.out)
    if not names:
        return "there is no reservation now: remove export SBATCH_RESERVATION=... from site.sh"
    return f"{CURES['reservation']} {', '.join(names)}"


def check_account(report: Report, account: str) -> None:
    """Add the row of an account that sbatch accepts."""
    accounts = own_accounts(report)
    if accounts and account not in accounts:
        found = f"sbatch accepts {account}, but sacctmgr does not list it among your accounts"
        cure = f"write into site.sh: export SBATCH_ACCOUNT=<one of {', '.join(accounts)}>"
        report.add("account", WARN, found, cure)
    else:
        report.add("account", PASS, f"SBATCH_ACCOUNT={account}: accepted")


def own_accounts(report: Report) -> list[str]:
    """Return the accounts that sacctmgr lists; none if it does not answer."""
    user = "user=" + report.env.get("USER", "")
    command = ["sacctmgr", "-nP", "show", "associations", user, "format=account,partition,qos"]
    shown = report.run(command)
    names = [line.split("|")[0].strip() for line in shown.out.splitlines() if "|" in line]
    return [] if shown.code else list(dict.fromkeys(filter(None, names)))
