"""Which program the tests of lesson 9 import, see tests/helpers/programs.py: make test-fast."""

import importlib

import pytest

import run
from programs import LESSON_9
from src.launch import arguments


def test_this_file_imports_the_program_of_lesson_9():
    for module in (run, arguments, importlib.import_module("src.main")):
        assert module.__file__.startswith(f"{LESSON_9}/")
    # a file that only the root has
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("src.utils.targets")
