"""src/utils/errors.py and the environment of jobs, without a cluster: make test-fast."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clone import ROOT
from lesson_diffs import lessons
from programs import LESSON_9
from src.utils.errors import exit_with, explain

SCRIPTS = {
    f"lesson {number}, {name}": text
    for number, files in lessons(ROOT).items()
    for name, text in files.items()
    if name in ("run.sh", "src/launch/job.sh")
}


class MisconfigurationException(Exception):
    """Has the name of Lightning's own exception."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "or your quota is full; earlier"),
        (OSError(28, "No space left on device", "/tmp/a.ckpt"), " free in /tmp);"),
        (OSError(28, "No space left on device", "/proc/a", None, "/tmp/b"), " free in /tmp);"),
        (ValueError("Expected more than 1 value per channel when training"), "needs two images"),
        (
            RuntimeError(
                "It looks like your LightningModule has parameters that were not used in"
                " producing the loss returned by training_step."
            ),
            "--find_unused_parameters",
        ),
        (MisconfigurationException("0.1 * 3 < 1"), "Lightning refuses these settings"),
        (IndexError("Target 3 is out of bounds."), "a label is not the number of a class: "),
        (RuntimeError("CUDA error: device-side assert triggered"), "a label is not the number"),
        (OSError("image file is truncated (3 bytes not processed)"), "an image file is damaged ("),
        (OSError("cannot identify image file 'photos/1.jpg'"), "damaged (OSError: cannot identify"),
        (FileNotFoundError("Found no valid file for the classes a."), "a class contains no images"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:1] Read error"), "another process ended"),
        (RuntimeError("Application timeout caused pair closure"), "or did not answer in time"),
        (RuntimeError("The client socket has timed out after 60000ms"), "not all processes"),
    ],
)
def test_an_error_is_explained(error, sentence):
    assert sentence in explain(error)


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError("data/photos/igloo/1.png")])
def test_a_program_error_keeps_its_traceback(error):
    assert explain(error) is None


# --- how a process ends

ONE, SEVERAL = {}, {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}


def run_python(program, env, **kwargs):
    ours = ("SLURM_", "LOCAL_RANK", "PYTHONUNBUFFERED")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "timeout": 120}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=LESSON_9, env={**clean, **env}, **{**pipes, **kwargs})


def exit_code(returncode):
    """Return the exit code that a shell sees: 143 for a process that dies of signal 15."""
    return returncode if returncode >= 0 else 128 - returncode


def end(statement, env):
    """Run a statement inside plain_errors."""
    program = "from src.utils.errors import UserError, plain_errors\n"
    program += f"with plain_errors():\n    {statement}\n"
    return run_python(program, env)


