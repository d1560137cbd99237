"""Rows about site.sh: can it be read, and does something read what it sets?"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from site_checks.report import FAIL, PASS, WARN, Answer, Report, answer_of

# what the course reads; a shell variable is enough for those that only shell scripts read
OF_SHELL = ("PYTHON", "VENV", "GRES", "NO_MEM")
OF_PROGRAMS = ("DATA_DIR", "TORCH_HOME")
# what sbatch reads: "INPUT ENVIRONMENT VARIABLES" of its manual page
OF_SBATCH = """
ACCOUNT ACCTG_FREQ ARRAY_INX BATCH CLUSTERS CONSTRAINT CONTAINER CONTAINER_ID CORE_SPEC CPUS_PER_GPU
DEBUG DELAY_BOOT DISTRIBUTION ERROR EXCLUSIVE EXPORT GET_USER_ENV GPUS GPUS_PER_NODE GPUS_PER_TASK
GPU_BIND GPU_FREQ GRES GRES_FLAGS HINT IGNORE_PBS INPUT JOB_NAME MEM_BIND MEM_PER_CPU MEM_PER_GPU
MEM_PER_NODE NETWORK NO_KILL NO_REQUEUE OPEN_MODE OUTPUT OVERCOMMIT PARTITION POWER PROFILE QOS
REQUEUE REQ_SWITCH RESERVATION SEGMENT SIGNAL SPREAD_JOB THREADS_PER_CORE THREAD_SPEC TIMELIMIT
TRES_BIND TRES_PER_TASK USE_MIN_NODES WAIT WAIT4SWITCH WAIT_ALL_NODES WCKEY
"""
SBATCH = [f"SBATCH_{name}" for name in OF_SBATCH.split()]
# names that only look like a mistake
OTHERS = ("PYTHONPATH", "PYTHONHOME", "PYTHON3", "PATH", "HOME", "VIRTUAL_ENV", "TMPDIR")
# what a login shell must not do; site.sh is also sourced there
FORBIDDEN = {
    r"\s*exit\b": "exit",
    r"\s*set\s+(-\w*e|-o\s+errexit)": "set -e",
    r"\s*set\s+(-\w*u|-o\s+nounset)": "set -u",
}
TIME = r"(\d+-)?\d+(:\d+){0,2}|UNLIMITED|INFINITE"  # as sbatch reads it
ASSIGNED = re.compile(r"(?:^|[;&]|\bexport|\bdeclare -x)\s*([A-Za-z_]\w*)=")
# the values that site.sh gives, as every script of the course reads them
READ = """
source cluster/site_env.sh >&2
for name in PYTHON VENV GRES NO_MEM; do printf '%s=%s\\0' "$name" "${!name:-}"; done
printf '\\0'; env -0
"""


@dataclass
class Site:
    """What site.sh sets, and the environment of a shell that has read it."""

    text: str
    values: dict[str, str]
    env: dict[str, str]
    said: str = ""  # on standard error

    def get(self, name: str) -> str:
        return self.values.get(name) or self.env.get(name, "")


def without_settings(env: dict[str, str], names: list[str]) -> dict[str, str]:
    """Return an environment in which a name is exported only if site.sh exports it."""
    return {name: value for name, value in env.items() if name not in names}


def check_site(report: Report) -> Site | None:
    """Read site.sh; return None if that is impossible."""
    path = Path("site.sh")
    text = ""
    try:
        if os.path.lexists(path):
            text = path.read_text(errors="replace")
    except OSError as error:
        cure = "make it readable: chmod u+r site.sh"
        report.add("site.sh", FAIL, f"cannot be read ({error.strerror})", cure)
        return None
    env = without_settings(dict(os.environ), assigned(text))
    done = answer_of(["bash", "-c", READ], 60, env, None)
    # its output is the whole environment, which may contain passwords
    report.record("source cluster/site_env.sh", Answer(done.code, "", done.err))
    if done.code:
        cure = "fix the line that the message names, then try: bash -n site.sh && source site.sh"
        report.add("site.sh", FAIL, " ".join(done.err.split()), cure)
        return None
    own, _, exported = done.out.partition("\0\0")
    site = Site(text, pairs(own), pairs(exported), done.err)
    report.env = site.env
    wrong = forbidden(text)
    if wrong:
        cure = "remove it from site.sh, which is also sourced in the shells where people work"
        report.add("site.sh", FAIL, f"line {wrong[0][0]} is {wrong[0][1]!r}", cure)
    elif not text:
        found = "no site.sh: jobs use the defaults of this cluster, and the environment env/"
        report.add("site.sh", PASS, found)
    else:
        report.add(
            "site.sh", PASS, f"can be read; it sets {', '.join(assigned(text)) or 'nothing'}"
        )
    return site


def pairs(text: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in text.split("\0") if "=" in pair)


def lines_of(text: str) -> list[tuple[int, str]]:
    """Return the lines that are not comments, with their numbers."""
    lines = enumerate(text.splitlines(), 1)
    return [(number, line) for number, line in lines if not line.lstrip().startswith("#")]


def assigned(text: str) -> list[str]:
    """Return the names that site.sh sets, in order."""
    names: list[str] = []
    for _, line in lines_of(text):
        line = re.sub(r"\"[^\"]*\"|'[^']*'", "''", line)  # PYTHON="env FOO=1 python" sets no FOO
        if re.match(r"\s*export\s", line):
            names += re.findall(r"(?:^|\s)([A-Za-z_]\w*)=", line)
        names += ASSIGNED.findall(line)
    return list(dict.fromkeys(names))


def forbidden(text: str) -> list[tuple[int, str]]:
    return [
        (number, line.strip())
        for number, line in lines_of(text)
        for pattern in FORBIDDEN
        if re.match(pattern, line)
    ]


def check_settings(report: Report, site: Site) -> None:
    """Look for names that nothing reads, and for those that are not exported."""
    names = assigned(site.text)
    problems = [*unread(names), *not_exported(site, names), *wrong_values(site)]
    if {"PYTHON", "VENV"} <= set(names):
        found = "site.sh sets both PYTHON and VENV; jobs use PYTHON"
        problems.append((WARN, found, "remove the line with VENV, or the one with PYTHON"))
    if problems:
        state = FAIL if any(one[0] == FAIL for one in problems) else WARN
        found, cure = ("\n".join(one[column] for one in problems) for column in (1, 2))
        report.add("settings", state, found, cure)
        return
    known = [name for name in names if name in (*OF_SHELL, *OF_PROGRAMS, *SBATCH)]
    shown = ", ".join(f"{name}={site.get(name)}" for name in known)
    report.add("settings", PASS, shown or "site.sh sets no variable of the course")


def wrong_values(site: Site) -> list[tuple[str, str, str]]:
    """Return what is wrong with values that no other row looks at."""
    problems = []
    python, gres = site.get("PYTHON"), site.get("GRES")
    plain = re.sub(r"[\"'\\]", "", python)
    if plain != python:
        found = "PYTHON contains quotes or a backslash, which would be part of a file's name"
        problems.append((WARN, found, f'remove them: export PYTHON="{plain}"'))
    name = without_count(gres)
    if name != gres:
        found = f"GRES={gres} contains a count, which run.py adds"
        problems.append((FAIL, found, f"write: export GRES={name}"))
    time = site.env.get("SBATCH_TIMELIMIT", "")
    if time and not re.fullmatch(TIME, time, re.IGNORECASE):
        found = f"SBATCH_TIMELIMIT={time} is not a time of Slurm"
        problems.append((FAIL, found, "write hours, minutes and seconds, such as 00:30:00"))
    if site.get("NO_MEM").lower() in ("no", "false", "0", "n"):
        found = f"NO_MEM={site.get('NO_MEM')} has the effect of yes, as any value does"
        problems.append((WARN, found, "remove the line NO_MEM, or write: export NO_MEM=yes"))
    return problems


def without_count(gres: str) -> str:
    return re.sub(r":\d*$", "", gres)


def unread(names: list[str]) -> list[tuple[str, str, str]]:
    """Return what is wrong with names that nothing reads; other programs may read most names."""
    ours = (*OF_SHELL, *OF_PROGRAMS)
    problems = []
    for name in names:
        if name in (*ours, *SBATCH, *OTHERS):
            continue
        found = f"site.sh sets {name}, which nothing reads"
        close = difflib.get_close_matches(name, ours, n=1, cutoff=0.8)
        word = name[len("SBATCH_") :] if name.startswith("SBATCH_") else ""
        near = difflib.get_close_matches(word, OF_SBATCH.split(), n=1, cutoff=0.6) if word else []
        if close:
            problems.append((FAIL, found, f"write {close[0]} instead of {name}"))
        elif near:
            problems.append((WARN, found, f"did you mean SBATCH_{near[0]}?"))
        elif word:
            problems.append((WARN, found, f"man sbatch lists the variables; remove {name}"))
    return problems


def not_exported(site: Site, names: list[str]) -> list[tuple[str, str, str]]:
    problems = []
    for name in names:
        if name in (*SBATCH, *OF_PROGRAMS) and name not in site.env:
            found = f"site.sh sets {name} without export, so programs do not see it"
            line = re.search(rf"\b{name}=.*", site.text)
            problems.append((FAIL, found, f"write: export {line[0] if line else name}"))
    return problems
