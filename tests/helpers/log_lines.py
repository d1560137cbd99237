"""What a training may print, line by line: a new line is either wanted, and gets a place here, or
its cause is removed, or src/utils/library_messages.py hides it."""

import re

from clone import EPOCH_LINE

WANTED = [
    # what matters first
    r"data: \S+, .+, \d+ files checked in \S+",
    r"device: \w+(:\d+)?, logs: \S+",
    r"processes: \d+ \(nodes: \d+, devices per node: \d+\), (cpu|gpu), [\w-]+;"
    r" images per optimizer step: \d+, per process: \d+; learning rate: [\d.e-]+",
    r"not a full training: --.+",
    r"logs: \S+",
    # the summary of the network: one line per block
    r"network: [\d,]+ parameters(, [\d,]+ frozen)?",
    r"  \S+ +[A-Z]\w+ +[\d.]+( [KMB])?  \[[\d, ]+\]",
    r"  and \d+ more blocks",
    # the results
    EPOCH_LINE.pattern,
    r"test loss [\d.]+ acc [\d.]+",
    # a job that is interrupted and continues (lesson 9)
    r"\w+: saved at step \d+, and requeued; it continues when Slurm starts it again",
    r"continues from \S+: step \d+",
]
TIME = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) )?"
LINE = re.compile(f"{TIME}({'|'.join(WANTED)})")


def unexpected_lines(log):
    """Return the lines of a log that nobody has decided to print."""
    return [line for line in log.splitlines() if not LINE.fullmatch(line)]


def summary_lines(log):
    return re.findall(r"^(?:.*INFO network: |  \S).*", log, re.MULTILINE)
