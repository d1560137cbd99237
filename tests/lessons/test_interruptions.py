"""Ctrl-C and SIGTERM in trainings of lessons 2, 5 and 9, without Slurm: make test."""

import signal
import subprocess
import sys

import pytest

from clone import ARGUMENTS_LESSON
from processes import SHOW_STACKS, accept_signals, end_session, output_of

COMMANDS = {
    "2-lightning-module": ["-m", "src.main"],
    # without workers: Python drops a Ctrl-C that arrives while it forks one
    "5-improved-logging": ["run.py", "--local", "--max_epochs=500", "--num_workers=0"],
    ARGUMENTS_LESSON: [
        *("run.py", "--local", "--arch=fully_connected", "--max_epochs=500"),
    ],
}

pytestmark = pytest.mark.slow


def start(clone, branch):
    return subprocess.Popen(
        [sys.executable, *COMMANDS[branch]],
        cwd=clone.folder,
        env={**clone.env, **SHOW_STACKS, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=accept_signals,
    )


@pytest.fixture(params=COMMANDS)
def training(request, module_clone):
    """A long training in a separate process, after its first epoch."""
    branch = request.param
    module_clone.git("switch", "--quiet", branch)
    program = module_clone.folder / "src/main.py"
    program.write_text(program.read_text().replace("max_epochs=10,", "max_epochs=500,"))
    process = start(module_clone, branch)
    begun = []
    for line in process.stdout:
        begun.append(line)
        if "epoch  1/" in line:
            break
    yield process, "".join(begun)
    end_session(process)
    module_clone.git("checkout", "--quiet", ".")


@pytest.mark.parametrize(
    ("number", "codes", "word"),
    [
        (signal.SIGINT, [130], "interrupted"),
        # a process that dies of the signal has the exit code 143 in a shell
        (signal.SIGTERM, [143, -signal.SIGTERM], "ended by SIGTERM"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_an_interrupted_training_says_so(training, module_clone, number, codes, word):
    process, begun = training
    assert process.poll() is None, begun

    process.send_signal(number)
    ending, _ = output_of(process, 120)

    assert process.returncode in codes, ending
    assert word in ending.splitlines()[-1]
    assert ending.count(word) == 1
    assert "Traceback" not in ending
    assert "test loss" not in ending
    assert not list(module_clone.folder.glob("*logs/**/DONE.json"))


INTERRUPTED_WRITE = """
        if self.global_step == 5:
            file = self.logger.experiment.file_writer.event_writer
            not_empty = file._async_writer._byte_queue.not_empty  # of queue.Queue

            def interrupt():
                del not_empty.notify
                raise KeyboardInterrupt

            not_empty.notify = interrupt
"""


@pytest.mark.parametrize("branch", ["2-lightning-module", "5-improved-logging"])
def test_a_ctrl_c_within_a_write_of_tensorboard_ends_the_training(module_clone, branch):
    module_clone.git("switch", "--quiet", branch)
    program = module_clone.folder / "src/main.py"
    step = "    def training_step(self, batch, batch_idx):\n"
    program.write_text(program.read_text().replace(step, step + INTERRUPTED_WRITE))

    ending, _ = output_of(start(module_clone, branch), 100)  # the wait would be 120 s

    module_clone.git("checkout", "--quiet", ".")
    assert ending.splitlines()[-1] == "interrupted"
