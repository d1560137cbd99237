"""Seconds per training step of this project, against Lightning and PyTorch by themselves.

python benchmarks/steps.py [rounds]

It measures the program of lesson 9. The images are random, so no data set is needed. Each row is
trained in a process of its own with one thread, all rows in turn; the table shows the median step,
the median of the rounds, and the ratio to the first row of the network. Run it on a machine that
does nothing else.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from types import SimpleNamespace

from lesson import exported
from machine import machine

# a row of the table: network, and who trains it
LOOP = "loop"
ROWS = [
    ("fully_connected", "Trainer alone"),
    ("fully_connected", "run.py"),
    ("resnet18", LOOP),
    ("resnet18", "run.py"),
    ("resnet18", "loop, not fused, contiguous"),
]
SIZE = 64  # images per step
DIMS = {"fully_connected": (1, 28, 28), "resnet18": (3, 32, 32)}
NUM_STEPS = {"fully_connected": 400, "resnet18": 30}  # per epoch; two epochs, the second counts


def make_data(arch):
    import torch

    from src.datasets.image_data_module import ImageDataModule

    class RandomImages(ImageDataModule):
        dims, classes = DIMS[arch], [str(digit) for digit in range(10)]
        mean, std = (0.5,) * dims[0], (0.5,) * dims[0]

        def prepare_data(self):
            pass

        def read(self, train):
            number = SIZE * NUM_STEPS[arch] * 10 // 9 if train else SIZE
            generator = torch.Generator().manual_seed(0)
            images = torch.randint(256, (number, *self.dims), generator=generator)
            labels = torch.randint(10, (number,), generator=generator)
            return images.to(torch.uint8), labels

    return RandomImages("none", batch_size=SIZE)


def note_steps(times):
    """Return a callback that notes when each step of the current epoch ends."""
    import lightning as L

    class Steps(L.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            times.clear()

        def on_train_batch_end(self, *_):
            times.append(time.perf_counter())

    return Steps()


def steps_of_run_py(arch, data, times, folder):
    """Train with all that run.py adds: metrics, logger, checkpoints, profiler and plots."""
    from src import main as program

    hparams = SimpleNamespace(
        arch=arch,
        network_args={},
        learning_rate=1e-3,
        optimizer="Adam",
        criterion="cross_entropy",
        weights="none",
        devices=1,
        num_nodes=1,
        sync_batchnorm=False,
        max_epochs=2,
        log_path=folder,
        experiment_name="steps",
        run_number=0,
        plots=True,
        checkpoint_min=5,
        max_requeues=0,
        debugging={},
    )
    program.run_folder(hparams).mkdir(parents=True)  # run.py makes it
    model = program.make_model(hparams, data)
    trainer = program.make_trainer(hparams, data.classes, "cpu", "32-true", 0)
    trainer.callbacks.append(note_steps(times))
    trainer.fit(model, datamodule=data)


def steps_of_trainer(arch, data, times, folder):
    """Train with Lightning alone: its own logger and checkpoints, no metrics, profiler or plots."""
    import lightning as L
    import torch

    from src.utils.registry import find

    class Bare(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = find("networks", arch)(data.dims, 10)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-3, fused=True)

        def training_step(self, batch, batch_idx):
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.network(images), labels)

    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        default_root_dir=folder,
        callbacks=[note_steps(times)],
        enable_progress_bar=False,
    )
    trainer.fit(Bare(), datamodule=data)


def steps_of_loop(arch, data, times, fast):
    """Train with PyTorch alone; fast: with a fused optimizer, and channels last in memory."""
    import torch
    import torchvision

    network = torchvision.models.get_model(arch, num_classes=10)
    if fast:
        network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=fast)
    data.setup("fit")
    for _ in range(2):
        times.clear()
        for images, labels in data.train_dataloader():
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            times.append(time.perf_counter())


def measure(arch, trained_by):
    import torch

    torch.manual_seed(0)
    data, times = make_data(arch), []
    with tempfile.TemporaryDirectory() as folder:
        if trained_by == "run.py":
            steps_of_run_py(arch, data, times, folder)
        elif trained_by == "Trainer alone":
            steps_of_trainer(arch, data, times, folder)
        else:
            steps_of_loop(arch, data, times, fast=trained_by == LOOP)
    warm = times[len(times) // 5 :]  # the first fifth warms up
    print(statistics.median(after - before for before, after in pairwise(warm)))


def seconds(arch, trained_by, lesson):
    command = [sys.executable, __file__, "--measure", arch, trained_by]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": lesson}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{arch}, {trained_by}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.splitlines()[-1])


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure(*sys.argv[2:])
    rounds = int(sys.argv[1]) if len(sys.argv) == 2 else 5
    with exported(9) as lesson:
        results = [[seconds(*row, lesson) for row in ROWS] for _ in range(rounds)]
    base = {}
    print(f"{'network':15}  {'trained by':26}  ms/step  images/s  ratio")
    for (arch, trained_by), found in zip(ROWS, zip(*results, strict=True), strict=True):
        value = statistics.median(found)
        ratio = value / base.setdefault(arch, value)
        row = f"{arch:15}  {trained_by:26}  {value * 1e3:7.2f}  {SIZE / value:8.0f}  {ratio:5.2f}"
        print(row)
    print(f"1 thread, {SIZE} images per step, median of {rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
