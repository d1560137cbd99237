"""The settings of this site: site.sh takes precedence over the defaults of run.py."""

import argparse
import re
import subprocess

from src.launch.argument_types import minutes
from src.launch.sbatch_options import RESERVED, quoted
from src.utils.errors import UserError

# a variable of sbatch -> the option of the batch script that it sets
OPTIONS = {
    "SBATCH_JOB_NAME": "--job-name",
    "SBATCH_MEM_PER_NODE": "--mem",
    "SBATCH_MEM_PER_CPU": "--mem-per-cpu",
    "SBATCH_MEM_PER_GPU": "--mem-per-gpu",
    "SBATCH_TIMELIMIT": "--time",
    "SBATCH_OUTPUT": "--output",
    "SBATCH_ERROR": "--error",
    "SBATCH_OPEN_MODE": "--open-mode",
}


def read_site(*names):
    """Return the values that site.sh gives to these variables; "" if it does not set them.

    Raises:
        UserError: if site.sh cannot be read.
    """
    script = 'source cluster/site_env.sh >&2; for name; do printf "%s\\0" "${!name:-}"; done'
    command = ["bash", "-c", script, "bash", *names]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="surrogateescape")
    if done.returncode:
        raise UserError(f"not submitted: {' '.join(done.stderr.split())}")
    return dict(zip(names, done.stdout.split("\0"), strict=False))


def site_settings():
    """Return the settings of site.sh that change lines of the batch script."""
    return read_site("NO_MEM", *OPTIONS)


def time_limit(settings, time_min):
    """Return the time limit in minutes: that of site.sh, if it has one, or time_min."""
    try:
        return minutes(settings["SBATCH_TIMELIMIT"])
    except argparse.ArgumentTypeError:  # none, or a word such as UNLIMITED
        return time_min


def with_site_settings(script, settings, was_given):
    """Return a batch script with the settings of the site instead of the defaults of run.py.

    The lines that come from the command line stay, so that the script shows what Slurm will do.
    """
    if settings["NO_MEM"] and not was_given("--mem_gb"):
        script = re.sub(r"# memory per node\n.*\n", "", script)
    for name, option in OPTIONS.items():
        value, argument = settings[name], RESERVED[option]
        if value and not (argument and was_given(argument)):
            # each of the three options for memory replaces the others
            old = "--mem[a-z-]*" if option.startswith("--mem") else option
            new = f"#SBATCH {option}={quoted(value)}"
            script = re.sub(rf"^#SBATCH {old}=.*", lambda _, new=new: new, script, flags=re.M)
    return script