@pytest.mark.parametrize(
    ("statement", "code", "message"),
    [
        ("raise UserError('a mistake')", 1, "a mistake"),
        ("raise SystemExit('data/MNIST is missing')", 1, "data/MNIST is missing"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("import os; os.kill(os.getpid(), 15)", 143, "ended by SIGTERM: scancel"),
        ("raise MemoryError", 1, "the job's memory is too small: request more (MemoryError"),
    ],
)
@pytest.mark.parametrize(
    ("env", "who"), [(ONE, ""), (SEVERAL, "process 1: ")], ids=["one", "several"]
)
def test_a_user_error_is_reported_in_one_sentence(statement, code, message, env, who):
    done = end(statement, env)

    assert exit_code(done.returncode) == code
    assert done.stderr.startswith(who + message)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("env", [ONE, SEVERAL], ids=["one", "several"])
def test_a_signal_that_ends_a_data_loading_worker_first_is_still_a_signal(env):
    program = """
import os, time
from torch.utils.data import DataLoader, Dataset
from src.utils.errors import plain_errors

class Ending(Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, index):
        os.kill(os.getpid(), 15)
        time.sleep(60)

with plain_errors():
    next(iter(DataLoader(Ending(), num_workers=1)))
"""

    done = run_python(program, env, timeout=120)

    assert exit_code(done.returncode) == 143
    assert "ended by SIGTERM: scancel" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("env", [ONE, SEVERAL], ids=["one", "several"])
@pytest.mark.parametrize(
    "redirected",
    ["sys.stdout = None", "sys.stdout = []", "sys.stdout.close()"],
    ids=["nowhere", "no stream", "closed"],
)
def test_code_that_ignores_exceptions_does_not_outlive_a_signal(redirected, env):
    program = f"""
import os, sys
from src.utils.errors import plain_errors

with plain_errors():
    {redirected}  # as contextlib.redirect_stdout does while a picture is drawn
    for _ in range(3):
        try:
            os.kill(os.getpid(), 15)
        except Exception:
            os.write(2, b"went on")
"""

    done = run_python(program, env)

    assert exit_code(done.returncode) == 143
    assert re.fullmatch(r".*ended by SIGTERM: scancel.*\n", done.stderr)


@pytest.mark.parametrize("env", [ONE, SEVERAL], ids=["one", "several"])
def test_an_interrupt_that_lightning_turns_into_an_exit_is_still_an_interrupt(env):
    program = """
from src.utils.errors import plain_errors
with plain_errors():
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        raise SystemExit(1)
"""

    done = run_python(program, env)

    assert done.returncode == 130
    assert done.stderr.endswith("interrupted\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("code", [0, 2])
def test_an_exit_code_is_unchanged(code):
    done = end(f"raise SystemExit({code})", ONE)

    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.parametrize("env", [ONE, SEVERAL], ids=["one", "several"])
def test_a_bug_is_shown_with_its_traceback_and_exit_code_1(env):
    done = end("{}['no such key']", env)

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.endswith("KeyError: 'no such key'\n")


def test_a_single_process_cleans_up_at_its_end(monkeypatch):
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)

    with pytest.raises(SystemExit) as error:
        exit_with("a sentence", 7)

    assert error.value.code == 7


@pytest.mark.parametrize("env", [SEVERAL, {"LOCAL_RANK": "1"}], ids=["srun", "Lightning"])
def test_one_of_several_processes_does_not_wait_for_its_threads(env):
    program = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "from src.utils.errors import exit_with; exit_with('a sentence', 143)"
    )

    done = run_python(program, env)

    assert done.returncode == 143
    assert done.stderr.endswith("a sentence\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("env", [ONE, SEVERAL], ids=["one", "several"])
def test_a_process_ends_even_if_its_log_is_on_a_full_disk(stream, env):
    program = "print('said'); from src.utils.errors import exit_with; exit_with('a sentence', 143)"

    with Path("/dev/full").open("w") as full:
        done = run_python(program, env, **{stream: full})

    assert done.returncode == 143


# --- streams that are closed, and Python's -O


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_changes_nothing_but_what_is_seen(tmp_path, closed):
    program = (
        "import sys; from src.utils.errors import UserError, plain_errors\n"
        "with plain_errors():\n"
        f"    file = open({str(tmp_path / 'data')!r}, 'w'); print('seen', sys.stdout.isatty())\n"
        "    raise UserError('a sentence')\n"
    )
    command = ["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, program]

    done = subprocess.run(command, cwd=LESSON_9, capture_output=True, text=True)

    assert done.returncode == 1
    assert done.stderr == ("" if "2>&-" in closed else "a sentence\n")
    assert (tmp_path / "data").read_text() == ""


@pytest.mark.parametrize("program", ["data/check.py", "data/make_sample.py"])
def test_a_wrong_call_is_an_error_without_docstrings(program):
    command = [sys.executable, "-OO", program, "--help"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 1
    assert f"python {program}" in done.stderr


def test_no_program_checks_by_assert_which_python_can_turn_off():
    programs = [ROOT / "run.py", ROOT / "cluster/practice"]
    for folder in ("src", "lessons", "data", "tools"):
        programs += (ROOT / folder).rglob("*.py")

    for program in programs:
        nodes = ast.walk(ast.parse(program.read_text()))
        assert not [node.lineno for node in nodes if isinstance(node, ast.Assert)], program


# --- the shell of a job: what job_env.sh does is in tests/launch/test_job_env.py


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_sources_the_environment_of_all_jobs(script):
    lines = SCRIPTS[script].splitlines()

    assert lines.count("source cluster/job_env.sh") == 1
    # no other file handles the end of a job
    assert not [line for line in lines if "trap " in line or "site.sh" in line.split("#")[0]]


@pytest.mark.parametrize("line", ["exit 0", "exit 3", "set -e; no_such_command"])
def test_a_site_file_that_ends_a_script_does_not_look_like_a_success(tmp_path, line):
    shutil.copytree(ROOT / "cluster", tmp_path / "cluster")
    command = ["bash", "-c", "set -euo pipefail\nsource cluster/site_env.sh\nexit 0"]

    (tmp_path / "site.sh").write_text(f"{line}\n")
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (tmp_path / "site.sh").write_text("export VENV=env\n")
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert bad.returncode == 1
    assert bad.stderr.splitlines()[-1].startswith("site.sh has ended this script: ")
    assert (good.returncode, good.stderr) == (0, "")


def test_a_missing_site_file_is_not_an_error(tmp_path):
    shutil.copytree(ROOT / "cluster", tmp_path / "cluster")
    script = "set -euo pipefail\nsource cluster/site_env.sh\necho ${PYTHON-none}"
    env = {**os.environ, "PYTHON": "left by another program"}

    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "none\n", "")
