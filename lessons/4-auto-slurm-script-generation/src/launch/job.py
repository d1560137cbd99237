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

# the script up to srun, with {{placeholders}}; it does not use --signal, since a signal ends a
# program that has no handler for it
TEMPLATE = Path(__file__).with_name("job.sh")


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


@dataclass
class Job:
    """The resources that a job requests, named as in Slurm."""

    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    mem_gb: int = 4  # per node; 0 omits the line, and the site's default applies
    time_min: int = 15
    gres: str = ""  # per node, such as gpu:2
    options: Sequence[str] = ()  # more sbatch options, such as --constraint=a100

    def script(self, name, log_path, number, arguments):
        """Return the batch script of run `number`; it calls run.py with these arguments."""
        values = {
            "name": name,
            "nodes": self.nodes,
            "tasks_per_node": self.tasks_per_node,
            "cpus_per_task": self.cpus_per_task,
            "gres": self.gres,
            "mem": f"{self.mem_gb * 1024}M" if self.mem_gb else "",
            "time": f"{self.time_min // 60:02d}:{self.time_min % 60:02d}:00",
            "log_path": log_path,
            "number": number,
            "option": "\n#SBATCH ".join(self.options),
        }
        return fill(TEMPLATE.read_text(), values) + in_lines(
            "srun $PYTHON run.py --local", arguments
        )

    def submit(self, script):
        """Pass a script to sbatch and return the job id.

        Raises:
            UserError: with sbatch's message, if no job was submitted.
        """
        command = ["bash", Path(__file__).with_name("submit.sh"), script]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
        # site.sh or an sbatch wrapper may print more; the last word is the job id
        job = (done.stdout.split() or [""])[-1].partition(";")[0]
        if not job.isdecimal():
            silent = f"sbatch printed no job id (exit code {done.returncode})"
            why = " ".join(done.stderr.split()) or silent
            raise UserError(f"not submitted: {why}; see sinfo and site.sh")
        sys.stderr.write(done.stderr)
        return job
