"""The program of a lesson, which the benchmarks measure."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def exported(number: int, at: Path | None = None) -> Iterator[str]:
    """Yield a temporary folder with all files of a lesson, to be put into PYTHONPATH.

    It is on this machine only, unless a folder for it is given.
    """
    with tempfile.TemporaryDirectory(dir=at) as folder:
        command = [sys.executable, "tools/lessons.py", "export", str(number), f"{folder}/lesson"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        yield f"{folder}/lesson"
