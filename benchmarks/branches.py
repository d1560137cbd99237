"""Measure `make lessons`: python benchmarks/branches.py

Clones this repository five times, builds the lesson branches twice in each clone, and prints the
median seconds of the first and of the second run. The goal is 2 s for a course of eight lessons.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def build(clone: Path) -> float:
    start = time.perf_counter()
    command = [sys.executable, "tools/lessons.py", "branches"]
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    rows = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder, "clone")
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            rows.append((build(clone), build(clone)))
    for name, seconds in zip(("first run", "second run"), zip(*rows, strict=True), strict=True):
        print(f"{name:10}  {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
