"""What it costs to be ready for an interruption: the time of a ResNet-18 epoch with and without.

python benchmarks/interruption.py [rounds] [steps per epoch]

It measures the program of lesson 9. An epoch of the full CIFAR-10 has 703 steps; it ends with a
checkpoint. The images are random, so no data set is needed. Both variants train in turn, each in a
process of its own with one thread. Run it on a machine that does nothing else.
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

SIZE = 64  # images per step
VARIANTS = ("without", "with")
SETTINGS = {
    "arch": "resnet18",
    "network_args": {},
    "learning_rate": 1e-3,
    "optimizer": "Adam",
    "criterion": "cross_entropy",
    "weights": "none",
    "devices": 1,
    "num_nodes": 1,
    "sync_batchnorm": False,
    "max_epochs": 3,
    "experiment_name": "interruption",
    "run_number": 0,
    "checkpoint_min": 5,
    "max_requeues": 20,
    "plots": False,
    "debugging": {},
}


def make_data(num_steps):
    import torch

    from src.datasets.image_data_module import ImageDataModule

    class RandomImages(ImageDataModule):
        dims, classes = (3, 32, 32), [str(digit) for digit in range(10)]
        mean, std = (0.5,) * 3, (0.5,) * 3
        shift, mirror = 4, True

        def prepare_data(self):
            pass

        def read(self, train):
            number = SIZE * num_steps * 10 // 9 if train else SIZE
            images = torch.randint(256, (number, *self.dims), dtype=torch.uint8)
            return images, torch.randint(10, (number,))

    return RandomImages("none", batch_size=SIZE)


def measure(variant, num_steps):
    """Print the seconds of each epoch but the first, from its start to the start of the next."""
    import lightning as L
    import torch
    from lightning.pytorch.callbacks import ModelCheckpoint

    from src import main as program
    from src.utils import data_shares

    starts = []

    class Epochs(L.Callback):
        def on_train_epoch_start(self, *_):
            starts.append(time.perf_counter())

        def on_train_end(self, *_):
            starts.append(time.perf_counter())

    torch.manual_seed(0)
    data = make_data(int(num_steps))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        hparams = SimpleNamespace(**SETTINGS, log_path=folder)
        program.run_folder(hparams).mkdir(parents=True)
        if variant == "without":
            # what lesson 8 has: batches with the process's own random numbers, no last.ckpt
            data_shares.SeededBatches.__getitems__ = lambda self, indices: (
                self.dataset.__getitems__(indices)
            )
            program.resume_callbacks = lambda hparams, first_step: []
        model = program.make_model(hparams, data)
        trainer = program.make_trainer(hparams, data.classes, "cpu", "32-true", 0)
        # the best checkpoint belongs to both
        trainer.callbacks[:] = [
            callback for callback in trainer.callbacks if not isinstance(callback, ModelCheckpoint)
        ]
        trainer.callbacks.append(Epochs())
        trainer.fit(model, datamodule=data)
    print(*(after - before for before, after in pairwise(starts[1:])))


def epochs(variant, num_steps, lesson):
    command = [sys.executable, __file__, "--measure", variant, str(num_steps)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": lesson}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{variant}: {done.stderr.strip().splitlines()[-1]}")
    return [float(word) for word in done.stdout.splitlines()[-1].split()]


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure(*sys.argv[2:])
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    num_steps = int(sys.argv[2]) if len(sys.argv) > 2 else 703
    found = {variant: [] for variant in VARIANTS}
    with exported(9) as lesson:
        for _ in range(rounds):
            for variant in VARIANTS:
                found[variant] += epochs(variant, num_steps, lesson)
    medians = {variant: statistics.median(times) for variant, times in found.items()}
    for variant, times in found.items():
        print(
            f"{variant:8} {medians[variant]:7.2f} s per epoch ({min(times):.2f}-{max(times):.2f})"
        )
    print(f"ratio {medians['with'] / medians['without']:.3f}")
    print(f"1 thread, {num_steps} steps of {SIZE} images, {rounds} rounds; {machine()}")


if __name__ == "__main__":
    main()
