"""Fixtures and settings that every test file may use: make test."""

import os
import shutil

import pytest

from clone import course, module_clone, sample_data  # noqa: F401
from https_mirror import certificate, mirror  # noqa: F401
from login_node import module_login_node  # noqa: F401
from practice_cluster import practice_cluster  # noqa: F401
from programs import LESSON_9, Programs
from scheduling import OneClusterScheduling
from warm_python import warm_python  # noqa: F401

# the processes of a job and the tests share the cores of one machine
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROGRAMS = Programs()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """Import a test file with the program that it is about."""
    if isinstance(collector, pytest.Module):
        PROGRAMS.select(collector.path)
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    """Run a test, with its fixtures, with the program that its file is about."""
    PROGRAMS.select(item.path)
    return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object):
    """Divide the files among the workers of --dist=loadfile."""
    if config.getvalue("dist") == "loadfile":
        return OneClusterScheduling(config, log)
    return None


def pytest_unconfigure() -> None:
    shutil.rmtree(LESSON_9, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU if there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="there is no CUDA device here"))
