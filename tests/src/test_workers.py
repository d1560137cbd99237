"""src/utils/workers.py: data-loading workers in unusual environments: make test-fast."""

import os
import subprocess
import sys

import pytest

from clone import ARGUMENTS_LESSON, TEST_LINE
from programs import LESSON_9

# a worker loads a single batch; EDIT may break something first
LOAD = """
import torch
from torch.utils.data import DataLoader, Dataset
from src.utils import workers
from src.utils.errors import UserError, plain_errors

class Ones(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.ones(3)

EDIT
with plain_errors():
    workers.prepare_workers()
    [batch] = DataLoader(Ones(), batch_size=2, num_workers=1)
    print(batch.sum().item())
"""


def load(tmpdir=None, edit="", open_files="unlimited"):
    env = os.environ | ({"TMPDIR": str(tmpdir)} if tmpdir else {})
    limit = f"ulimit -n {open_files}" if open_files != "unlimited" else ":"
    command = ["bash", "-c", f'{limit}; exec "$@"', "bash", sys.executable, "-c"]
    return subprocess.run(
        [*command, LOAD.replace("EDIT", edit)],
        **{"cwd": LESSON_9, "env": env, "capture_output": True, "text": True, "timeout": 120},
    )


def long_folder(folder):
    """Return a folder whose path is longer than a socket's may be."""
    found = folder / ("x" * max(120 - len(str(folder)), 1))
    found.mkdir()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("length", [75, 76])
def test_workers_load_batches_up_to_any_length_of_tmpdir(tmp_path, length):
    folder = tmp_path
    while len(str(folder)) < length:
        # a part of the path has at most 255 bytes, and at least one after the slash
        folder /= "x" * (length - len(str(folder)) - 1 or 2)
    folder.mkdir(exist_ok=True)

    done = load(folder)

    assert (done.returncode, done.stdout) == (0, "6.0\n"), done.stderr


def test_workers_load_batches_with_a_very_long_tmpdir(tmp_path):
    folder = long_folder(tmp_path)

    done = load(folder)

    assert (done.returncode, done.stdout, done.stderr) == (0, "6.0\n", "")
    assert not list(folder.glob("pymp-*"))


@pytest.mark.slow
def test_other_temporary_files_stay_in_a_long_tmpdir(tmp_path):
    folder = long_folder(tmp_path)
    edit = "import atexit, tempfile; atexit.register(lambda: print(tempfile.gettempdir()))"

    done = load(folder, edit)

    assert done.stdout.splitlines() == ["6.0", str(folder)]


@pytest.mark.slow
def test_a_missing_tmpdir_does_not_matter(tmp_path):
    done = load(tmp_path / "missing")

    assert (done.returncode, done.stdout) == (0, "6.0\n"), done.stderr


@pytest.mark.slow
def test_a_worker_that_cannot_send_its_batch_ends_the_training_with_a_sentence(tmp_path):
    done = load(long_folder(tmp_path), "workers.MAX_TMPDIR = 1000")

    assert done.returncode == 1
    assert done.stderr == (
        "worker processes need a folder with a short path, where they may create sockets: add a"
        ' line such as "export TMPDIR=/tmp" to site.sh (OSError: AF_UNIX path too long)\n'
    )


def test_too_few_open_files_are_refused_in_one_sentence():
    done = load(open_files=40)

    assert done.returncode == 1
    assert done.stderr == (
        "a process may open only 40 files here, but training needs 256:"
        ' add "ulimit -n 1024" to site.sh, or ask your site\n'
    )


@pytest.mark.slow
def test_reaching_the_limit_of_open_files_later_is_explained():
    edit = (
        "import os, resource\n"
        "workers.MIN_OPEN_FILES = 0\n"
        "Ones.__getitem__ = lambda self, index: [os.dup(1) for _ in range(1 << 20)]\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))"
    )

    done = load(edit=edit)

    assert done.returncode == 1
    assert done.stderr == (
        "the limit of open files (ulimit -n) is too low: raise it in site.sh, or use fewer"
        " workers (OSError: [Errno 24] Too many open files)\n"
    )


def test_a_user_error_in_a_worker_is_reported_like_any_other():
    edit = (
        "def fail(self, index):\n"
        "    raise UserError('photos/1.jpg is damaged: copy it again')\n"
        "Ones.__getitem__ = fail"
    )

    done = load(edit=edit)

    assert done.returncode == 1
    assert done.stderr == "photos/1.jpg is damaged: copy it again\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("branch", "command"),
    [
        ("3-improved-data-loading", "-m src.main"),
        ("5-improved-logging", "run.py --local --max_epochs=1"),
        (
            ARGUMENTS_LESSON,
            "run.py --local --max_epochs=1 --num_workers=2 --arch=fully_connected --devices=2",
        ),
    ],
)
def test_a_training_finishes_with_a_long_tmpdir(module_clone, tmp_path, branch, command):
    module_clone.git("switch", "--quiet", branch)
    env = module_clone.env | {"TMPDIR": str(long_folder(tmp_path))}

    done = module_clone.run(sys.executable, *command.split(), env=env, timeout=300)

    assert done.returncode == 0, done.stderr
    assert len(TEST_LINE.findall(done.stdout)) == 1
