"""Fixtures and settings that every test file may use: make test."""

import os

from course import clone, course, module_clone, sample_data  # noqa: F401

# four DDP processes, their workers and the tests share the cores of one machine
os.environ.setdefault("OMP_NUM_THREADS", "1")
