"""cluster/practice without a Slurm: make test-fast."""

import os
import re
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from clone import ROOT
from page_rows import advice, shows
from practice_cluster import PRACTICE

GIB = 2**30
# what the lessons submit: run.sh, or the script that run.py writes by default
SCRIPTS = [*ROOT.glob("lessons/*/run.sh"), *ROOT.glob("tests/launch/golden/*.sh"), ROOT / "run.sh"]


@pytest.fixture
def practice(monkeypatch):
    """The program as a module."""
    loader = SourceFileLoader("practice", str(PRACTICE))
    module = module_from_spec(spec_from_loader("practice", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "practice", module)
    loader.exec_module(module)
    return module


def memory_mb(script):
    """Return the memory per node that a batch script requests."""
    [(number, unit)] = re.findall(r"^#SBATCH --mem=(\d+)([GM])$", script.read_text(), re.MULTILINE)
    return int(number) * {"G": 1024, "M": 1}[unit]


@pytest.mark.parametrize("machine_gib", [4, 8, 64])
def test_a_node_has_the_memory_that_every_lesson_requests(practice, monkeypatch, machine_gib):
    machine = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": machine_gib * GIB // 4096}
    monkeypatch.setattr(practice.os, "sysconf", machine.get)

    found = practice.node_memory_mb()

    assert found == max(8192, machine_gib * 1024 // 2)
    assert found >= max(map(memory_mb, SCRIPTS))


def test_the_page_names_the_least_memory_of_a_node(practice):
    page = (ROOT / "docs/practice-cluster.md").read_text()

    assert f"memory, or {practice.LARGEST_JOB_MB // 1024} GB if that is more" in page


def test_missing_packages_are_reported_with_a_remedy(practice, monkeypatch):
    monkeypatch.setattr(practice, "PATH", "/nowhere")

    with pytest.raises(practice.PracticeError) as error:
        practice.require_programs()

    remedy = advice("practice-cluster", "not found; install", "sudo cluster/practice install")
    shows("practice-cluster", "not found; install", str(error.value))
    assert remedy in str(error.value)


def test_a_name_that_is_not_on_loopback_is_reported_with_a_remedy(practice, monkeypatch):
    monkeypatch.setattr(practice.socket, "gethostbyname", lambda name: "172.17.0.2")
    monkeypatch.setattr(practice, "succeeds", lambda *_: False)  # it may not change its name

    with pytest.raises(practice.PracticeError) as error:
        practice.find_loopback()

    remedy = advice("practice-cluster", "Slurm listens where", "--hostname localhost")
    shows("practice-cluster", "Slurm listens where", str(error.value))
    assert remedy in str(error.value)


def test_a_reader_that_ends_early_is_not_an_error(tmp_path):
    read_end, write_end = os.pipe()
    os.close(read_end)

    command = [sys.executable, str(PRACTICE), "status", f"--state={tmp_path}"]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_named_without_a_file(tmp_path):
    command = [sys.executable, str(PRACTICE), "status", f"--state={tmp_path}"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)

    assert done.returncode == 1
    assert done.stderr == "cluster/practice: No space left on device\n"
