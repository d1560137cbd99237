"""The course as a learner sees it: a clone of this working tree with its lesson branches."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from practice_cluster import SITE
from processes import SHOW_STACKS, output_of

ROOT = Path(__file__).resolve().parents[2]
# the branch whose program is that of the root
LAST_LESSON = max(
    ROOT.glob("lessons/*.txt"), key=lambda file: int(file.name.partition("-")[0])
).stem
# the last lesson whose settings are arguments of run.py, such as --arch=resnet34
ARGUMENTS_LESSON = "9-requeue-and-resume"
EPOCH_LINE = re.compile(
    r"epoch +(\d+)/\d+  train loss ([\d.]+) acc ([\d.]+)  val loss ([\d.]+) acc ([\d.]+)"
)
TEST_LINE = re.compile(r"^(?:.* INFO )?test loss ([\d.]+) acc ([\d.]+)$", re.MULTILINE)


@dataclass
class Clone:
    """A clone with the sample data, and a Python environment that run.sh finds by VENV."""

    folder: Path
    env: dict[str, str]

    def run(self, *command: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        kwargs = {"cwd": self.folder, "env": self.env, **pipes, **kwargs}
        timeout = kwargs.pop("timeout", None)
        if timeout is None:
            return subprocess.run(command, check=False, **kwargs)
        kwargs["env"] = {**kwargs["env"], **SHOW_STACKS}
        process = subprocess.Popen(command, start_new_session=True, **kwargs)
        printed, errors = output_of(process, timeout)
        return subprocess.CompletedProcess(command, process.returncode, printed, errors)

    def git(self, *args: str) -> str:
        done = self.run("git", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def train(self, branch: str) -> str:
        """Switch to a lesson, run its run.sh here, and return what it printed."""
        self.git("switch", "--quiet", branch)
        done = self.run("bash", "run.sh", stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout
        return done.stdout


class Hostile:
    """An object that runs code when it is unpickled: it writes a file PWNED."""

    def __reduce__(self):
        return exec, ("open('PWNED', 'w')",)


def copy_working_tree(target: Path) -> None:
    """Copy what git would commit: tracked files, and new ones that are not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def clean_environment(home: Path) -> dict[str, str]:
    """Return the environment without variables of git, Slurm, make and the course."""
    ours = (*SITE, "GIT_", "MAKE", "MFLAGS", "DATA_DIR", "MNIST_", "VENV", "PYTHONPATH", "OMP_")
    # make exports what its command line sets
    ours += ("PYTHON3", "TORCH", "INSTALLER", "PIP_ARGS", "CPU_INDEX", "MADE_WITH")
    ours += ("FORCE_COLOR",)  # the tests read what is printed
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    # one thread: the tests run side by side, and threads that wait for each other keep a core busy
    ours = {"HOME": str(home), "VENV": sys.prefix, "OMP_NUM_THREADS": "1"}
    return {**env, **ours, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(scope="session")
def course(tmp_path_factory):
    """A repository with a single commit on main, which contains this working tree."""
    origin = tmp_path_factory.mktemp("origin") / "hpc-starter"
    origin.mkdir()
    copy_working_tree(origin)
    source = Clone(origin, clean_environment(origin.parent))
    source.git("init", "--quiet", "--initial-branch=main")
    source.git("config", "user.name", "A Learner")
    source.git("config", "user.email", "learner@example.org")
    source.git("add", "--all")
    source.git("commit", "--quiet", "--message=The working tree")
    return source


def make_clone(course: Clone, sample_data: Path, home: Path, folder: Path | None = None) -> Clone:
    """Clone the course into a new home, build its lesson branches, and copy the sample data."""
    folder = folder or home / "hpc-starter"
    course.git("clone", "--quiet", str(course.folder), str(folder))
    cloned = Clone(folder, {**course.env, "HOME": str(home)})
    cloned.git("config", "user.name", "A Learner")
    cloned.git("config", "user.email", "learner@example.org")
    done = cloned.run(sys.executable, "tools/lessons.py", "branches")
    assert done.returncode == 0, done.stderr
    for name in ("MNIST", "cifar-10-batches-py"):
        shutil.copytree(sample_data / name, folder / "data" / name)
    return cloned


@pytest.fixture(scope="module")
def module_clone(course, sample_data, tmp_path_factory):
    """A clone that the tests of one file share."""
    return make_clone(course, sample_data, tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="session")
def sample_data(tmp_path_factory):
    """A folder filled by data/make_sample.py."""
    folder = tmp_path_factory.mktemp("data")
    command = [sys.executable, str(ROOT / "data/make_sample.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def epochs(log: str) -> list[tuple[float, ...]]:
    """Return the numbers of the epoch lines: loss and accuracy of training, then validation."""
    return [tuple(map(float, line.groups()[1:])) for line in EPOCH_LINE.finditer(log)]


def final_accuracy(log: str) -> float:
    [(_, accuracy)] = TEST_LINE.findall(log)
    return float(accuracy)
