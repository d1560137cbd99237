"""A Slurm job: the resources that it requests, its batch script, and its submission."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from src.utils.errors import UserError

# the script up to srun, with {{placeholders}}
TEMPLATE = Path(__file__).with_name("job.sh")
# the line with the job id, from sbatch --parsable or from a wrapper that drops this option
JOB_ID = r"^(?:Submitted batch job )?(\d+)(?:;[\w.-]+| on cluster [\w.-]+)?\s*$"
# why sbatch has refused a job; a wrapper prints other lines around it
REASON = r"^sbatch: (?:error|fatal): .*"


def has_slurm():
    """Return whether this machine belongs to a Slurm cluster, even if sbatch itself is missing."""
    return "SLURM_CONF" in os.environ or any(map(shutil.which, ("sbatch", "srun", "sinfo")))


def fill(template, values):
    """Fill in the placeholders; a group of lines whose value is empty is omitted."""
    header, body = template.split("\n\n", 1)
    groups = re.split(r"\n(?=# )", header)  # each group begins with its comment
    for name, value in values.items():
        mark = "{{" + name + "}}"
        groups = [g.replace(mark, str(value)) for g in groups if value != "" or mark not in g]
    return "\n".join(groups) + "\n\n" + body


def in_lines(start, words):
    """Return a command with one argument per line, quoted for the shell."""
    return " \\\n    ".join([start, *map(shlex.quote, words)]) + "\n"


class NotSubmittedError(UserError):
    """Slurm has not accepted the job."""


@dataclass
class Job:
    """The resources that a job requests from Slurm."""

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    mem_gb: int = 4  # per node; 0 omits the line, and the site's default applies
    time_min: int = 15
    gres: str = ""  # per node, such as gpu:2
    signal: str = "USR1"  # announces the time limit
    lead_s: int = 120  # how long before it
    options: Sequence[str] = ()  # more sbatch options, such as --constraint=a100

    def script(self, name, run, arguments):
        """Return the batch script of a run, which calls the copy of run.py in its folder."""
        values = {
            "name": name,
            "nodes": self.nodes,
            "tasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus_per_task,
            "gres": self.gres,
            "mem": f"{self.mem_gb * 1024}M" if self.mem_gb else "",
            "time": f"{self.time_min // 60:02d}:{self.time_min % 60:02d}:00",
            "folder": Path.cwd(),
            "run": run,
            "signal": f"{self.signal}@{self.lead_s}",
            "option": "\n#SBATCH ".join(self.options),
        }
        program = shlex.quote(f"{run}/code/run.py")
        command = in_lines(f"srun $PYTHON {program} --local", arguments)
        return fill(TEMPLATE.read_text(), values) + command

    def submit(self, script):
        """Pass a script to sbatch and return the job id.

        Raises:
            NotSubmittedError: with sbatch's message, if no job was submitted.
            UserError: if it is not clear whether a job was submitted.
        """
        command = ["bash", Path(__file__).with_name("submit.sh"), script]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        said = " ".join(f"{done.stderr} {done.stdout}".split())
        ids = set(re.findall(JOB_ID, done.stdout, re.MULTILINE))
        if done.returncode and not ids:
            why = " ".join(re.findall(REASON, done.stderr, re.MULTILINE)) or said
            why = why or f"sbatch printed nothing (exit code {done.returncode})"
            raise NotSubmittedError(f"not submitted: {why:.1000}; see sinfo and site.sh")
        if done.returncode or len(ids) != 1:
            found = f"sbatch's answer (exit code {done.returncode}) is {said!r:.1000}"
            remedy = f"look for the job with squeue --me; its script is {script}"
            raise UserError(f"perhaps submitted: {found}; {remedy}")
        sys.stderr.write(done.stderr)
        return ids.pop()
