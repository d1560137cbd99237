"""Rows about the software that the nodes of the probe job have found: see node.py."""

from __future__ import annotations

import re

from site_checks.probe import Facts, Outcome, host
from site_checks.report import FAIL, PASS, SKIPPED, WARN, Report, shortened
from site_checks.site_file import Site, lines_of

SLOW_S = 60  # an import that takes longer keeps a class waiting
MODULE_ERRORS = re.compile(
    r"module: command not found|Lmod has detected the following error|Unable to locate a modulefile"
    r"|module\(s\) are unknown|ERROR:\s*Unable|ModuleCmd_Load|cannot be loaded",
    re.IGNORECASE,
)


def site_modules(site: Site) -> list[str]:
    """Return the lines of site.sh that load modules."""
    lines = [line.strip() for _, line in lines_of(site.text)]
    return [line for line in lines if re.match(r"(module|ml)\s", line)]


def check_modules(report: Report, site: Site, outcome: Outcome) -> None:
    lines = site_modules(site)
    said = "\n".join(part for part in (outcome.errors, site.said) if part)
    wrong = [line.strip() for line in said.splitlines() if MODULE_ERRORS.search(line)]
    if wrong:
        cure = "correct the module line in site.sh (module avail lists the names)"
        if "command not found" in wrong[0]:
            cure = "write above it in site.sh: source /etc/profile.d/modules.sh (or lmod.sh)"
        where = "in a job" if wrong[0] in outcome.errors else "on this node"
        report.add("modules", FAIL, f"{where}: {shortened(wrong[0])}", cure)
    elif not lines:
        report.add("modules", SKIPPED, "site.sh loads none")
    else:
        loaded = outcome.facts[0].get("modules") if outcome.facts else ""
        report.add("modules", PASS, f"loaded in the job: {loaded or ', '.join(lines)}")


def check_python(report: Report, facts: Facts) -> None:
    old = [one for one in facts if number(one["python"]) < (3, 11)]
    shown = ", ".join(sorted({f"{one['python']} ({one['executable']})" for one in facts}))
    if old:
        cure = "the lessons need Python 3.11: load its module, or create the environment again"
        report.add("Python of jobs", FAIL, shown, cure)
    else:
        report.add("Python of jobs", PASS, shown)


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def check_packages(report: Report, facts: Facts) -> None:
    """The packages of requirements.txt: importable, and of these versions."""
    for one in facts:
        for name, error in (one.get("import_errors") or {}).items():
            cure = "make setup creates the environment; site.sh names it as VENV or PYTHON"
            report.add("packages", FAIL, f"{host(one)} cannot import {name}: {error}", cure)
            return
        if "import_s" not in one:
            cure = "the job ended while it imported the packages: its log is in the report"
            report.add("packages", FAIL, f"{host(one)} has not finished its imports", cure)
            return
    pairs = [pair for one in facts for pair in one["versions"].items()]
    missing = [name for name, (_, found) in pairs if found is None]
    others = [f"{name} {found} instead of {w}" for name, (w, found) in pairs if differs(w, found)]
    slowest = max(one["import_s"] for one in facts)
    cure = "make setup installs the versions of requirements.txt"
    if missing:
        report.add("packages", FAIL, f"missing: {', '.join(dict.fromkeys(missing))}", cure)
    elif others:
        found = ", ".join(dict.fromkeys(others))
        report.add("packages", WARN, f"other versions than those of the course: {found}", cure)
    elif slowest > SLOW_S:
        cure = "see docs/sites.md, slow imports: another file system, or an image"
        report.add("packages", WARN, f"the imports took {slowest:.0f} s", cure)
    else:
        found = f"torch {facts[0].get('torch')} and the others, imported in {slowest:.0f} s"
        report.add("packages", PASS, found)


def differs(wanted: str, found: str | None) -> bool:
    return found is not None and found.partition("+")[0] != wanted.partition("+")[0]


def check_data(report: Report, site: Site, facts: Facts) -> None:
    good: list[str] = []
    wrong: dict[str, list[str]] = {}  # what is wrong -> on which nodes
    for one in facts:
        for fine, text in (one.get("data") or {}).values():
            if fine:
                good.append(text)
            else:
                wrong.setdefault(text, []).append(host(one))
    if wrong:
        found = [f"on {', '.join(on)}, {text.partition('; ')[0]}" for text, on in wrong.items()]
        report.add("data", FAIL, "\n".join(found), cure_of_data(site, list(wrong)))
    elif not good:
        cure = "the job ended before it looked at them: its log is in the report"
        report.add("data", FAIL, "the nodes have not looked at the data", cure)
    else:
        report.add("data", PASS, "\n".join(text[len("data: ") :] for text in dict.fromkeys(good)))


def cure_of_data(site: Site, wrong: list[str]) -> str:
    """Return the remedies that data/check.py names, with the Python of this site."""
    cures = []
    missing = [text for text in wrong if "data/make_sample.py" in text]
    if missing and not site.env.get("DATA_DIR"):
        cures.append("if the data are elsewhere, write into site.sh: export DATA_DIR=<folder>")
    for text in wrong:
        cure = text.partition("; ")[2] or "fetch it: bash data/get_mnist.sh"
        cures.append(cure.partition(', or "env/bin/python')[0])
    if missing:
        folder = ' "$DATA_DIR"' if site.env.get("DATA_DIR") else ""
        sample = f"source cluster/job_env.sh; $PYTHON data/make_sample.py{folder}"
        cures.append(f"or write the small samples: bash -c '{sample}'")
    return "\n".join(dict.fromkeys(cures))


def check_internet(report: Report, facts: Facts) -> None:
    """Say whether the nodes have internet; wrong is only a weights folder that they cannot read."""
    weights = [one for one in facts if one.get("weights")]
    if weights:
        found = f"TORCH_HOME cannot be read on {host(weights[0])}: {weights[0]['weights']}"
        cure = "fetch the weights on this node: bash src/utils/cache_models.sh resnet18 resnet50"
        report.add("internet", FAIL, found, cure)
    elif any(one.get("internet") for one in facts):
        found = "none on the compute nodes, which the lessons allow for: fetch data and pretrained"
        found += " weights on this node (lesson 7: bash src/utils/cache_models.sh resnet18)"
        report.add("internet", PASS, found)
    else:
        report.add("internet", PASS, "the compute nodes reach it")
