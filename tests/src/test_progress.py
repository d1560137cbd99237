"""The progress bar on a terminal, and none in a log: make test-fast."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from programs import LESSON_9

# three steps of 8 images, in an epoch that a terminal shows
TRAIN = """
import sys
import time
import lightning as L
import torch
from src.callbacks.progress import ProgressBar
from src.utils.library_messages import hide_library_messages

class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)
    def training_step(self, batch, batch_idx):
        time.sleep(0.2)  # longer than the bar waits between two drawings
        if batch_idx == 2 and "fail" in sys.argv:
            raise ValueError("boom")
        return self.layer(batch[0]).square().mean()
    def on_train_epoch_end(self):
        print("epoch finished")

hide_library_messages()
images = torch.utils.data.TensorDataset(torch.ones(24, 2), torch.ones(24))
L.Trainer(
    accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False,
    callbacks=[ProgressBar()] if sys.stdout.isatty() else [],
).fit(Module(), torch.utils.data.DataLoader(images, batch_size=8))
"""


def on_a_terminal(*arguments):
    """Run the program with a terminal as its output, and return what that receives."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, "-c", TRAIN, *arguments]
    with subprocess.Popen(command, cwd=LESSON_9, stdout=theirs, stderr=theirs):
        os.close(theirs)
        received = b""
        while True:
            try:
                received += os.read(ours, 4096)
            except OSError:  # the program has closed the terminal
                break
    os.close(ours)
    return received.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def shown():
    return on_a_terminal()


def test_a_terminal_shows_loss_and_images_per_second(shown):
    assert re.search(r"epoch  1/1 +\d+%\|.*loss \d+\.\d{4}, \d+ images/s", shown)


def test_the_bar_is_one_line_that_gives_way_to_the_line_of_the_epoch(shown):
    before, _, last = shown.rstrip("\n").rpartition("\r")

    assert "\n" not in before
    assert last == "epoch finished"


def test_an_error_begins_on_a_line_of_its_own():
    shown = on_a_terminal("fail")

    assert re.search(r"[\r\n]Traceback ", shown)


def test_a_log_has_no_bar():
    command = [sys.executable, "-c", TRAIN]

    done = subprocess.run(command, cwd=LESSON_9, capture_output=True, text=True)

    assert done.stdout == "epoch finished\n"
