"""How make test divides the test files among its workers: make test-fast."""

import pytest

from clone import ROOT
from scheduling import OneClusterScheduling

FILES = [str(path.relative_to(ROOT)) for path in ROOT.glob("tests/*/test_*.py")]


@pytest.fixture
def worker_of():
    scheduling = object.__new__(OneClusterScheduling)  # it needs the workers of a run
    return lambda file: scheduling._split_scope(f"{file}::test_it[a::b]")


def test_all_tests_on_slurm_go_to_the_same_worker(worker_of):
    on_slurm = [file for file in FILES if file.startswith("tests/slurm/")]

    assert len(on_slurm) > 5
    assert {worker_of(file) for file in on_slurm} == {"slurm"}


def test_the_other_files_go_to_any_worker(worker_of):
    assert worker_of("tests/launch/test_launch.py") == "tests/launch/test_launch.py"
    assert worker_of("tests/src/test_structure.py") == "tests/src/test_structure.py"
