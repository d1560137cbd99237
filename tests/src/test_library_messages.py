"""What a log may contain, and what is hidden from it: make test-fast."""

import subprocess
import sys

import pytest

from log_lines import unexpected_lines
from programs import LESSON_9
from src.utils.library_messages import HIDDEN

# a message that each entry of HIDDEN was made for
EXAMPLES = [
    "`isinstance(treespec, LeafSpec)` is deprecated, use `isinstance(...)` instead.",
    "The `srun` command is available on your system but is not used. HINT: ...",
    "The number of training batches (22) is smaller than the logging interval",
    "The 'train_dataloader' does not have many workers which may be a bottleneck.",
    "You requested to overfit but enabled train dataloader shuffling. We are turning off ...",
    "You're resuming from a checkpoint that ended before the epoch ended and your dataloader ...",
    "Checkpoint directory logs/a/version_0/checkpoints exists and is not empty.",
    "Precision 16-mixed is not supported by the model summary.  Estimated model size ...",
]
# warns as if from the module of each entry, then in a way that must be seen
WARN = """
import logging, sys, warnings
from src.utils.library_messages import HIDDEN, hide_library_messages
hide_library_messages()
warn = lambda *args: warnings.warn_explicit(*args[:2], "a.py", 1, module=args[2])
for message, (_, category, module) in zip(sys.argv[1:], HIDDEN, strict=True):
    print("next", file=sys.stderr)
    warn(message, category, module)
    warn("another message", category, module)
    warn(message + " 2", UserWarning if category is not UserWarning else FutureWarning, module)
    warn(message + " 3", category, "another.module")
    logging.getLogger("lightning.pytorch.trainer").info("a note")
    logging.getLogger("lightning.pytorch.trainer").warning("a warning")
"""


@pytest.fixture(scope="module")
def printed():
    """What was printed about each entry."""
    command = [sys.executable, "-c", WARN, *EXAMPLES]
    done = subprocess.run(command, cwd=LESSON_9, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.split("next\n")[1:]


@pytest.mark.parametrize("index", range(len(HIDDEN)))
def test_a_message_is_hidden_but_no_other_one_of_its_kind(printed, index):
    shown = [line for line in printed[index].splitlines() if not line.startswith(" ")]

    assert len(shown) == 4
    assert shown[0].endswith("another message")
    assert shown[1].endswith(" 2")
    assert shown[2].endswith(" 3")
    assert shown[3] == "a warning"


def test_every_hidden_message_has_an_example():
    assert len(EXAMPLES) == len(HIDDEN)


@pytest.mark.parametrize(
    "line",
    [
        "Seed set to 1234",
        "epoch  1/10  train loss nan",
        "2026-01-01 00:00:00,000 INFO something new",
        "/env/lib/python3.11/site-packages/a.py:1: UserWarning: news",
        "Traceback (most recent call last):",
    ],
)
def test_a_new_line_in_a_log_is_found(line):
    log = f"data: MNIST, sample: digits, 4 files checked in /data/MNIST\n{line}\nlogs: logs/a\n"

    assert unexpected_lines(log) == [line]
