"""The program that a test file imports as src and run: that of lesson 9, or that of the root.

Most tests give run.py arguments, which lesson 9 is the last to have: they import its program from
LESSON_9, a folder with the complete tree of that lesson. The tests of later lessons import the
root's. Both can share a process: tests/conftest.py selects the program of a test file before it
imports the file, and before each test. A conftest.py is read while either is selected, and may
import src only within its fixtures.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from clone import ARGUMENTS_LESSON, ROOT

LESSON_9 = Path(tempfile.mkdtemp(prefix="hpc-starter-program-"))
TESTS = ROOT / "tests"
# folders and files whose tests are about the tools or about the program in the root
OF_THE_ROOT = ("tools/*", "config/*")
# what both folders contain, and what may therefore be imported from either of them
TOP_LEVEL = {"check", "checks", "data", "run", "src"}

_export = [sys.executable, "tools/lessons.py", "export", ARGUMENTS_LESSON.split("-")[0]]
subprocess.run([*_export, str(LESSON_9)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


class Programs:
    """Which of the programs `import src` finds now; each keeps its own modules."""

    def __init__(self) -> None:
        self.selected = ROOT
        self.modules: dict[Path, dict[str, ModuleType]] = {ROOT: {}, LESSON_9: {}}

    def select(self, file: Path) -> None:
        """Let the imports of a test file find the program that it is about."""
        folder = program_of(file)
        if folder == self.selected:
            return
        loaded = [name for name in sys.modules if name.partition(".")[0] in TOP_LEVEL]
        self.modules[self.selected] = {name: sys.modules.pop(name) for name in loaded}
        sys.modules.update(self.modules[folder])
        # the paths of the child processes, too: multiprocessing hands sys.path on
        sys.path[:] = [str(folder) if path == str(self.selected) else path for path in sys.path]
        importlib.invalidate_caches()
        self.selected = folder


def program_of(file: Path) -> Path:
    name = file.relative_to(TESTS)
    return ROOT if any(name.match(pattern) for pattern in OF_THE_ROOT) else LESSON_9
