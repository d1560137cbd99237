"""Rows about site.sh: can it be read, and does something read what it sets?"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from site_checks.report import FAIL, PASS, WARN, Answer, Report, answer_of, ending, shortened

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
if [[ ! -f $(type -P env) ]]; then
    echo "site.sh leaves a PATH without the system's programs: '${PATH-}'" >&2
    exit 1
fi
for name in PYTHON VENV GRES NO_MEM; do builtin printf '%s=%s\\0' "$name" "${!name:-}"; done
builtin printf '\\0'; command env -0
"""
TIMEOUT = 60.0  # seconds for site.sh


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
    text = text_of(report, Path("site.sh"))
    if text is None:
        return None
    env = without_settings(dict(os.environ), assigned(text))
    report.show_progress(f"reading site.sh, which may take {TIMEOUT:.0f} s")
    done = answer_of(["bash", "-c", READ], TIMEOUT, env, None, "site.sh")
    # its output is the whole environment, which may contain passwords
    report.record("source cluster/site_env.sh", Answer(done.code, "", done.err))
    own, mark, exported = done.out.partition("\0\0")
    if done.code or not mark:
        report.add("site.sh", FAIL, *why_not_read(done))
        return None
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


def text_of(report: Report, path: Path) -> str | None:
    """Return what the file contains, "" if there is none; None if it cannot be read."""
    if not os.path.lexists(path):
        return ""
    if not path.is_file():
        kind = "a link that leads to no file" if path.is_symlink() else "not a file"
        kind = "a folder" if path.is_dir() else kind
        cure = "rename or delete it, then begin with a copy: cp site.example.sh site.sh"
        report.add("site.sh", FAIL, f"site.sh is {kind}, but must be a file with text", cure)
        return None
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        cure = "make it readable: chmod u+r site.sh"
        report.add("site.sh", FAIL, f"cannot be read ({error.strerror})", cure)
        return None


def why_not_read(done: Answer) -> tuple[str, str]:
    """Return why site.sh gave no settings, and the remedy."""
    said = shortened(done.err)
    if done.code == 124:
        found = f"site.sh did not end within {TIMEOUT:.0f} s"
        return found, "remove the line that waits, for input or for another program, from site.sh"
    if done.code == 0:
        found = "site.sh has replaced or ended the shell that reads it"
        return found, "remove the exec from site.sh, or whatever else ends a shell"
    if not said:
        found = (
            f"site.sh has ended the shell that reads it ({ending(done.code)}), without a message"
        )
        return found, "remove the exec, exit or kill from site.sh"
    if "leaves a PATH without" in said:
        return said, "add to PATH instead of replacing it: export PATH=/my/folder:$PATH"
    return said, "fix the line that the message names, then try: bash -n site.sh && source site.sh"


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
