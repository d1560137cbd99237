"""Shared by the tests of injected faults: a login node, and the page they check."""

import re

import pytest

from clone import ARGUMENTS_LESSON, ROOT

PAGE = ROOT / "docs/troubleshooting.md"


@pytest.fixture
def login_node(module_login_node):
    """The program of lesson 9, unchanged and without logs."""
    module_login_node.clone.git("checkout", "--quiet", ".")
    module_login_node.clone.git("switch", "--quiet", ARGUMENTS_LESSON)
    module_login_node.clone.git("clean", "--quiet", "-d", "--force", "-x", "logs", "lightning_logs")
    return module_login_node


@pytest.fixture
def inject_fault(login_node):
    """Insert a statement into the 30th training step of one process."""

    def edit(statement, rank=0):
        [program] = [
            path for path in login_node.folder.glob("src/**/*.py") if STEP in path.read_text()
        ]
        condition = f"if self.global_step == 30 and self.trainer.global_rank == {rank}:"
        planted = f"{STEP}        {condition}\n            import os, time; {statement}\n"
        program.write_text(program.read_text().replace(STEP, planted))

    yield edit
    login_node.clone.git("checkout", "--quiet", ".")


STEP = "    def training_step(self, batch, batch_idx):\n"


def sections():
    """Return heading -> text for the faults on the page."""
    found = re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S)
    return dict(found)


@pytest.fixture
def page():
    """Compare a log with the message on the page; <word> on the page matches any text."""

    def shows(heading, text):
        block = re.search(r"^```output\n(.*?)^```", sections()[heading], re.M | re.S)[1]
        for line in block.splitlines():
            pattern = re.sub(r"<[a-z][\w /-]*>", ".+?", re.escape(line).replace(r"\ ", " "))
            assert re.search(pattern, text), f"not in the log: {line}\n{text[-3000:]}"

    return shows
