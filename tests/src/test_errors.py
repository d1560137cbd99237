"""src/utils/ending.py and the scripts' trap, without a cluster: make test-fast."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from clone import ROOT
from src.utils.done import write_done
from src.utils.ending import explain

COPIES = sorted(ROOT.glob("lessons/*/src/utils/ending.py"))
SCRIPTS = [ROOT / "run.sh", ROOT / "src/utils/job.sh", *ROOT.glob("lessons/*/run.sh")]
SCRIPTS += ROOT.glob("lessons/*/src/utils/job.sh")


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.parents[2].name)
def test_every_lesson_ends_alike(copy):
    assert copy.read_text() == (ROOT / "src/utils/ending.py").read_text()


class MisconfigurationException(Exception):
    """Named as Lightning's own."""


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device"), "or your quota is; what"),
        (OSError(28, "No space left on device", "/tmp/a.ckpt"), " free in /tmp);"),
        (OSError(28, "No space left on device", "/proc/a", None, "/tmp/b"), " free in /tmp);"),
        (ValueError("Expected more than 1 value per channel when training"), "needs two images"),
        (MisconfigurationException("0.1 * 3 < 1"), "Lightning refuses these settings"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:1] Read error"), "another process ended"),
        (RuntimeError("The client socket has timed out after 60000ms"), "not all processes came"),
    ],
)
def test_an_error_is_explained(error, sentence):
    assert sentence in explain(error)


@pytest.mark.parametrize("error", [KeyError("x"), FileNotFoundError("data/photos/igloo/1.png")])
def test_an_error_of_the_program_keeps_its_traceback(error):
    assert explain(error) is None


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_process_ends_even_if_its_log_is_on_a_full_disk(stream):
    program = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "print('said'); from src.utils.ending import leave; leave('a sentence', 143)"
    )
    command = [sys.executable, "-c", program]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    env = {**os.environ, "PYTHONUNBUFFERED": ""}  # so that leave is the first to find it full

    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, env=env, timeout=30, **{**pipes, stream: full})

    assert done.returncode == 143


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.parametrize(
    ("code", "name"), [(137, "SIGKILL"), (143, "SIGTERM"), (253, "SIGNAL 125"), (1, None)]
)
def test_a_script_names_the_signal_and_keeps_the_exit_code(script, code, name):
    text = script.read_text()
    trap = text[text.index("explain() {") : text.index("trap explain EXIT")] + "trap explain EXIT"

    done = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{trap}\n(exit {code})"], capture_output=True, text=True
    )

    assert done.returncode == code
    assert done.stderr.count("\n") == (1 if name else 0)
    assert name is None or f"A process was ended by {name}. " in done.stderr


def test_a_metric_that_is_no_number_leaves_no_file_of_success(tmp_path):
    trainer = SimpleNamespace(log_dir=str(tmp_path), is_global_zero=True, global_step=3)

    with pytest.raises(SystemExit, match="has diverged"):
        write_done(trainer, {"test_acc": 0.1, "test_loss": float("nan")})
    assert not list(tmp_path.iterdir())

    write_done(trainer, {"test_acc": 0.5})
    done = json.loads((tmp_path / "DONE.json").read_text())
    assert done == {"steps": 3, "test_acc": 0.5}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.parametrize("line", ["exit 0", "exit 3", "if [ x = ; then", "no_such_command"])
def test_a_site_file_that_ends_the_job_does_not_look_like_a_training(script, line, tmp_path):
    text = script.read_text()
    part = text[text.index("trap 'echo") : text.index("trap - EXIT")] + "trap - EXIT; exit 0"
    command = ["bash", "-c", f"set -euo pipefail\n{part}"]

    (tmp_path / "site.sh").write_text(f"{line}\n")
    bad = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    (tmp_path / "site.sh").write_text("export VENV=env\n")
    good = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert bad.returncode == 1
    assert bad.stderr.splitlines()[-1].startswith("site.sh has ended the job")
    assert (good.returncode, good.stderr) == (0, "")
