"""Which program the tests of the tools and of later lessons import: make test-fast.

tests/src/test_programs.py imports the other one; both may run in one process.
"""

import importlib

from clone import ROOT
from src.utils import targets


def test_this_file_imports_the_program_of_the_root():
    for module in (targets, importlib.import_module("src.utils.errors")):
        assert module.__file__.startswith(f"{ROOT}/src/")
