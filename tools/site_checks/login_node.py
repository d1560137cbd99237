"""Rows about the login node: tools, a Python for run.py, the lesson branches, accounting."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

from site_checks.report import FAIL, PASS, WARN, Report, shortened
from site_checks.site_file import Site

# what run.py needs: until lesson 9, and from lesson 10 on
VERSION = "import sys; sys.exit(sys.version_info < (3, 11))"
PACKAGES = (
    "import hydra, omegaconf, pydantic, tensorboard, sys; sys.exit(sys.version_info < (3, 11))"
)
TOOLS = ("git", "make", "python3")
ROWS = ["tools", "lesson branches", "site.sh", "settings", "Python here"]


def check_tools(report: Report, path: str) -> None:
    missing = [name for name in TOOLS if not shutil.which(name, path=path)]
    if missing:
        cure = "install it, or load its module in site.sh (module avail lists them)"
        report.add("tools", FAIL, f"not found: {', '.join(missing)}", cure)
        return
    versions = [report.run([name, "--version"]).said for name in TOOLS]
    numbers = [re.search(r"\d[\d.]*", said) for said in versions]
    shown = [n[0] if n else "?" for n in numbers]
    found = f"git {shown[0]}, make {shown[1]}, python3 {shown[2]}"
    if tuple(map(int, re.findall(r"\d+", shown[2])[:2])) < (3, 9):
        cure = "load a module with Python 3.11 or newer (module avail python)"
        report.add("tools", FAIL, f"{found}: the tools of the course need 3.9", cure)
    else:
        report.add("tools", PASS, found)


def find_python(report: Report, site: Site) -> tuple[str, bool]:
    """Return a Python 3.11 for run.py, or "", and whether it has the packages."""
    own = [Path(site.get("VENV") or "env", "bin/python").absolute()]
    own += [Path(word).absolute() for word in [site.get("PYTHON")] if Path(word).is_file()]
    names = [*map(str, own), "python", "python3", sys.executable]
    found = [name for name in names if shutil.which(name, path=site.env.get("PATH"))]
    for program in (PACKAGES, VERSION):
        for python in dict.fromkeys(found):
            if report.run([python, "-c", program], timeout=60).code == 0:
                return python, program == PACKAGES
    return "", False


def check_python(report: Report, site: Site) -> str:
    """Add the row; return the Python that runs run.py here, or ""."""
    python, has_packages = find_python(report, site)
    if has_packages:
        found = f"{python} has the packages that run.py and TensorBoard need"
        report.add("Python here", PASS, found)
    elif python:
        found = (
            f"{python} runs run.py of lessons 4 to 9, and check.py; what needs packages does not"
        )
        found += " work here: several trials (--nb_trials), lesson 10, TensorBoard"
        report.add("Python here", WARN, found, cure_of_python(site))
    else:
        found = "no Python 3.11 or newer runs here, so run.py (from lesson 4 on) cannot submit jobs"
        report.add("Python here", FAIL, found, cure_of_python(site))
    return python


def cure_of_python(site: Site) -> str:
    if site.get("PYTHON"):
        return (
            "create a small environment for the login node, and activate it: make setup TORCH=cpu"
        )
    venv = site.get("VENV")
    where = f" VENV={shlex.quote(venv)}" if venv else ""
    other = "" if venv else ", or write the Python of your site into site.sh: export PYTHON=..."
    return f"create the environment: make setup{where}{other}"


def check_branches(report: Report) -> None:
    # as tools/lessons.py names them; an editor's copy, such as "9x.txt", is none
    files = Path("lessons").glob("[0-9]*.txt")
    names = {path.stem for path in files if re.fullmatch("[0-9]+-.*", path.stem)}
    shown = report.run(["git", "for-each-ref", "--format=%(refname)", "refs/heads", "refs/remotes"])
    there = {line.rpartition("/")[2] for line in shown.out.splitlines()}
    missing = sorted(names - there, key=lambda name: int(name.partition("-")[0]))
    if shown.code:
        cure = "get the course with git clone: only a clone has the lesson branches"
        report.add("lesson branches", FAIL, shortened(shown.said), cure)
    elif missing:
        found = f"{len(missing)} of {len(names)} are missing, beginning with {missing[0]}"
        report.add("lesson branches", FAIL, found, "build them: make lessons")
    else:
        report.add("lesson branches", PASS, f"all {len(names)} are here")
